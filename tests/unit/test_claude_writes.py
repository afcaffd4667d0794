"""When a write of ours counts as proven, refused or still open: every trap that Claude has."""

from __future__ import annotations

from tests.unit.claude_player import (
    BOTH,
    NEW,
    RECORDINGS,
    Player,
    lines_of,
    play,
    uuid,
)

from relay_drivers.claude.state import MAX_ALIASES, alias, aliases
from relay_runtime.events import (
    Proven,
    Refused,
    Transcript,
    TurnEnded,
    TurnStarted,
)

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
