"""Claude's record on disk, looked through for a write that was typed; and what is kept of writes."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from relay_drivers.claude.tui import journal
from relay_drivers.claude.tui.writes import MAX_WRITES, Way, Write, Writes, print_of

if TYPE_CHECKING:
    from pathlib import Path

    Line = dict[str, object]

pytestmark = pytest.mark.anyio

TEXT = "[relay msg 1 from x]\ndo it\n[end of relay msg 1]"


def prompt(text: str, prompt_id: str, uuid: str = "u1") -> Line:
    origin = {"kind": "human"}
    message = {"role": "user", "content": text}
    return {
        "type": "user",
        "uuid": uuid,
        "promptId": prompt_id,
        "origin": origin,
        "message": message,
    }


def said(model: str = "claude-opus", **fields: object) -> Line:
    return {"type": "assistant", "message": {"id": "m", "model": model, "content": []}, **fields}


DONE: Line = {"type": "system", "subtype": "turn_duration"}
INTERRUPTED: Line = {
    "type": "user",
    "promptId": "p1",
    "message": {"content": "[Request interrupted by user]"},
}
ABSORBED: Line = {
    "type": "attachment",
    "uuid": "a1",
    "attachment": {"type": "queued_command", "prompt": TEXT},
}
QUEUED: Line = {"type": "queue-operation", "operation": "enqueue", "content": TEXT}


def record(folder: Path, *lines: Line, more: bytes = b"") -> str:
    path = folder / "c1.jsonl"
    written = [json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines]
    path.write_bytes(b"".join(written) + more)
    return str(path)


@pytest.mark.parametrize(
    "follows", [said(), DONE, INTERRUPTED, said("<synthetic>", isApiErrorMessage=True)]
)
async def test_what_the_model_or_its_error_followed_is_in_the_context(
    tmp_path: Path, follows: Line
) -> None:
    path = record(tmp_path, prompt("before", "p0"), DONE, prompt(TEXT, "p1"), follows)
    found = await journal.find(path, 0, print_of(TEXT))
    assert found == journal.Found("u1", "p1", answered=True)


async def test_an_answer_that_was_written_before_what_it_answers_is_one(tmp_path: Path) -> None:
    """As 2.1.197 does in the first turn of a conversation."""
    asked = {**prompt(TEXT, "p1"), "timestamp": "2026-11-21T23:05:17.934Z"}
    answer = {**said(), "timestamp": "2026-11-21T23:05:18.066Z"}
    path = record(tmp_path, answer, {**DONE, "timestamp": "2026-11-21T23:05:18.080Z"}, asked)
    found = await journal.find(path, 0, print_of(TEXT))
    assert found == journal.Found("u1", "p1", answered=True)


@pytest.mark.parametrize("follows", [[], [QUEUED], [said("<synthetic>")]])
async def test_what_nothing_followed_may_be_taken_back_yet(
    tmp_path: Path, follows: list[Line]
) -> None:
    found = await journal.find(record(tmp_path, prompt(TEXT, "p1"), *follows), 0, print_of(TEXT))
    assert found == journal.Found("u1", "p1", answered=False)


async def test_what_was_taken_back_is_known_by_what_was_sent_after_it(tmp_path: Path) -> None:
    lines = [prompt(TEXT, "p1"), prompt("something else", "p2", "u2"), said(), DONE]
    found = await journal.find(record(tmp_path, *lines), 0, print_of(TEXT))
    assert found is not None and found.taken_back and not found.answered
    lines += [prompt(TEXT, "p3", "u3"), said()]
    found = await journal.find(record(tmp_path, *lines), 0, print_of(TEXT))
    assert found == journal.Found("u3", "p3", answered=True)


async def test_what_entered_a_running_turn_is_in_the_context(tmp_path: Path) -> None:
    found = await journal.find(record(tmp_path, QUEUED, ABSORBED), 0, print_of(TEXT))
    assert found == journal.Found("a1", None, answered=True)


async def test_what_stood_there_before_the_write_or_is_not_whole_is_not_found(
    tmp_path: Path,
) -> None:
    path = record(tmp_path, prompt(TEXT, "p1"), said())
    assert await journal.find(path, journal.size(path), print_of(TEXT)) is None
    half = json.dumps(prompt(TEXT, "p2")).encode()
    assert await journal.find(record(tmp_path, more=half), 0, print_of(TEXT)) is None
    assert await journal.find(str(tmp_path / "none"), 0, print_of(TEXT)) is None


async def test_a_record_is_read_on_from_where_it_was_left(tmp_path: Path) -> None:
    path = record(tmp_path, prompt("one", "p1"), more=b'{"type":"us')
    lines, at = await journal.since(path, 0)
    assert len(lines) == 1
    assert await journal.since(path, at) == ([], at)
    record(tmp_path, prompt("one", "p1"), prompt("two", "p2"), DONE)
    lines, end = await journal.since(path, at)
    assert len(lines) == 2 and end == journal.size(path)


def write(write_id: str) -> Write:
    return Write(write_id, print_of(TEXT), Way.KEYS, 1, 2, "/r", 3, 4.0, "5.6")


def test_writes_are_known_to_whoever_comes_next_and_to_nobody_else(tmp_path: Path) -> None:
    Writes(str(tmp_path)).keep(write("w1"))
    assert Writes(str(tmp_path)).get("w1") == write("w1")
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "relay msg 1" not in file.read_text().replace(print_of(TEXT).head, "")


def test_only_the_newest_writes_are_kept(tmp_path: Path) -> None:
    writes = Writes(str(tmp_path))
    for number in range(MAX_WRITES + 3):
        writes.keep(write(f"w{number}"))
    assert writes.get("w2") is None and writes.get("w3") is not None
