"""From OpenCode's payloads to events: each thing once, live, twice, with gaps and after crashes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relay_drivers.opencode.fold import MAX_ANSWERED, Fold
from relay_drivers.opencode.protocol import (
    Answered,
    Asked,
    ErrorSeen,
    Failure,
    MessageSeen,
    PatchSeen,
    Removed,
    SessionSeen,
    StatusSeen,
    TextSeen,
    ToolSeen,
    decode,
    message_id,
    read_message,
)
from relay_drivers.opencode.record import Record, turn_of, unanswered
from relay_drivers.opencode.sse import EventParser
from relay_runtime.events import (
    ErrorClass,
    ErrorCleared,
    Event,
    HarnessError,
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
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay_drivers.opencode.protocol import Said

RECORDINGS = Path(__file__).parents[1] / "recordings" / "opencode"
S = "ses_1"


def recorded(name: str) -> tuple[str, list[Said]]:
    data = EventParser().feed((RECORDINGS / f"{name}.sse").read_bytes())
    session = json.loads((RECORDINGS / f"{name}.json").read_text() or "[]")
    said = [found for event in data if (found := decode(event)) is not None]
    own = (
        session[0]["info"]["sessionID"]
        if session
        else json.loads(data[0])["properties"]["sessionID"]
    )
    return own, said


def record_of(name: str) -> Record:
    listed = json.loads((RECORDINGS / f"{name}.json").read_text())
    read = [found for element in listed if (found := read_message(element)) is not None]
    return Record(tuple(read), busy=False)


def feed(fold: Fold, said: Sequence[Said]) -> list[Event]:
    return [event for one in said for event in fold.feed(one)]


def reload(fold: Fold) -> Fold:
    """As a supervisor does after a crash."""
    return Fold(fold.session, past=json.loads(json.dumps(fold.checkpoint())))


def brief(events: Sequence[Event]) -> list[str]:
    def one(event: Event) -> str:
        match event:
            case TurnEnded(outcome=outcome, error=error):
                return f"turn.ended {outcome}" + (f" {error.error}" if error else "")
            case ToolEnded(ok=ok):
                return "tool.ended" if ok else "tool.ended badly"
            case PermissionResolved(decision=decision):
                return f"permission.resolved {decision}"
            case Proven(write_id=write):
                return f"proven {write.rpartition('-')[2]}"
            case Refused(write_id=write, retry=retry):
                return f"refused {write.rpartition('-')[2]}" + (" retry" if retry else "")
        return event.type

    return [one(event) for event in events if event.type != "transcript"]


BEGUN = ["turn.started", "proven first"]
STORIES = {
    "tool_turn": [
        *BEGUN,
        *["tool.started", "tool.started", "tool.ended", "file.changed", "tool.ended"],
        *["proven steer", "turn.ended completed", "session.idle"],
    ],
    "patch": [
        *BEGUN,
        *["tool.started", "tool.ended", "tool.started", "tool.ended", "file.changed"],
        *["tool.started", "tool.ended badly", "file.changed"],
        *["turn.ended completed", "session.idle"],
    ],
    "aborted": [
        *BEGUN,
        *["tool.started", "tool.ended badly", "turn.ended interrupted"],
        *["refused steer retry", "session.idle"],
    ],
    "refused_401": [*BEGUN, "turn.ended failed auth", "session.idle"],
    "retried_429": [
        *BEGUN,
        *["error", "error", "error.cleared", "turn.ended completed", "session.idle"],
    ],
    "abort_in_retry": [*BEGUN, "error", "turn.ended interrupted", "session.idle"],
    "permission": [
        *BEGUN,
        *["permission.requested", "tool.started", "permission.resolved allow", "tool.ended"],
        *["turn.ended completed", "session.idle", "turn.started", "proven second"],
        *["permission.requested", "tool.started", "permission.resolved deny", "tool.ended badly"],
        *["turn.ended interrupted", "session.idle", "turn.started", "proven third"],
        *["permission.requested", "tool.started", "tool.ended badly"],
        *["permission.resolved withdrawn", "turn.ended interrupted", "session.idle"],
    ],
    "question": [
        *BEGUN,
        *["permission.requested", "tool.started", "permission.resolved allow", "tool.ended"],
        *["turn.ended completed", "session.idle", "turn.started", "proven second"],
        *["permission.requested", "tool.started", "permission.resolved deny", "tool.ended badly"],
        *["turn.ended interrupted", "session.idle"],
    ],
    "subagent": [
        *BEGUN,
        *["tool.started", "permission.requested", "permission.resolved allow", "tool.ended"],
        *["turn.ended completed", "session.idle"],
    ],
    "unknown_model": ["error", "refused first", "session.idle"],
    "human_shell": [
        *["turn.started", "tool.started", "tool.ended", "turn.ended completed", "session.idle"],
    ],
}
#: Known from the stream alone: the server keeps no record of them.
PASSING = (HarnessError, ErrorCleared, PermissionRequested, PermissionResolved, Refused)


@pytest.mark.parametrize("name", STORIES)
def test_a_recording_tells_its_story(name: str) -> None:
    session, said = recorded(name)
    fold = Fold(session)
    assert brief(feed(fold, said)) == STORIES[name]
    assert fold.quiet
    assert not fold.stranded


@pytest.mark.parametrize("name", STORIES)
def test_saying_everything_twice_changes_nothing(name: str) -> None:
    session, said = recorded(name)
    # A status said twice is two: the second idle is how a turn is known to be over.
    doubled = [one for one in said for _ in range(1 if isinstance(one, StatusSeen) else 2)]
    twice = [one for one in feed(Fold(session), doubled) if not isinstance(one, HarnessError)]
    once = [one for one in feed(Fold(session), said) if not isinstance(one, HarnessError)]
    assert brief(twice) == brief(once)


def record_at(session: str, said: Sequence[Said]) -> Record:
    """The server's records after it has said all this."""
    messages: dict[str, MessageSeen] = {}
    parts: dict[tuple[str, str], Said] = {}
    asks: dict[str, Asked] = {}
    children: list[str] = []
    busy = False
    for one in said:
        match one:
            case SessionSeen(id=child, parent=parent):
                children += [child] if parent == session else []
            case Asked():
                asks[one.id] = one
            case Answered():
                asks.pop(one.id, None)
            case _ if one.session != session:
                pass
            case MessageSeen():
                messages[one.id] = one
            case Removed():
                messages.pop(one.message, None)
            case StatusSeen():
                busy = one.kind != "idle"
            case TextSeen() | ToolSeen() | PatchSeen():
                parts[one.message, one.id] = one
    listed = sorted(messages.values(), key=lambda message: message.order)
    return Record(
        tuple((m, tuple(p for (of, _), p in parts.items() if of == m.id)) for m in listed),
        tuple(asks.values()),
        tuple(children),
        busy,
    )


