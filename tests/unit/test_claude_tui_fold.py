"""Claude in its terminal: what its hooks, its record and the terminal say, made into events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

import pytest

from relay_drivers.claude.tui import hooks, record
from relay_drivers.claude.tui.fold import Fold
from relay_drivers.claude.tui.state import State
from relay_drivers.claude.tui.writes import Way, Write, holds, print_of
from relay_runtime.events import (
    ErrorClass,
    FileChanged,
    HumanInput,
    HumanTyping,
    Idle,
    Outcome,
    PermissionRequested,
    PermissionResolved,
    Proven,
    Refused,
    SessionReady,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
    Usage,
)

if TYPE_CHECKING:
    from relay_runtime.events import Event

E = TypeVar("E")
RECORD = "/home/me/.claude/projects/-work/c1.jsonl"


class Player:
    """Feeds lines as Claude writes them, and keeps what comes of them."""

    def __init__(self) -> None:
        self.state = State("c1", 0, record=RECORD, ready=True, boundary=True, began=True)
        self.writes: list[Write] = []
        self.fold = Fold(self.state, lambda: self.writes)
        self.events: list[Event] = []

    def hook(self, event: str, **fields: object) -> int:
        return self.post({"hook_event_name": event, "session_id": "c1", **fields})

    def post(self, fields: dict[str, object]) -> int:
        line = json.dumps({"mode": "post", **fields}).encode()
        at = self.state.hooks
        self.events += self.fold.hook(hooks.read(line), at)
        self.state.hooks += len(line) + 1
        return at

    def typed(self, kind: str, at: float = 1.0) -> None:
        self.post({"holder": "input", "client": "pts/3", "kind": kind, "at": at})

    def line(self, kind: str, **fields: object) -> None:
        entry = {"type": kind, "isSidechain": False, "version": "2.1.330", **fields}
        line = json.dumps(entry, separators=(",", ":")).encode()
        self.events += self.fold.line(record.read(line))
        self.state.at += len(line) + 1

    def prompt(self, prompt: str, text: str, uuid: str = "u1") -> None:
        message = {"role": "user", "content": text}
        origin = {"kind": "human"}
        self.line("user", uuid=uuid, promptId=prompt, message=message, origin=origin)

    def say(self, text: str, message: str = "m1", **fields: object) -> None:
        self.answer([{"type": "text", "text": text}], message, **fields)

    def answer(self, content: list[object], message: str = "m1", **fields: object) -> None:
        usage = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 5}
        body = {"id": message, "model": "claude-opus", "content": content, "usage": usage}
        self.line("assistant", message=body, **fields)

    def done(self) -> None:
        self.line("system", subtype="turn_duration")

    def rest(self, *, surely: bool = False) -> None:
        self.events += self.fold.resting(surely=surely)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def kinds(self) -> list[type]:
        return [type(event) for event in self.events]


def write(text: str, write_id: str = "w1", path: str = RECORD) -> Write:
    return Write(write_id, print_of(text), Way.KEYS, 1, 0, path, 0, 0.0, "1.1")


@pytest.fixture
def player() -> Player:
    return Player()


# --- turns ----------------------------------------------------------------------------------------------


def test_a_turn_begins_with_its_hook_and_ends_with_its_record(player: Player) -> None:
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.prompt("p1", "hello")
    player.say("hi")
    player.hook("Stop", prompt_id="p1")
    player.rest()
    assert player.of(TurnEnded) == [] == player.of(Idle), "its record is not complete yet"
    player.done()
    player.rest()
    assert player.kinds() == [TurnStarted, Transcript, Transcript, TurnEnded, Idle]
    (ended,) = player.of(TurnEnded)
    assert (ended.turn_id, ended.outcome) == ("p1", Outcome.COMPLETED)
    assert ended.usage == Usage(100, 10, 5)


def test_a_turn_without_a_hook_begins_with_its_record(player: Player) -> None:
    player.prompt("p1", "queued by a person")
    player.say("hi")
    player.done()
    player.rest()
    assert player.kinds() == [TurnStarted, Transcript, Transcript, TurnEnded, Idle]


def test_a_shell_command_of_a_person_is_a_turn_once_the_model_speaks(player: Player) -> None:
    player.line("user", uuid="u", promptId="p1", message={"content": "<bash-input>ls</bash-input>"})
    assert player.events == []
    player.say("I see")
    player.done()
    assert player.kinds() == [TurnStarted, Transcript, TurnEnded]


def test_a_turn_that_is_over_is_not_opened_again(player: Player) -> None:
    player.prompt("p1", "hello")
    player.done()
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.say("late")
    assert len(player.of(TurnStarted)) == len(player.of(TurnEnded)) == 1


def test_the_next_turn_in_the_record_ends_the_one_before(player: Player) -> None:
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.prompt("p2", "second", "u2")
    assert [e.turn_id for e in player.of(TurnStarted)] == ["p1", "p2"]
    assert [e.turn_id for e in player.of(TurnEnded)] == ["p1"]


def test_what_leaves_no_trace_in_the_record_ends_when_the_terminal_has_rested(
    player: Player,
) -> None:
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.rest()
    assert player.of(TurnEnded) == []
    player.typed("interrupt")
    player.rest(surely=True)
    (ended,) = player.of(TurnEnded)
    assert ended.outcome is Outcome.INTERRUPTED
    assert player.kinds()[-1] is Idle


def test_an_interrupt_in_the_record_ends_the_turn_and_its_tools(player: Player) -> None:
    player.prompt("p1", "hello")
    player.answer([{"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}])
    content = [{"type": "text", "text": "[Request interrupted by user for tool use]"}]
    player.line("user", promptId="p1", message={"content": content})
    assert player.kinds()[-2:] == [ToolEnded, TurnEnded]
    assert player.of(TurnEnded)[0].outcome is Outcome.INTERRUPTED


def test_input_in_claudes_own_queue_is_no_boundary(player: Player) -> None:
    player.prompt("p1", "hello")
    player.line("queue-operation", operation="enqueue", content="next")
    player.done()
    player.rest()
    assert player.of(Idle) == []
    player.line("queue-operation", operation="dequeue")
    player.prompt("p2", "next", "u2")
    player.done()
    player.rest()
    assert len(player.of(Idle)) == 1


def test_a_message_that_stands_behind_its_answer_in_the_record_is_proven(player: Player) -> None:
    player.writes = [write("do it")]
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.say("done it")
    player.done()
    assert player.of(Proven) == []
    player.prompt("p1", "do it", "u1")
    (proven,) = player.of(Proven)
    assert proven.evidence.reference == "u1"
    player.prompt("p2", "do it", "u2")
    assert player.of(Proven) == [proven], "nothing has followed it"


def test_tokens_are_those_of_each_message_of_the_turn_once(player: Player) -> None:
    player.prompt("p1", "hello")
    player.say("one", "m1")
    player.say("two", "m1")
    player.say("three", "m2")
    player.done()
    assert player.of(TurnEnded)[0].usage == Usage(200, 20, 10)


@pytest.mark.parametrize(
    ("error", "status", "wanted"),
    [
        ("authentication_failed", 401, ErrorClass.AUTH),
        ("rate_limit", 429, ErrorClass.RATE_LIMIT),
        ("server_error", 500, ErrorClass.OVERLOADED),
        ("unknown", 400, ErrorClass.OTHER),
    ],
)
def test_an_error_of_the_endpoint_fails_the_turn(
    player: Player, error: str, status: int, wanted: ErrorClass
) -> None:
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.prompt("p1", "hello")
    player.say("API Error", isApiErrorMessage=True, error=error, apiErrorStatus=status)
    player.hook("StopFailure", prompt_id="p1")
    player.rest()
    (ended,) = player.of(TurnEnded)
    assert ended.outcome is Outcome.FAILED and ended.error is not None
    assert (ended.error.error, ended.error.status) == (wanted, status)
    assert [e.role for e in player.of(Transcript)] == ["user"]
    assert player.kinds()[-1] is Idle


def test_tools_and_the_files_they_change_are_told(player: Player) -> None:
    player.prompt("p1", "hello")
    tool = {"type": "tool_use", "id": "t1", "name": "Write", "input": {"file_path": "/a"}}
    player.answer([tool])
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "done"}
    player.line(
        "user", promptId="p1", message={"content": [result]}, toolUseResult={"type": "create"}
    )
    (started,), (ended,), (changed,) = (
        player.of(ToolStarted),
        player.of(ToolEnded),
        player.of(FileChanged),
    )
    assert (started.name, ended.ok, ended.output) == ("Write", True, "done")
    assert (changed.path, changed.change, changed.turn_id) == ("/a", "created", "p1")


def test_a_cleared_conversation_is_a_new_one(player: Player) -> None:
    player.state.at = 500
    player.hook("SessionStart", source="clear", session_id="c2", transcript_path="/r/c2.jsonl")
    assert player.of(SessionReady) == [SessionReady("c2", None, None)]
    assert (player.state.record, player.state.at) == ("/r/c2.jsonl", 0)


def test_a_conversation_that_goes_on_is_not_told_again(player: Player) -> None:
    player.state.at = 500
    player.hook("SessionStart", source="resume", transcript_path="/elsewhere/c1.jsonl")
    assert (player.state.record, player.state.at) == ("/elsewhere/c1.jsonl", 500)
    assert player.events == []


# --- proof ----------------------------------------------------------------------------------------------


def test_a_write_is_proven_by_the_line_that_has_its_text(player: Player) -> None:
    player.writes = [write("[relay msg 1 from x]\n\tdo it  \n[end of relay msg 1]")]
    player.prompt("p1", "something else")
    assert player.of(Proven) == []
    player.prompt("p2", "[relay msg 1 from x]\n    do it\n[end of relay msg 1]", "u2")
    assert player.of(Proven) == [], "an interrupt would take it out again"
    player.say("hi")
    (proven,) = player.of(Proven)
    assert (proven.evidence.reference, proven.evidence.turn_id) == ("u2", "p2")


@pytest.mark.parametrize(
    "said",
    [
        '\n\n<pasted_content id="c5ff">\n{}\n</pasted_content id="c5ff">\n',
        "<task-notification>\n<summary>s</summary>\n</task-notification>\nMessage: {}\n",
        "before {} after",
    ],
)
def test_what_claude_puts_around_a_text_does_not_hide_it(player: Player, said: str) -> None:
    text = "[relay msg 1 from x]\nä 字 {}\n[end of relay msg 1]".replace("{}", "{ }")
    player.writes = [write(text)]
    player.prompt("p1", said.replace("{}", text))
    player.done()
    assert len(player.of(Proven)) == 1


def test_a_message_that_enters_a_running_turn_is_proven_by_its_line(player: Player) -> None:
    player.prompt("p1", "hello")
    player.writes = [write("steer")]
    queued = {"type": "queued_command", "prompt": "steer", "origin": {"kind": "human"}}
    player.line("attachment", uuid="a1", attachment=queued)
    (proven,) = player.of(Proven)
    assert (proven.evidence.reference, proven.evidence.turn_id) == ("a1", "p1")


def test_a_write_that_an_interrupt_took_back_is_not_proven(player: Player) -> None:
    player.writes = [write("do it")]
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.prompt("p1", "do it")
    player.typed("interrupt")
    player.rest(surely=True)
    player.prompt("p2", "something else", "u2")
    player.say("hi")
    player.done()
    assert player.of(Proven) == []


@pytest.mark.parametrize("follows", ["interrupted", "failed", "tool"])
def test_a_write_is_proven_by_whatever_follows_in_its_turn(player: Player, follows: str) -> None:
    player.writes = [write("do it")]
    player.prompt("p1", "do it")
    if follows == "interrupted":
        player.line("user", promptId="p1", message={"content": "[Request interrupted by user]"})
    elif follows == "failed":
        player.say("API Error", isApiErrorMessage=True, error="rate_limit", apiErrorStatus=429)
    else:
        player.answer([{"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}])
    assert [e.evidence.reference for e in player.of(Proven)] == ["u1"]


def test_waiting_in_claudes_queue_or_in_another_conversation_proves_nothing(
    player: Player,
) -> None:
    player.writes = [write("text", path="/another.jsonl")]
    player.line("queue-operation", operation="enqueue", content="text")
    player.prompt("p1", "text")
    assert player.of(Proven) == []


def test_a_text_is_found_only_whole() -> None:
    text = print_of("aab")
    assert holds("a aab", text) and holds("aa\u00a0b", text)
    assert not holds("aaab"[:3], text) and not holds("", text) and not holds("x", print_of(" "))


def test_a_message_that_a_users_hook_blocks_is_refused_for_good(player: Player) -> None:
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.writes = [write("do it")]
    said = "UserPromptSubmit operation blocked by hook: no\n\nOriginal prompt: do it"
    player.line("system", subtype="informational", content=said)
    (refused,) = player.of(Refused)
    assert (refused.write_id, refused.retry) == ("w1", False)
    assert player.kinds()[-1] is TurnEnded


# --- permissions ----------------------------------------------------------------------------------------

CALL = {"tool_name": "Bash", "tool_input": {"command": "rm x"}}


def test_a_request_is_open_until_the_tool_ran(player: Player) -> None:
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.hook("PreToolUse", tool_use_id="t1", **CALL)
    at = player.hook("PermissionRequest", **CALL)
    (asked,) = player.of(PermissionRequested)
    assert (asked.tool, json.loads(asked.detail)) == ("Bash", {"command": "rm x"})
    player.rest(surely=True)
    assert player.of(Idle) == [], "a dialogue is open"
    player.hook("PostToolUse", tool_use_id="t1", **CALL)
    assert player.of(PermissionResolved) == [PermissionResolved(asked.request_id, "allow")]
    assert player.fold.let_go == [at], "the hook needs no answer any more"
    assert player.state.running == {}


def test_a_request_that_we_answered_is_resolved_once(player: Player) -> None:
    player.hook("PermissionRequest", **CALL)
    (asked,) = player.of(PermissionRequested)
    player.events += player.fold.answered(asked.request_id, False)
    player.hook("PostToolUse", tool_use_id="t1", **CALL)
    assert player.of(PermissionResolved) == [PermissionResolved(asked.request_id, "deny")]
    assert player.fold.let_go == []


def test_an_interrupt_denies_what_is_asked(player: Player) -> None:
    player.prompt("p1", "hello")
    player.hook("PermissionRequest", **CALL)
    player.line("user", promptId="p1", message={"content": "[Request interrupted by user]"})
    assert [e.decision for e in player.of(PermissionResolved)] == ["deny"]


def test_requests_for_different_calls_are_resolved_each_by_its_own(player: Player) -> None:
    player.hook("PermissionRequest", **CALL)
    player.hook("PermissionRequest", tool_name="Bash", tool_input={"command": "other"})
    first, second = player.of(PermissionRequested)
    player.hook("PostToolUse", tool_name="Bash", tool_input={"command": "other"})
    assert [e.request_id for e in player.of(PermissionResolved)] == [second.request_id]
    assert list(player.state.asks) == [first.request_id]


# --- people ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "paste", "key"])
def test_typing_is_a_draft_until_it_is_sent(player: Player, kind: str) -> None:
    player.typed(kind)
    player.typed(kind)
    player.typed("submit")
    assert player.kinds() == [HumanInput, HumanTyping, HumanInput, HumanInput, HumanTyping]
    assert [e.active for e in player.of(HumanTyping)] == [True, False]
    assert {e.client for e in player.of(HumanInput)} == {"pts/3"}


def test_no_word_of_what_was_typed_is_told(player: Player) -> None:
    player.typed("text")
    assert player.of(HumanInput) == [HumanInput("pts/3", "text")]


# --- after a crash --------------------------------------------------------------------------------------


def test_a_state_that_was_saved_goes_on_where_it_was(player: Player) -> None:
    player.hook("UserPromptSubmit", prompt_id="p1")
    player.prompt("p1", "hello")
    player.hook("PermissionRequest", **CALL)
    again = Player()
    again.state = State.from_json(json.loads(json.dumps(player.state.to_json())))
    again.fold = Fold(again.state, list)
    assert again.state == player.state
    again.say("hi")
    again.done()
    assert [type(e) for e in again.events] == [Transcript, PermissionResolved, TurnEnded]


@pytest.mark.parametrize("saved", [None, {}, {"format": "tui-0", "state": {}}, []])
def test_a_checkpoint_of_another_driver_is_refused(saved: object) -> None:
    with pytest.raises(ValueError, match="unknown format"):
        State.from_json(json.loads(json.dumps(saved)))


@pytest.mark.parametrize(
    "line",
    [b"", b"no json", b"[]", b"{}", b'{"hook_event_name":"Tomorrow"}', b'{"holder":"later"}'],
)
def test_lines_that_are_not_known_say_nothing(line: bytes) -> None:
    assert hooks.read(line) is None and record.read(line) is None
