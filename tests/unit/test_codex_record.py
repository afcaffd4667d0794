"""What codex's own record says about a write, from rollouts of real sessions and from cut ones."""

from __future__ import annotations

import json

import pytest
from tests.unit.codex_player import NAMES, RECORDINGS

from relay_drivers.codex import checkpoint
from relay_drivers.codex.history import scan
from relay_drivers.codex.protocol import OpenTool, Thread
from relay_runtime.contract import Entry, Json
from relay_runtime.events import Outcome, Usage


def rollout(name: str) -> list[bytes]:
    return (RECORDINGS / f"{name}.rollout.jsonl").read_bytes().splitlines(keepends=True)


def place(lines: list[bytes], *marks: bytes) -> int:
    """Of the first line with all of `marks`."""
    return next(i for i, line in enumerate(lines) if all(mark in line for mark in marks))


def test_a_write_is_found_with_its_item_and_turn() -> None:
    lines = rollout("steered")
    for write_id in ("w1", "s1"):
        found = scan(lines, write_id)
        assert found.evidence is not None
        assert found.evidence.kind == "codex.user_message"
        line = lines[place(lines, b'"UserMessage"', f'"relay:{write_id}"'.encode())]
        assert found.evidence.reference == json.loads(line)["payload"]["item"]["id"]
        assert found.evidence.turn_id == json.loads(line)["payload"]["turn_id"]


@pytest.mark.parametrize(("name", "write_id"), [("steer_lost", "s1"), ("hook_blocked", "w1")])
def test_a_write_that_codex_dropped_is_not_found(name: str, write_id: str) -> None:
    found = scan(rollout(name), write_id)
    assert found.evidence is None and not found.orphan


def test_another_write_is_not_taken_for_the_one_that_is_looked_for() -> None:
    assert scan(rollout("steered"), "w").evidence is None
    assert scan(rollout("steered"), "by the way").evidence is None


def test_a_message_in_the_context_counts_when_codex_was_killed_before_it_became_an_item() -> None:
    # The model reads it when the conversation goes on, although no list of codex shows it.
    lines = rollout("tool_turn")
    killed = lines[: place(lines, b'"UserMessage"', b'"relay:w1"')]
    found = scan(killed, "w1")
    assert found.evidence is not None and found.evidence.reference.startswith("msg_")
    turn = json.loads(lines[place(lines, b"task_started")])["payload"]["turn_id"]
    assert found.evidence.turn_id == turn


def test_a_turn_that_was_killed_before_its_message_came_in_has_it_not() -> None:
    lines = rollout("tool_turn")
    killed = lines[: place(lines, b'"user.text"')]
    assert place(killed, b'"task_started"', b'"relay:w1"') >= 0
    found = scan(killed, "w1")
    assert found.evidence is None and not found.orphan


def test_a_message_of_unknown_origin_is_an_orphan() -> None:
    lines = rollout("steered")
    killed = lines[: place(lines, b'"UserMessage"', b'"relay:s1"')]
    assert scan(killed, "s1").orphan
    assert scan(killed, "s1").evidence is None
    assert scan(killed, "w1").evidence is not None
    gone_on = [*killed, *rollout("tool_turn")]
    assert not scan(gone_on, "s1").orphan, "a later turn cannot have what was in doubt before"


@pytest.mark.parametrize("name", NAMES)
def test_no_record_of_a_session_that_ended_well_has_orphans(name: str) -> None:
    assert not scan(rollout(name), "another").orphan


def test_a_record_is_read_line_by_line_whatever_is_in_it() -> None:
    lines = rollout("steered")
    whole = scan(lines, "s1")
    odd = [b"\n", b"\xff\xfe\n", b'"UserMessage"\n', b'["user.text"]\n', b'{"task_started": 1\n']
    assert scan([*odd, *lines, lines[-1][:-9]], "s1") == whole
    assert scan([b"".join(odd)], "s1") == scan([], "s1")


def test_usage_is_by_turn_and_in_total() -> None:
    lines = rollout("tool_turn")
    found = scan(lines)
    assert list(found.usage.values()) == [Usage(300, 30, 0), Usage(100, 10, 0)]
    assert found.total == Usage(400, 40, 0)


# --- checkpoints --------------------------------------------------------------------------------------


def test_a_checkpoint_brings_back_all_that_it_must() -> None:
    thread = Thread("c", turn="t3", outcome=Outcome.FAILED, empty=False, retrying=True)
    thread.ended.extend(["t1", "t2"])
    thread.told.extend(["i1", "i2"])
    thread.tools["i3"] = OpenTool("t3", runs_on=True)
    thread.writes.hand("w1", Entry.STEER)
    thread.writes.accept("w1", "t3")
    thread.writes.hand("w2", Entry.NEXT_TURN)
    thread.asks.told["i3.0"] = "allow"
    thread.meter.total, thread.meter.base = Usage(3, 2, 1), Usage(1, 1, 1)
    thread.resets_at = 12.5
    saved = json.loads(json.dumps(checkpoint.dump(thread, "/r")))
    assert checkpoint.load(saved, None) == (thread, "/r")


@pytest.mark.parametrize(
    "saved",
    [None, {}, [], "x", {"v": 2, "conversation": "c"}, {"v": 1}, {"v": 1, "conversation": 3}],
)
def test_what_is_no_checkpoint_of_ours_is_none(saved: Json) -> None:
    assert checkpoint.load(saved, None) is None


def test_a_checkpoint_with_odd_parts_is_read_as_far_as_it_goes() -> None:
    saved: Json = {
        "v": 1,
        "conversation": "c",
        "turn": 4,
        "outcome": "great",
        "told": ["i", 1],
        "tools": {"a": "b", "c": ["t", True]},
        "writes": {"w": ["sometime", None], "x": ["steer", 7]},
        "total": [1, 2],
    }
    loaded = checkpoint.load(saved, None)
    assert loaded is not None
    thread, path = loaded
    assert (thread.turn, path, list(thread.told)) == (None, "", ["i"])
    assert list(thread.tools) == ["c"] and list(thread.writes.handed) == ["x"]
    assert thread.meter.total is None