@pytest.mark.parametrize("name", STORIES)
def test_a_crash_at_any_moment_loses_and_repeats_nothing(name: str) -> None:
    session, said = recorded(name)
    whole = brief(feed(Fold(session), said))
    for cut in range(len(said) + 1):
        first = Fold(session)
        events = feed(first, said[:cut])
        second = reload(first)
        events += second.catch_up(record_at(session, said[:cut]))
        events += feed(second, said[cut:])
        told = [event for event in brief(events) if event != "session.idle"]
        assert told == [event for event in whole if event != "session.idle"], cut
        assert brief(events)[-1] == "session.idle", cut


@pytest.mark.parametrize("name", STORIES)
def test_what_a_gap_swallows_is_told_from_the_records(name: str) -> None:
    session, said = recorded(name)
    whole = [event for event in feed(Fold(session), said) if not isinstance(event, PASSING)]
    wanted = Counter(brief(whole)) - Counter(["session.idle"] * len(whole))
    for cut in range(len(said) + 1):
        first = Fold(session)
        events = feed(first, said[:cut])
        second = reload(first)
        events += second.catch_up(record_of(name))
        told = Counter(brief([event for event in events if not isinstance(event, PASSING)]))
        assert told - Counter({"session.idle": len(said)}) == wanted, cut
        assert brief(events)[-1] == "session.idle", cut
        assert second.catch_up(record_of(name)) == [], cut


