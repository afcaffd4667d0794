"""Turns, tools, permissions and errors, from recordings of the real Claude Code and from traps."""

from __future__ import annotations

import json

import pytest
from tests.unit.claude_player import (
    BOTH,
    NEW,
    NOW,
    RECORDINGS,
    Player,
    lines_of,
    play,
    uuid,
)

from relay_drivers.claude import commands
from relay_drivers.claude.checkpoint import Checkpoint
from relay_drivers.claude.faults import error_class
from relay_runtime.events import (
    ErrorClass,
    ErrorCleared,
    FileChanged,
    HarnessError,
    Idle,
    Outcome,
    PermissionRequested,
    PermissionResolved,
    SessionReady,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
)

# --- turns ----------------------------------------------------------------------------------------------


@BOTH
def test_a_session_is_ready_and_idle_when_initialize_is_answered(version: str) -> None:
    player = play(version, "turn")
    ready, idle = player.events[:2]
    assert isinstance(ready, SessionReady) and isinstance(idle, Idle)
    assert ready.version == version and ready.model is not None
    assert ready.model.startswith("claude-opus")


@BOTH
def test_turns_alternate_with_idle_and_have_ids_usage_and_their_own_cost(version: str) -> None:
    player = play(version, "turn")
    frame = [e for e in player.events if isinstance(e, TurnStarted | TurnEnded | Idle)]
    assert [type(e) for e in frame] == [Idle, *[TurnStarted, TurnEnded, Idle] * 2]
    started, ended = player.of(TurnStarted), player.of(TurnEnded)
    assert [e.turn_id for e in started] == [e.turn_id for e in ended]
    assert started[0].turn_id != started[1].turn_id
    assert {e.usage.input_tokens for e in ended} == {100}
    costs = [e.cost_usd for e in ended]
    assert costs[0] is not None and costs == pytest.approx([costs[0], costs[0]])


@BOTH
def test_an_interrupted_turn_ends_as_interrupted_without_an_error(version: str) -> None:
    player = play(version, "interrupt")
    (ended,) = player.of(TurnEnded)
    assert ended.outcome is Outcome.INTERRUPTED and ended.error is None
    assert isinstance(player.events[-1], Idle)


@BOTH
def test_a_turn_that_claude_starts_by_itself_is_a_turn(version: str) -> None:
    player = play(version, "background")
    frame = [e for e in player.events if isinstance(e, TurnStarted | TurnEnded | Idle)]
    assert [type(e) for e in frame] == [Idle, *[TurnStarted, TurnEnded, Idle] * 2]
    assert [e.text for e in player.of(Transcript)] == ["bg", "launched", "noticed"]


def test_a_turn_is_over_while_subagents_still_work_in_the_background() -> None:
    player = play(NEW, "agent")
    frame = [e for e in player.events if isinstance(e, TurnStarted | TurnEnded | Idle)]
    assert [type(e) for e in frame] == [Idle, *[TurnStarted, TurnEnded, Idle] * 2]


def test_a_boundary_with_subagents_waits_for_the_messages_that_claude_still_holds() -> None:
    player = Player()
    player.say(type="system", subtype="session_state_changed", state="running", uuid="t1")
    tasks = [{"task_id": "a", "task_type": "local_agent"}]
    player.say(type="system", subtype="background_tasks_changed", tasks=tasks)
    player.say(type="command_lifecycle", command_uuid=uuid(1), state="queued", uuid="l")
    player.say(type="result", subtype="success", is_error=False, uuid="r")
    assert not player.of(Idle)
    player.say(type="command_lifecycle", command_uuid=uuid(1), state="started", uuid="t2")
    player.say(type="result", subtype="success", is_error=False, uuid="r")
    assert [e.turn_id for e in player.of(TurnStarted)] == ["t1", "t2"]
    assert len(player.of(Idle)) == 1


@BOTH
def test_what_a_subagent_does_is_shown_but_what_it_says_is_not(version: str) -> None:
    player = play(version, "agent")
    assert [e.path for e in player.of(FileChanged)] in ([], ["/home/me/work/sub.txt"])
    ids = {e.turn_id for e in player.of(TurnStarted)}
    assert {e.turn_id for e in player.of(Transcript)} <= ids
    assert "C" not in [e.text for e in player.of(Transcript) if version == NEW]


def test_idle_without_a_result_ends_the_turn() -> None:
    player = Player()
    player.say(type="system", subtype="session_state_changed", state="running", uuid="t1")
    player.say(type="system", subtype="session_state_changed", state="idle", uuid="i")
    assert player.events == [
        TurnStarted("t1"),
        TurnEnded("t1", Outcome.COMPLETED),
        Idle(),
    ]


def test_a_repeated_idle_is_said_once() -> None:
    player = Player()
    for _ in range(3):
        player.say(type="system", subtype="session_state_changed", state="idle", uuid="i")
    assert player.events == [Idle()]


def test_a_permission_of_a_background_agent_opens_no_turn() -> None:
    player = Player()
    for state in ("running", "requires_action", "running"):
        player.say(type="system", subtype="session_state_changed", state=state, uuid=state)
    player.say(type="result", subtype="success", is_error=False, uuid="r")
    for state in ("requires_action", "running"):
        player.say(type="system", subtype="session_state_changed", state=state, uuid=state)
    assert len(player.of(TurnStarted)) == 1


def test_the_result_of_a_start_that_failed_is_no_turn() -> None:
    player = Player()
    player.say(type="result", subtype="error_during_execution", is_error=True, errors=["No …"])
    assert player.events == []


# --- tools, files, permissions --------------------------------------------------------------------------


