"""Turns, tools, proofs and gaps, from recordings of the real `codex app-server`."""

from __future__ import annotations

import pytest
from tests.unit.codex_player import NAMES, Player, read, tools

from relay_drivers.codex.approvals import ask
from relay_drivers.codex.protocol import MAX_TOLD_ITEMS, Thread
from relay_drivers.codex.read import Obj, sub, text
from relay_runtime.contract import Entry
from relay_runtime.events import (
    ErrorClass,
    ErrorCleared,
    Event,
    FileChanged,
    HarnessError,
    HumanTyping,
    Idle,
    Outcome,
    PermissionRequested,
    PermissionResolved,
    Proven,
    Refused,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
    Usage,
)

#: Said by our side of the connection or not in the history: a gap may swallow these.
PASSING = (Idle, HarnessError, ErrorCleared, PermissionRequested, PermissionResolved, HumanTyping)


def outcomes(player: Player) -> list[Outcome]:
    return [event.outcome for event in player.of(TurnEnded)]


def test_a_turn_with_tools_is_told_from_its_start_to_its_end() -> None:
    player = Player("tool_turn").play()
    kinds = [type(event) for event in player.events]
    first, second = player.of(TurnStarted)
    assert kinds[:2] == [TurnStarted, Proven]
    assert kinds.count(Idle) == 2 and kinds[-2:] == [TurnEnded, Idle]
    assert outcomes(player) == [Outcome.COMPLETED] * 2
    assert sorted(tools(player)) == [("apply_patch", True), ("shell", False), ("shell", True)]
    texts = [event.text for event in player.of(Transcript)]
    assert texts == ["let me see", "all done", "ok"]
    (change,) = player.of(FileChanged)
    assert change == FileChanged("/home/user/work/written.txt", "created", first.turn_id)
    assert {event.output for event in player.of(ToolEnded)} == {"one\n", "", "completed"}
    assert first.turn_id != second.turn_id


def test_usage_of_a_turn_is_what_all_of_its_requests_used() -> None:
    first, second = Player("tool_turn").play().of(TurnEnded)
    assert first.usage == Usage(300, 30, 0)
    assert second.usage == Usage(100, 10, 0)


def test_a_turn_that_got_no_answer_used_nothing() -> None:
    # Codex repeats the last answer's usage when a turn fails.
    player = Player("tool_turn").play()
    total = {"inputTokens": 400, "outputTokens": 40, "cachedInputTokens": 0}
    last = {"inputTokens": 100, "outputTokens": 10, "cachedInputTokens": 0}
    thread = player.thread
    started: Obj = {"threadId": thread.conversation, "turn": {"id": "t9"}}
    thread.observe("turn/started", started, 0)
    usage: Obj = {"threadId": thread.conversation, "tokenUsage": {"total": total, "last": last}}
    thread.observe("thread/tokenUsage/updated", usage, 0)
    ended: Obj = {**started, "turn": {"id": "t9", "status": "failed", "error": {"message": "no"}}}
    (end,) = [e for e in thread.observe("turn/completed", ended, 0) if isinstance(e, TurnEnded)]
    assert end.usage == Usage()


def test_a_write_is_proven_by_its_own_message_and_only_once() -> None:
    player = Player("tool_turn")
    player.hand("w1")
    player.play()
    proven = [event.write_id for event in player.of(Proven)]
    assert proven == ["w1", "w2"]
    assert not player.of(Refused) and not player.thread.writes.handed
    (first, _) = player.of(Proven)
    assert first.evidence.kind == "codex.user_message"
    assert first.evidence.turn_id == player.of(TurnStarted)[0].turn_id


def test_a_steer_is_proven_when_the_tool_it_waited_for_is_done() -> None:
    player = Player("steered").play()
    order = [type(e).__name__ for e in player.events if isinstance(e, Proven | ToolEnded)]
    assert order == ["Proven", "ToolEnded", "Proven"]
    assert [event.write_id for event in player.of(Proven)] == ["w1", "s1"]
    assert len(player.of(TurnStarted)) == 1


def test_a_steer_that_an_interrupt_swallowed_may_go_in_again() -> None:
    player = Player("steer_lost")
    turn = str(player.turns[0]["id"])
    player.hand("s1", Entry.STEER)
    player.thread.accepted("s1", turn)
    player.play()
    (refused,) = player.of(Refused)
    assert refused.write_id == "s1" and refused.retry
    assert outcomes(player) == [Outcome.INTERRUPTED]
    kinds = [type(event) for event in player.events]
    assert kinds.index(Refused) < kinds.index(TurnEnded) < kinds.index(Idle)