# --- single rules -------------------------------------------------------------------------------------


def user(write: str, at: int) -> MessageSeen:
    return MessageSeen(S, message_id(write), "user", at)


def typed(found: str, at: int) -> MessageSeen:
    return MessageSeen(S, found, "user", at)


def step(
    found: str,
    at: int,
    parent: str,
    *,
    completed: int | None = None,
    finish: str | None = None,
    failure: Failure | None = None,
) -> MessageSeen:
    return MessageSeen(S, found, "assistant", at, parent, completed, finish, failure)


def status(kind: str) -> StatusSeen:
    return StatusSeen(S, kind)


def test_the_first_idle_after_an_error_is_not_the_boundary() -> None:
    fold = Fold(S)
    m = message_id("w")
    feed(fold, [user("w", 1), status("busy"), step("a", 2, m)])
    failed = Failure("APIError", "bad key", 401)
    assert fold.feed(ErrorSeen(S, failed)) == []
    assert fold.feed(status("idle")) == []
    assert fold.feed(step("a", 2, m, completed=3, failure=failed))[0].type == "turn.ended"
    assert fold.feed(status("idle")) == []


def test_a_turn_whose_step_never_ends_is_over_at_the_second_idle() -> None:
    fold = Fold(S)
    feed(fold, [user("w", 1), status("busy"), step("a", 2, message_id("w"))])
    assert fold.feed(status("idle")) == []
    assert brief(fold.feed(status("idle"))) == ["turn.ended interrupted", "session.idle"]


def test_a_later_message_as_parent_proves_the_earlier_ones_in_order() -> None:
    fold = Fold(S)
    feed(fold, [user("1", 1), user("2", 2), typed("msg_human", 3), status("busy")])
    events = fold.feed(step("a", 4, "msg_human"))
    assert [e.write_id for e in events if isinstance(e, Proven)] == ["1", "2"]
    assert all(e.evidence.turn_id == "msg_human" for e in events if isinstance(e, Proven))


def test_a_message_that_was_stored_after_the_parent_is_not_proven_yet() -> None:
    fold = Fold(S)
    feed(fold, [user("1", 1), user("2", 2), status("busy")])
    events = fold.feed(step("a", 3, message_id("1")))
    assert [e.write_id for e in events if isinstance(e, Proven)] == ["1"]


def test_a_late_update_of_an_answered_message_does_not_make_it_new() -> None:
    fold = Fold(S)
    turn: list[Said] = [
        user("w", 1),
        status("busy"),
        step("a", 2, message_id("w"), completed=3, finish="stop"),
    ]
    feed(fold, [*turn, status("idle")])
    # As after the same message was posted once more: OpenCode then refreshes its time.
    assert feed(fold, [user("w", 9), status("busy"), status("idle")])[-1:] == [Idle()]
    assert fold.stranded == []


def test_a_message_that_nobody_has_run_yet_is_neither_stranded_nor_idle() -> None:
    fold = Fold(S)
    assert fold.feed(status("idle")) == [Idle()]
    fold.hand(message_id("w"))
    assert not fold.quiet
    assert fold.feed(status("idle")) == []
    fold.feed(user("w", 1))
    assert fold.stranded == []
    assert not fold.quiet
    feed(fold, [status("busy"), status("idle")])
    assert fold.stranded == [message_id("w")]


def test_what_is_typed_by_a_person_is_never_taken_back() -> None:
    fold = Fold(S)
    assert feed(fold, [typed("msg_human", 1), status("busy"), status("idle")]) == [Idle()]
    assert fold.stranded == []