@BOTH
def test_tools_and_the_files_they_change_are_told(version: str) -> None:
    player = play(version, "steer")
    started, ended = player.of(ToolStarted), player.of(ToolEnded)
    assert [e.name for e in started] == ["Write", "Bash", "Edit", "Edit"]
    assert [e.tool_id for e in started] == [e.tool_id for e in ended]
    assert [e.ok for e in ended] == [True, True, True, False]
    assert json.loads(started[1].input)["command"] == "sleep 1; echo done"
    changes = [(e.path, e.change) for e in player.of(FileChanged)]
    assert changes == [("/home/me/work/a.txt", "created"), ("/home/me/work/a.txt", "modified")]


@BOTH
def test_permission_requests_are_answered_or_withdrawn(version: str) -> None:
    player = play(version, "permission")
    asked, resolved = player.of(PermissionRequested), player.of(PermissionResolved)
    assert [e.tool for e in asked] == ["Write"] * 3
    assert json.loads(asked[0].detail)["file_path"] == "/home/me/work/p1.txt"
    assert [e.request_id for e in asked] == [e.request_id for e in resolved]
    assert [e.decision for e in resolved] == ["allow", "deny", "withdrawn"]
    assert player.protocol.state.requests == {}


@BOTH
def test_a_request_that_was_open_at_a_crash_can_still_be_answered(version: str) -> None:
    player = Player()
    for line in lines_of(RECORDINGS / version / "permission.jsonl"):
        player.line(line)
        if player.of(PermissionRequested):
            break
    saved = Checkpoint(0, 0, player.protocol.state).to_json()
    again = Checkpoint.from_json(json.loads(json.dumps(saved))).state
    (asked,) = player.of(PermissionRequested)
    tool_use_id = again.requests[asked.request_id]
    sent = json.loads(commands.answer(asked.request_id, tool_use_id, True, None))
    assert sent["response"]["response"]["toolUseID"] == tool_use_id != ""


def test_a_request_that_nobody_can_answer_is_declined_at_once() -> None:
    player = Player()
    request = {"subtype": "elicitation", "message": "?"}
    player.say(type="control_request", request_id="r1", request=request)
    assert player.events == []
    (sent,) = player.protocol.outbox
    assert json.loads(sent)["response"]["subtype"] == "error"


# --- errors ---------------------------------------------------------------------------------------------


@BOTH
def test_an_api_error_is_a_success_result_that_failed(version: str) -> None:
    ended = play(version, "errors").of(TurnEnded)
    assert [e.outcome for e in ended] == [
        Outcome.FAILED,
        Outcome.COMPLETED,
        Outcome.FAILED,
        Outcome.FAILED,
        Outcome.COMPLETED,
    ]
    errors = [e.error for e in ended if e.error is not None]
    assert [(e.error, e.status) for e in errors] == [
        (ErrorClass.AUTH, 401),
        (ErrorClass.RATE_LIMIT, 429),
        (ErrorClass.OVERLOADED, 529),
    ]
    assert "401" in errors[0].message


@BOTH
def test_retries_say_when_and_clear_when_they_got_through(version: str) -> None:
    player = play(version, "errors")
    retries = [e.error for e in player.of(HarnessError)]
    assert all(e.retrying for e in retries)
    assert [e.error for e in retries] == [
        ErrorClass.AUTH,
        ErrorClass.RATE_LIMIT,
        ErrorClass.RATE_LIMIT,
        ErrorClass.OVERLOADED,
    ]
    assert retries[1].retry_at is not None
    assert NOW + 0.9 < retries[1].retry_at < NOW + 2
    assert len(player.of(ErrorCleared)) == 1
    texts = [e.text for e in player.of(Transcript) if e.role == "assistant"]
    assert texts == ["through", "fine"], "what Claude writes about errors is not the model's text"


@pytest.mark.parametrize(
    ("name", "status", "text", "retried", "expected"),
    [
        (
            "authentication_failed",
            None,
            "Not logged in · Please run /login",
            False,
            ErrorClass.AUTH,
        ),
        ("", None, "Not logged in · Please run /login", False, ErrorClass.AUTH),
        ("billing_error", None, "", False, ErrorClass.AUTH),
        (None, 403, "", False, ErrorClass.AUTH),
        ("unknown", 429, "", False, ErrorClass.RATE_LIMIT),
        ("server_error", None, "Connection refused", False, ErrorClass.OVERLOADED),
        ("unknown", None, "", True, ErrorClass.OVERLOADED),
        ("unknown", 400, "", False, ErrorClass.OTHER),
        ("unknown", 400, "", True, ErrorClass.OTHER),
        ("max_output_tokens", None, "", False, ErrorClass.OTHER),
        (None, 500, "", False, ErrorClass.OVERLOADED),
    ],
)
def test_errors_are_classed_by_what_can_be_done(
    name: str | None, status: int | None, text: str, retried: bool, expected: ErrorClass
) -> None:
    assert error_class(name, status, text, retried=retried) is expected


def test_a_usage_limit_carries_its_reset_time() -> None:
    player = Player()
    player.say(type="system", subtype="session_state_changed", state="running", uuid="t1")
    info = {"status": "rejected", "resetsAt": 1_800_000_000}
    player.say(type="rate_limit_event", rate_limit_info=info)
    message = {"model": "<synthetic>", "content": [{"type": "text", "text": "limit"}]}
    player.say(type="assistant", uuid="a", error="rate_limit", message=message)
    player.say(type="result", subtype="success", is_error=True, result="limit", uuid="r")
    (ended,) = player.of(TurnEnded)
    assert ended.error is not None
    assert (ended.error.error, ended.error.retry_at) == (ErrorClass.RATE_LIMIT, 1_800_000_000)
