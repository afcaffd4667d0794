"""The scripted model: which step a request gets, and how each API's request is read."""

from __future__ import annotations

import json

import pytest

from relay_runtime.testing.model_server.anthropic import Anthropic
from relay_runtime.testing.model_server.chat import Chat
from relay_runtime.testing.model_server.conversation import Body, Turn
from relay_runtime.testing.model_server.dialect import Answer, Dialect, ToolCall, tool_calls
from relay_runtime.testing.model_server.responses import Responses
from relay_runtime.testing.model_server.script import (
    Call,
    FileWrite,
    ScriptError,
    Step,
    inline,
    pick,
    step,
    steps,
)

ANTHROPIC: Body = {
    "model": "m",
    "stream": True,
    "tools": [{"name": "Bash"}],
    "system": [{"type": "text", "text": "prompt"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "reminder"}]},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": [{"type": "tool_use"}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "content": "secret result"},
                {"type": "text", "text": "beside the result"},
            ],
        },
        {"role": "system", "content": "sent midway"},
    ],
}
RESPONSES: Body = {
    "model": "m",
    "tools": [{"type": "function", "name": "exec_command"}, {"type": "web_search"}],
    "input": [
        {"type": "message", "role": "developer", "content": [{"text": "p", "type": "input_text"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "first"}]},
        {"type": "reasoning"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
        {"type": "function_call", "call_id": "1"},
        {"type": "custom_tool_call", "call_id": "2"},
        {"type": "function_call_output", "call_id": "1", "output": "secret result"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": "secret result"},
        {"role": "developer", "content": [{"type": "input_text", "text": "sent midway"}]},
    ],
}
CHAT: Body = {
    "model": "m",
    "tools": [{"type": "function", "function": {"name": "bash"}}],
    "messages": [
        {"role": "system", "content": "prompt"},
        {"role": "user", "content": [{"type": "text", "text": "first"}]},
        {"role": "assistant", "content": "", "tool_calls": []},
        {"role": "tool", "content": "secret result"},
        {"role": "user", "content": "sent midway"},
    ],
}


def test_texts_are_what_people_said_without_prompts_answers_and_tool_results() -> None:
    assert Anthropic().read(ANTHROPIC, {}).texts == (
        "reminder",
        "first",
        "beside the result",
        "sent midway",
    )
    assert Responses().read(RESPONSES, {}).texts == ("first", "sent midway")
    assert Chat().read(CHAT, {}).texts == ("first", "sent midway")


def test_an_answer_of_several_parts_counts_once() -> None:
    for dialect, body in ((Anthropic(), ANTHROPIC), (Responses(), RESPONSES), (Chat(), CHAT)):
        turns = dialect.read(body, {}).turns
        assert [turn.kind for turn in turns].count("answer") == 1, dialect.name


def test_requests_for_titles_are_not_part_of_the_conversation() -> None:
    title = {"role": "system", "content": "You are a title generator."}
    assert not Anthropic().read({**ANTHROPIC, "tools": []}, {}).main
    assert not Chat().read({**CHAT, "tools": None}, {}).main
    assert not Chat().read({**CHAT, "messages": [title]}, {}).main
    ask = "Generate a concise, single-line task title for this"
    assert not Responses().read({**RESPONSES, "input": ask}, {}).main
    for dialect, body in ((Anthropic(), ANTHROPIC), (Responses(), RESPONSES), (Chat(), CHAT)):
        assert dialect.read(body, {}).main


@pytest.mark.parametrize("dialect", [Anthropic(), Responses(), Chat()])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None, "input": 3, "tools": {}},
        {"messages": [1, None, {}], "input": [[], {"type": 5, "content": [None]}]},
        {"messages": [{"role": "user", "content": {"a": 1}}], "tools": ["x", {"function": 1}]},
    ],
)
def test_a_request_of_any_shape_is_read(dialect: Dialect, body: Body) -> None:
    assert dialect.read(body, {}).texts == ()


def test_each_cli_names_its_conversation_in_a_header() -> None:
    assert Anthropic().read({}, {"x-claude-code-session-id": "a"}).conversation == "a"
    assert Responses().read({}, {"thread-id": "b"}).conversation == "b"
    assert Chat().read({}, {"x-session-id": "c"}).conversation == "c"