def test_an_error_before_any_step_refuses_the_message_for_good() -> None:
    fold = Fold(S)
    failed = ErrorSeen(S, Failure("UnknownError", "Model not found: a/b."))
    events = feed(fold, [user("w", 1), status("busy"), failed, status("idle"), failed])
    assert brief(events) == ["error"]
    refused = fold.feed(Removed(S, message_id("w")))
    assert refused == [Refused("w", "Model not found: a/b.", retry=False), Idle()]


def test_a_message_that_vanished_during_a_gap_is_refused() -> None:
    fold = Fold(S)
    feed(fold, [user("w", 1), status("busy")])
    events = reload(fold).catch_up(Record((), busy=False))
    assert brief(events) == ["refused w retry", "session.idle"]


def test_turns_that_came_and_went_during_a_gap_are_told_apart() -> None:
    one = step("a", 2, "msg_1", completed=3, finish="stop")
    two = step("b", 5, "msg_2", completed=6, finish="stop")
    messages = ((typed("msg_1", 1), ()), (one, ()), (typed("msg_2", 4), ()), (two, ()))
    events = Fold(S).catch_up(Record(messages, busy=False))
    assert [e.turn_id for e in events if isinstance(e, TurnEnded)] == ["msg_1", "msg_2"]
    assert brief(events)[-1] == "session.idle"


def test_a_message_that_came_in_the_middle_of_a_turn_does_not_end_it_in_the_records() -> None:
    one = step("a", 2, "msg_1", completed=9, finish="stop")
    two = step("b", 10, "msg_2")
    messages = ((typed("msg_1", 1), ()), (one, ()), (typed("msg_2", 4), ()), (two, ()))
    events = Fold(S).catch_up(Record(messages, busy=True))
    assert brief(events) == ["turn.started"]


def test_a_request_that_an_abort_left_in_the_servers_list_is_not_shown_again() -> None:
    ask = Asked(S, "per_1", "bash", "rm", message="a")
    ended = step("a", 2, "msg_1", completed=3, finish="stop")
    over = Record(((typed("msg_1", 1), ()), (ended, ())), (ask,), busy=False)
    assert "permission.requested" not in brief(Fold(S).catch_up(over))
    now = Record(((typed("msg_1", 1), ()), (step("a", 2, "msg_1"), ())), (ask,), busy=True)
    assert "permission.requested" in brief(Fold(S).catch_up(now))


def test_a_request_that_was_answered_during_a_gap_is_resolved() -> None:
    fold = Fold(S)
    asked = Asked(S, "per_1", "bash", "rm", message="a")
    feed(fold, [typed("msg_1", 1), status("busy"), step("a", 2, "msg_1"), asked])
    events = reload(fold).catch_up(Record(((step("a", 2, "msg_1"), ()),), busy=True))
    assert brief(events) == ["permission.resolved withdrawn"]


def test_only_the_requests_of_this_conversation_and_its_subagents_are_shown() -> None:
    fold = Fold(S)
    feed(fold, [SessionSeen("ses_2", S), SessionSeen("ses_3", "ses_2"), SessionSeen("ses_4", None)])
    shown = [
        isinstance(event, PermissionRequested)
        for session in ("ses_2", "ses_3", "ses_4", "ses_5")
        for event in fold.feed(Asked(session, f"per_{session}", "bash", "ls")) or [Idle()]
    ]
    assert shown == [True, True, False, False]


def test_the_end_of_the_process_closes_what_was_open() -> None:
    fold = Fold(S)
    asked = Asked(S, "per_1", "bash", "rm", message="a")
    tool = ToolSeen(S, "a", "prt_1", "bash", "running", "{}", "", ok=False)
    feed(fold, [typed("msg_1", 1), status("busy"), step("a", 2, "msg_1"), tool, asked])
    events = reload(fold).gone()
    assert brief(events) == [
        "tool.ended badly",
        "permission.resolved withdrawn",
        "turn.ended interrupted",
    ]
    assert fold.session == S