def test_the_answer_to_a_write_may_come_after_the_end_of_its_turn() -> None:
    player = Player("steer_lost")
    player.hand("s1", Entry.STEER)
    player.play()
    assert not player.of(Refused)
    late = player.thread.accepted("s1", str(player.turns[0]["id"]))
    assert [type(event) for event in late] == [Refused]


def test_a_command_that_outlives_its_turn_ends_later_with_the_turn_it_began_in() -> None:
    player = Player("background").play()
    first, second = player.of(TurnStarted)
    (tool,) = player.of(ToolEnded)
    assert tool.turn_id == first.turn_id and tool.output == "late\n"
    where = player.events.index(tool)
    assert player.events.index(second) < where
    assert len(player.of(Idle)) == 2


def test_an_interrupted_command_is_told_to_have_ended() -> None:
    assert tools(Player("steer_lost").play()) == [("shell", False)]


def test_input_that_a_hook_blocked_is_refused_for_good() -> None:
    player = Player("hook_blocked")
    first, second = (str(turn["id"]) for turn in player.turns)
    player.hand("w1")
    player.hand("s1", Entry.STEER)
    player.thread.accepted("w1", first)
    player.thread.accepted("s1", second)
    player.play()
    refused = player.of(Refused)
    assert [(event.write_id, event.retry) for event in refused] == [("w1", False), ("s1", False)]
    assert all("hook blocked it: not here" in event.reason for event in refused)


def test_a_blocked_turn_is_known_by_its_emptiness_when_the_hook_was_not_heard() -> None:
    player = Player("hook_blocked")
    player.hand("w1")
    player.thread.accepted("w1", str(player.turns[0]["id"]))
    player.catch_up()
    (refused,) = player.of(Refused)
    assert not refused.retry and "hook" in refused.reason


def test_a_turn_merged_into_a_running_one_is_proven_there() -> None:
    player = Player("merged").play()
    (turn,) = player.of(TurnStarted)
    assert [event.write_id for event in player.of(Proven)] == ["w1", "w2"]
    assert {event.evidence.turn_id for event in player.of(Proven)} == {turn.turn_id}


def test_input_of_others_is_in_the_transcript() -> None:
    player = Player("merged")
    for message in player.messages:
        params = message["params"]
        assert isinstance(params, dict)
        if isinstance(item := params.get("item"), dict) and item.get("clientId") == "relay:w2":
            item["clientId"] = "01a1fe0e-8022-7001-9676-29006dbc1450"
    player.play()
    assert [event.write_id for event in player.of(Proven)] == ["w1"]
    assert Transcript("user", "while it runs", player.of(TurnStarted)[0].turn_id) in player.events


def test_requests_are_asked_and_resolved_with_what_was_answered() -> None:
    player = Player("approvals")
    for message in player.messages:
        if message["method"] == "serverRequest/resolved":
            (open_,) = player.thread.asks.open
            player.thread.asks.answered(open_, allow=open_.endswith(".0"))
        player.message(message)
    shell, patch = player.of(PermissionRequested)
    assert shell.tool == "shell" and "touch allowed" in shell.detail
    assert patch.tool == "apply_patch" and "asked.txt" in patch.detail
    decisions = {event.request_id: event.decision for event in player.of(PermissionResolved)}
    assert decisions == {shell.request_id: "allow", patch.request_id: "deny"}
    assert sorted(tools(player)) == [("apply_patch", False), ("shell", True)]
    assert not player.of(FileChanged)


def test_a_request_ends_with_its_turn_before_the_turn_does() -> None:
    player = Player("interrupted_ask").play()
    kinds = [type(event) for event in player.events]
    assert kinds[-4:] == [PermissionResolved, ToolEnded, TurnEnded, Idle]
    (resolved,) = player.of(PermissionResolved)
    assert resolved.decision == "withdrawn"
    assert tools(player) == [("shell", False)]


def test_a_request_that_is_repeated_to_a_new_connection_is_not_asked_again() -> None:
    player = Player("approvals")
    requests = [m for m in player.messages if "id" in m]
    player.play(player.messages[: player.messages.index(requests[0]) + 1])
    player.crash()
    player.message(requests[0])
    assert len(player.of(PermissionRequested)) == 1
    (request_id,) = player.thread.asks.open
    assert player.of(PermissionRequested)[0].request_id == request_id


def test_calls_of_mcp_servers_are_tools_and_their_approval_is_asked() -> None:
    player = Player("approvals")
    messages = read("mcp_tool.jsonl")
    player.thread = Thread(text(sub(messages[0], "params"), "threadId"))
    player.play(messages)
    assert tools(player) == [("mcp__relay__echo", True)] + [("mcp__relay__echo", False)] * 2
    outputs = [event.output for event in player.of(ToolEnded)]
    assert outputs == ["echo: hi", "oops", "user rejected MCP tool call"]
    asked = player.of(PermissionRequested)
    assert [event.tool for event in asked] == ["mcp__relay__echo"] * 3
    assert '"text": "hi"' in asked[0].detail
    assert len({event.request_id for event in asked}) == 3 == len(player.of(PermissionResolved))


