"""What the claude driver makes of Claude's output: recordings of the real program, and traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from relay_drivers.claude import commands
from relay_drivers.claude.checkpoint import Checkpoint
from relay_drivers.claude.faults import error_class
from relay_drivers.claude.lines import MAX_LINE, Lines, TooLong
from relay_drivers.claude.observations import Garbage
from relay_drivers.claude.protocol import Protocol
from relay_drivers.claude.reading import observe
from relay_drivers.claude.state import MAX_ALIASES, State, alias, aliases
from relay_drivers.claude.text import neutralise
from relay_runtime.contract import Entry, Json
from relay_runtime.events import (
    ErrorClass,
    ErrorCleared,
    Event,
    FileChanged,
    HarnessError,
    Idle,
    Notice,
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
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

RECORDINGS = Path(__file__).parents[1] / "recordings" / "claude"
NEW, OLD = "2.1.330", "2.1.197"
BOTH = pytest.mark.parametrize("version", [NEW, OLD])
ALL = sorted(RECORDINGS.glob("*/*.jsonl"))
NOW = 1000.0
E = TypeVar("E")


def uuid(number: int) -> str:
    """The ids of our messages in the recordings."""
    return f"00000000-0000-4000-8000-{number:012d}"


class Player:
    """The shell around the protocol, with a record that consists of ids."""

    def __init__(self, recorded: Collection[str] = (), *, exists: bool = True) -> None:
        self.protocol = Protocol(State("conversation"))
        self.recorded = recorded
        self.exists = exists
        self.events: list[Event] = []

    def line(self, line: bytes) -> None:
        if (seen := observe(line)) is not None:
            self.events += self.protocol.see(seen, NOW)
        self.weigh()

    def say(self, **message: object) -> None:
        self.line(json.dumps(message).encode())

    def weigh(self) -> None:
        writes = self.protocol.writes
        for harness_id in writes.claims:
            if harness_id in self.recorded:
                self.events += writes.confirmed(harness_id)
        for harness_id in writes.overdue:
            decide = writes.missing if self.exists else writes.unrecorded
            self.events += decide(harness_id)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def play(version: str, name: str, recorded: Collection[str] | None = None) -> Player:
    """A recording from begin to end; without `recorded` every message of ours is on disk."""
    player = Player([uuid(n) for n in range(10)] if recorded is None else recorded)
    for line in lines_of(RECORDINGS / version / f"{name}.jsonl"):
        player.line(line)
    return player


# --- lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.parametrize("size", [1, 7, 1000, 10_000_000])
def test_a_recording_gives_the_same_lines_in_pieces_of_any_size(path: Path, size: int) -> None:
    data = path.read_bytes()
    lines = Lines(0)
    got = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert got == data.splitlines()
    assert lines.offset == len(data)


def test_the_offset_is_that_of_the_first_byte_not_consumed() -> None:
    lines = Lines(100)
    assert list(lines.feed(b'{"a":1}\n\n{"b"')) == [b'{"a":1}']
    assert lines.offset == 100 + len(b'{"a":1}\n\n')
    assert list(lines.feed(b":2}\n{")) == [b'{"b":2}']
    assert lines.offset == 100 + len(b'{"a":1}\n\n{"b":2}\n')


def test_a_line_beyond_the_bound_is_reported_once_and_skipped_across_a_restart() -> None:
    lines = Lines(0)
    block = b"x" * (1 << 20)
    said = [item for _ in range(20) for item in lines.feed(block)]
    assert said == [TooLong()]
    assert lines.skipping and lines.offset == 20 << 20
    later = Lines(lines.offset, skipping=lines.skipping)
    assert list(later.feed(b'xx\n{"a":1}\n')) == [b'{"a":1}']
    assert later.offset == (20 << 20) + 3 + 8
    assert MAX_LINE < 20 << 20


def test_after_lost_bytes_reading_goes_on_with_the_next_whole_line() -> None:
    lines = Lines(0)
    assert list(lines.feed(b'{"half')) == []
    lines.resync(5000)
    assert list(lines.feed(b'of another"}\n{"a":1}\n')) == [b'{"a":1}']


# --- checkpoints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_checkpoint_after_any_line_continues_as_if_nothing_had_happened(path: Path) -> None:
    whole = play(path.parent.name, path.stem).events
    player = Player([uuid(n) for n in range(10)])
    for line in lines_of(path):
        player.line(line)
        saved = json.loads(json.dumps(Checkpoint(1, 2, player.protocol.state).to_json()))
        player.protocol = Protocol(Checkpoint.from_json(saved).state)
    assert player.events == whole


def test_a_checkpoint_of_something_else_is_refused() -> None:
    cases: list[Json] = [None, {}, {"format": 2}, {"format": 1, "offset": "1"}, [1]]
    for saved in cases:
        with pytest.raises(ValueError, match="unknown format"):
            Checkpoint.from_json(saved)
    good = Checkpoint(1, 2, State("c"), skipping=True)
    assert Checkpoint.from_json(good.to_json()) == good
    bad: Json = {**State("c").to_json(), "writes": [1]}
    with pytest.raises(ValueError, match="writes"):
        Checkpoint.from_json(
            {"format": 1, "offset": 1, "err_offset": 1, "skipping": False} | {"state": bad}
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


# --- proof ----------------------------------------------------------------------------------------------


@BOTH
def test_a_write_is_proven_once_with_the_best_evidence_there_is(version: str) -> None:
    player = play(version, "turn")
    proven = player.of(Proven)
    assert [e.write_id for e in proven] == [uuid(1), uuid(2)]
    kind = "claude.command_lifecycle" if version == NEW else "claude.replay"
    assert {e.evidence.kind for e in proven} == {kind}
    turns = [e.turn_id for e in player.of(TurnStarted)]
    assert [e.evidence.turn_id for e in proven] == turns


@BOTH
def test_nothing_is_proven_before_it_is_in_the_record(version: str) -> None:
    player = Player(recorded=())
    for line in lines_of(RECORDINGS / version / "turn.jsonl"):
        player.line(line)
        if player.of(TurnEnded):
            break
    assert not player.of(Proven)
    assert player.protocol.writes.claims == (uuid(1),)


@BOTH
def test_a_steer_is_proven_in_the_turn_that_it_entered(version: str) -> None:
    player = play(version, "steer")
    (turn,) = player.of(TurnStarted)
    assert [(e.write_id, e.evidence.turn_id) for e in player.of(Proven)] == [
        (uuid(1), turn.turn_id),
        (uuid(2), turn.turn_id),
    ]


@BOTH
def test_the_echo_of_a_duplicate_proves_nothing(version: str) -> None:
    player = Player(recorded=())
    player.say(type="system", subtype="session_state_changed", state="idle", uuid="i")
    message = {"role": "user", "content": "x"}
    player.protocol.writes.hand(uuid(1), "x")
    player.say(type="user", uuid=uuid(1), isReplay=True, message=message)
    if version == NEW:
        player.say(type="command_lifecycle", command_uuid=uuid(1), state="completed", uuid="l")
    assert not player.of(Proven)
    (refused,) = player.of(Refused)
    assert refused.retry
    assert not player.of(Transcript), "a duplicate was not read again"


def test_a_duplicate_that_is_in_the_record_is_proven_by_it() -> None:
    player = Player(recorded=[uuid(1)])
    player.say(type="system", subtype="session_state_changed", state="idle", uuid="i")
    player.say(type="user", uuid=uuid(1), isReplay=True, message={"role": "user", "content": "x"})
    (proven,) = player.of(Proven)
    assert (proven.evidence.kind, proven.evidence.turn_id) == ("claude.transcript", None)


@BOTH
def test_the_echo_of_a_duplicate_that_still_waits_decides_nothing(version: str) -> None:
    player = Player(recorded=())
    player.say(type="system", subtype="session_state_changed", state="running", uuid="t1")
    player.say(type="user", uuid=uuid(1), isReplay=True, message={"role": "user", "content": "x"})
    assert not player.of(Proven) and not player.of(Refused)


def test_a_write_that_claude_dropped_goes_in_again_under_another_id() -> None:
    player = play(NEW, "dropped", recorded=())
    (refused,) = player.of(Refused)
    assert (refused.write_id, refused.retry) == (uuid(1), True)
    assert "interrupted" in refused.reason
    again = player.protocol.writes.hand(uuid(1), "one")
    assert again != uuid(1) and again in aliases(uuid(1))
    player.recorded = [again]
    player.say(type="system", subtype="session_state_changed", state="running", uuid="t2")
    for state in ("queued", "started"):
        player.say(type="command_lifecycle", command_uuid=again, state=state, uuid="l")
    (proven,) = player.of(Proven)
    assert (proven.write_id, proven.evidence.reference) == (uuid(1), again)


def test_a_write_under_another_id_is_recognised_after_a_crash() -> None:
    player = Player()
    player.protocol.state.burnt[uuid(1)] = 1
    player.recorded = [alias(uuid(1), 1)]
    player.say(type="system", subtype="session_state_changed", state="running", uuid="t")
    message = {"role": "user", "content": "x"}
    again = alias(uuid(1), 1)
    player.say(type="user", uuid=again, isReplay=True, timestamp="now", message=message)
    assert [e.write_id for e in player.of(Proven)] == [uuid(1)]


def test_a_write_that_claude_drops_again_and_again_is_given_up() -> None:
    player = Player(recorded=())
    player.say(type="system", subtype="session_state_changed", state="idle", uuid="i")
    for _ in range(MAX_ALIASES + 1):
        harness_id = player.protocol.writes.hand(uuid(1), "x")
        message = {"role": "user", "content": "x"}
        player.say(type="user", uuid=harness_id, isReplay=True, message=message)
    assert [e.retry for e in player.of(Refused)] == [True] * MAX_ALIASES + [False]


@BOTH
def test_a_message_that_a_hook_blocks_is_refused_for_good(version: str) -> None:
    player = Player([uuid(2)])
    player.protocol.writes.hand(uuid(1), "please BLOCKME")
    for line in lines_of(RECORDINGS / version / "blocked.jsonl"):
        player.line(line)
    (refused,) = player.of(Refused)
    assert (refused.write_id, refused.retry) == (uuid(1), False)
    assert refused.reason.endswith("nope by policy")
    assert [e.write_id for e in player.of(Proven)] == [uuid(2)]


def test_a_blocked_message_is_recognised_after_a_crash_by_its_start() -> None:
    player = play(NEW, "blocked", recorded=[uuid(2)])
    assert [(e.write_id, e.retry) for e in player.of(Refused)] == [(uuid(1), False)]


def test_of_merged_messages_each_is_proven_by_the_record() -> None:
    player = play(NEW, "merged")
    assert sorted(e.write_id for e in player.of(Proven)) == [uuid(1), uuid(2), uuid(3)]


@BOTH
def test_without_any_record_the_word_of_claude_counts_at_the_end_of_the_turn(version: str) -> None:
    player = Player(recorded=(), exists=False)
    for line in lines_of(RECORDINGS / version / "turn.jsonl"):
        player.line(line)
    assert [e.write_id for e in player.of(Proven)] == [uuid(1), uuid(2)]


def test_a_second_write_is_held_back_while_claude_holds_one() -> None:
    player = Player()
    writes = player.protocol.writes
    writes.hand(uuid(1), "x")
    assert not writes.other_seen(uuid(2)), "Claude may never have read it"
    player.say(type="command_lifecycle", command_uuid=uuid(1), state="queued", uuid="l")
    assert writes.other_seen(uuid(2)) and not writes.other_seen(uuid(1))


def test_commands_of_claude_itself_are_no_writes_of_ours() -> None:
    player = Player(recorded=["cron"])
    player.say(type="system", subtype="session_state_changed", state="running", uuid="t")
    for state in ("started", "completed"):
        player.say(type="command_lifecycle", command_uuid="cron", state=state, uuid="l")
    assert not player.of(Proven)


def test_a_message_refused_before_the_queue_is_refused_for_good() -> None:
    player = Player()
    player.protocol.writes.hand(uuid(1), "x")
    player.say(type="command_lifecycle", command_uuid=uuid(1), state="refused", uuid="l")
    assert player.events == [Refused(uuid(1), "claude refused the message", retry=False)]


# --- other lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"of tomorrow"}',
        b'{"type":"system","subtype":"of tomorrow"}',
        b'{"type":7}',
        b"{}",
        b'{"type":"assistant","message":null}',
        b'{"type":"assistant","message":{"content":[1,{"type":"tool_use"}]}}',
        b'{"type":"user","message":{"content":[{"type":"tool_result"}]}}',
        b'{"type":"result"}',
        b'{"type":"control_request"}',
        b'{"type":"control_response","response":[]}',
        b'{"type":"system","subtype":"background_tasks_changed","tasks":{}}',
    ],
)
def test_unknown_and_odd_lines_do_no_harm(line: bytes) -> None:
    player = Player()
    player.line(line)
    assert not player.of(Notice) and not player.of(Idle)


@pytest.mark.parametrize("line", [b"npm WARN old", b"[1]", b'"x"', b"\xff\xfe", b'{"half":', b"1"])
def test_a_line_that_is_no_json_is_a_notice(line: bytes) -> None:
    assert isinstance(observe(line), Garbage)
    player = Player()
    for _ in range(100):
        player.line(line)
    assert 0 < len(player.of(Notice)) < 10, "a flood on stdout must not flood the journal"


def test_deeply_nested_json_is_a_notice_and_no_crash() -> None:
    assert isinstance(observe(b"[" * 100_000), Garbage)


# --- what we write --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda text: commands.user_message("u", text, Entry.STEER)])
def test_any_text_is_one_line_of_json(make: Callable[[str], bytes]) -> None:
    text = 'a\nb\r\u2028\u0000\x1b[201~"\\ é 😀 \ud800'
    line = make(text)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    content = json.loads(line)["message"]["content"]
    assert content == text.replace("\ud800", "?")


def test_steers_enter_the_turn_and_others_wait_for_its_end() -> None:
    priority = {e: json.loads(commands.user_message("u", "x", e))["priority"] for e in Entry}
    assert priority == {Entry.NEXT_TURN: "later", Entry.STEER: "next"}


@pytest.mark.parametrize(
    "before", ["", " ", "\t", "\n", "\u3000", "\u00a0", "\ufeff", "、", "(", '"']
)
def test_no_mention_is_left_that_claude_could_expand(before: str) -> None:
    for mention in ("@/etc/passwd", '@"a b"', "@agent-x", "@@x"):
        assert f"{before}@" not in neutralise(f"x{before}{mention}" if before else mention)


def test_addresses_inside_words_stay_as_they_are() -> None:
    assert neutralise("me@example.org v1@2 字@x") == "me@example.org v1@2 字@x"