def test_a_tool_that_ends_after_its_step_was_followed_by_another_is_told() -> None:
    fold = Fold(S)
    running = ToolSeen(S, "a", "prt_1", "task", "running", "{}", "", ok=False)
    ended = ToolSeen(S, "a", "prt_1", "task", "completed", "{}", "done", ok=True)
    feed(fold, [typed("msg_1", 1), status("busy"), step("a", 2, "msg_1"), running])
    feed(fold, [step("a", 2, "msg_1", completed=3), step("b", 4, "msg_1")])
    assert brief(fold.feed(ended)) == ["tool.ended"]


def test_usage_and_cost_are_those_of_the_whole_turn() -> None:
    session, said = recorded("tool_turn")
    ended = [event for event in feed(Fold(session), said) if isinstance(event, TurnEnded)]
    assert [(event.usage.input_tokens, event.usage.output_tokens) for event in ended] == [(200, 20)]
    assert ended[0].cost_usd is None  # the scripted model has no price
    assert ended[0].outcome is Outcome.COMPLETED


def test_a_failed_turn_carries_the_error_and_its_status() -> None:
    session, said = recorded("refused_401")
    ended = next(event for event in feed(Fold(session), said) if isinstance(event, TurnEnded))
    assert ended.error is not None
    assert (ended.error.error, ended.error.status) == (ErrorClass.AUTH, 401)
    assert ended.error.message == "bad key"


def test_the_past_of_a_conversation_is_not_told_again() -> None:
    session, said = recorded("tool_turn")
    newest = max(message.order for message, _ in record_of("tool_turn").messages)
    fold = Fold(session, newest)
    assert brief(fold.catch_up(record_of("tool_turn"))) == ["session.idle"]
    assert not [event for event in feed(fold, said) if not isinstance(event, Idle)]


def test_texts_of_people_and_of_the_agent_are_told_once_and_whole() -> None:
    fold = Fold(S)
    feed(fold, [typed("msg_1", 1), TextSeen(S, "msg_1", "p1", "please", False), status("busy")])
    events = fold.feed(step("a", 2, "msg_1"))
    events += fold.feed(TextSeen(S, "a", "p2", "wor", done=False))
    events += fold.feed(TextSeen(S, "a", "p2", "words", done=True))
    events += fold.feed(TextSeen(S, "a", "p2", "words", done=True))
    texts = [(e.role, e.text) for e in events if isinstance(e, Transcript)]
    assert texts == [("user", "please"), ("assistant", "words")]


def test_what_a_fold_remembers_is_bounded() -> None:
    fold = Fold(S)
    for number in range(3 * MAX_ANSWERED):
        at = number * 10
        turn: list[Said] = [
            user(str(number), at),
            status("busy"),
            step(f"a{number}", at + 1, message_id(str(number))),
        ]
        ended = step(f"a{number}", at + 1, message_id(str(number)), completed=at + 2, finish="stop")
        tool = ToolSeen(S, f"a{number}", f"p{number}", "bash", "completed", "{}", "", ok=True)
        events = feed(fold, [*turn, tool, ended, status("idle")])
        assert [type(event) for event in events if isinstance(event, ToolStarted | TurnStarted)]
    assert len(json.dumps(fold.checkpoint())) < 4_000


# --- the record ---------------------------------------------------------------------------------------


def test_a_message_is_answered_when_a_step_has_it_or_a_later_one_as_parent() -> None:
    listed = [user("1", 1), user("2", 2), step("a", 3, message_id("2")), user("3", 4)]
    assert turn_of(message_id("1"), listed) == message_id("2")
    assert turn_of(message_id("2"), listed) == message_id("2")
    assert turn_of(message_id("3"), listed) is None
    assert turn_of(message_id("4"), listed) is None


def test_only_our_own_messages_at_the_end_of_a_record_count_as_unanswered() -> None:
    listed = [user("1", 1), step("a", 2, message_id("1")), typed("msg_human", 3), user("2", 4)]
    assert unanswered(listed) == [message_id("2")]
    assert unanswered(listed[:2]) == []
    assert unanswered([]) == []