def test_the_newest_script_in_the_conversation_counts_with_the_answers_since() -> None:
    old = Turn("text", 'SCRIPT:[{"text":"old"}]:END')
    new = Turn("text", '[relay msg 7]\nSCRIPT:[{"text":"a"},\n"b"]:END\n[end]')
    turns = [old, Turn("answer"), new, Turn("answer"), Turn("result"), Turn("text", "injected")]
    found = inline(turns)
    assert found is not None
    script, answers, _ = found
    assert (script, answers) == ((Step(text="a"), Step(text="b")), 1)
    assert pick(script, answers, 0) == Step(text="b")
    assert inline([Turn("text", "nothing")]) is None


def test_what_is_no_answer_repeats_and_then_gives_way() -> None:
    script = steps([{"status": 500, "times": 2}, "a", {"hang": "start"}, "b"])
    refused, first, hung, second = script
    assert [pick(script, 0, failed) for failed in range(3)] == [refused, refused, first]
    assert [pick(script, 1, failed) for failed in range(2)] == [hung, second]
    assert pick(script, 2, 0) is None
    assert pick(script, 3, 0) is None
    assert pick((refused,), 0, 2) is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"txt": 1}, "txt"),
        ({"status": 200}, "status"),
        ({"delay": 1e9}, "delay"),
        ({"hang": "x"}, "hang"),
        ({"calls": [{"shell": "a", "tool": "b"}]}, "calls.0"),
    ],
)
def test_a_wrong_step_is_refused_with_the_key(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ScriptError, match=named):
        step(wrong)


@pytest.mark.parametrize("wrong", [{}, "text", [1], None])
def test_what_is_no_list_of_steps_is_refused(wrong: object) -> None:
    with pytest.raises(ScriptError):
        steps(wrong)
    with pytest.raises(ScriptError, match="JSON"):
        inline([Turn("text", "SCRIPT:[{]:END")])


def test_a_command_is_called_through_the_shell_of_the_cli_that_asks() -> None:
    call = [Call(shell="ls")]
    assert tool_calls(call, frozenset({"Bash"}))[0].args == {
        "command": "ls",
        "description": "Scripted command",
    }
    codex = tool_calls(call, frozenset({"exec_command", "apply_patch"}))[0]
    assert codex == ToolCall("exec_command", {"cmd": "ls", "yield_time_ms": 30_000})
    assert tool_calls(call, frozenset({"bash", "edit"}))[0].name == "bash"


def test_a_file_is_written_through_the_tool_of_the_cli_that_asks() -> None:
    call = [Call(write=FileWrite(path="/w/a", content="x\ny"))]
    assert tool_calls(call, frozenset({"Write"}))[0].args == {
        "file_path": "/w/a",
        "content": "x\ny",
    }
    assert tool_calls(call, frozenset({"write"}))[0].args == {"filePath": "/w/a", "content": "x\ny"}
    patch = "*** Begin Patch\n*** Add File: /w/a\n+x\n+y\n*** End Patch"
    assert tool_calls(call, frozenset({"apply_patch"})) == (ToolCall("apply_patch", patch),)
    assert tool_calls(call, frozenset({"exec_command"}))[0].name == "exec_command"


@pytest.mark.parametrize("dialect", [Anthropic(), Responses(), Chat()])
def test_what_comes_before_a_cut_is_no_whole_answer(dialect: Dialect) -> None:
    said = Step(chunks=("one ", "two"), shell="ls")
    calls = tool_calls(said.all_calls, frozenset({"Bash"}))
    reply = dialect.stream(Answer(1, "m", said, calls))
    begun = b"".join(frame.data for frame in reply.opening)
    rest = b"".join(frame.data for frame in reply.closing)
    assert [frame.delta for frame in reply.opening].count(True) == 2
    assert b"two" in begun
    assert b"Scripted command" in rest
    for end in (b"message_stop", b"response.completed", b"[DONE]"):
        assert end not in begun


def test_every_event_is_one_json_object_a_line() -> None:
    text = 'a\nb "c" \u2028 😀'
    reply = Chat().stream(Answer(1, "m", Step(text=text), ()))
    for frame in (*reply.opening, *reply.closing[:-1]):
        assert frame.data.startswith(b"data: ")
        assert frame.data.endswith(b"\n\n")
        assert frame.data.count(b"\n") == 2
        json.loads(frame.data[6:])