@pytest.mark.parametrize(
    ("name", "error", "status", "retry_at"),
    [
        ("refused_401", ErrorClass.AUTH, 401, None),
        ("usage_limit", ErrorClass.RATE_LIMIT, None, 1900000000),
    ],
)
def test_a_refusal_of_the_endpoint_is_the_error_of_its_turn(
    name: str, error: ErrorClass, status: int | None, retry_at: float | None
) -> None:
    player = Player(name).play()
    failed = player.of(TurnEnded)[0]
    assert failed.outcome is Outcome.FAILED and failed.error is not None
    assert failed.error.error is error and failed.error.status == status
    assert failed.error.retry_at == retry_at and not failed.error.retrying
    assert all(event.error.retrying for event in player.of(HarnessError))
    assert isinstance(player.events[-1], Idle)


def test_an_error_that_codex_retries_is_cleared_when_the_model_is_heard_again() -> None:
    player = Player("cut_then_ok").play()
    kinds = [type(event) for event in player.events]
    error = player.of(HarnessError)[0].error
    assert error.retrying and error.error is ErrorClass.OVERLOADED
    assert kinds.index(HarnessError) < kinds.index(ErrorCleared) < kinds.index(TurnEnded)
    assert kinds.count(ErrorCleared) == 1 and outcomes(player) == [Outcome.COMPLETED]


def test_other_threads_of_the_process_are_none_of_our_business() -> None:
    player = Player("tool_turn")
    player.thread = Thread("another", idle_said=True)
    assert player.play().events == []


# --- gaps ---------------------------------------------------------------------------------------------


def lasting(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, PASSING)]


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_after_any_message_neither_loses_nor_repeats_an_event(name: str) -> None:
    whole = Player(name).play()
    whole.events = lasting(whole.events)
    if name == "interrupted_ask":  # that call never ran: the history does not have it
        whole.events = [e for e in whole.events if not isinstance(e, ToolStarted | ToolEnded)]
    for cut in range(len(whole.messages) + 1):
        player = Player(name).play(whole.messages[:cut])
        player.crash()
        player.catch_up()
        player.events = lasting(player.events)
        if name == "interrupted_ask":
            tools(player)
            player.events = [e for e in player.events if not isinstance(e, ToolStarted | ToolEnded)]
        assert player.told() == whole.told(), f"cut before message {cut}"


@pytest.mark.parametrize("name", NAMES)
def test_messages_that_repeat_the_history_say_nothing_new(name: str) -> None:
    whole = Player(name).play()
    for back in (1, 3, 8):
        player = Player(name).play(whole.messages[: -back - 2])
        player.crash()
        player.catch_up()
        known = len(lasting(player.events))
        player.play(whole.messages[-back:])
        assert lasting(player.events)[known:] == []


def test_a_turn_that_still_runs_after_the_gap_is_running() -> None:
    player = Player("tool_turn")
    turn = {**player.turns[0], "status": "inProgress"}
    player.turns, player.entries = [turn], player.entries[:1]
    player.catch_up()
    assert [type(event) for event in player.events] == [TurnStarted, Proven]
    assert player.thread.turn == turn["id"] and not player.thread.boundary


def test_history_from_before_the_session_is_not_told() -> None:
    player = Player("tool_turn")
    player.thread.skip(player.turns[::-1], player.entries[::-1], Usage(400, 40, 0))
    player.catch_up()
    assert player.events == [] and player.thread.boundary


def test_idle_is_said_again_after_a_gap() -> None:
    player = Player("tool_turn").play()
    player.crash()
    player.catch_up()
    assert player.thread.boundary


def test_what_is_remembered_is_bounded() -> None:
    thread = Thread("t")
    for number in range(3 * MAX_TOLD_ITEMS):
        item = {"type": "agentMessage", "id": f"i{number}", "text": "x"}
        thread.observe("item/completed", {"threadId": "t", "turnId": "1", "item": item}, 0)
        ended: Obj = {"threadId": "t", "turn": {"id": f"t{number}", "status": "completed"}}
        thread.observe("turn/completed", ended, 0)
        thread.observe("warning", {"threadId": "t", "message": str(number)}, 0)
    assert len(thread.told) == MAX_TOLD_ITEMS
    assert len(thread.ended) < MAX_TOLD_ITEMS and len(thread.notices) <= 64


def test_requests_that_are_for_another_client_are_left_to_it() -> None:
    assert ask(1, "item/tool/call", {}) is None
    assert ask(1, "account/chatgptAuthTokens/refresh", {}) is None
