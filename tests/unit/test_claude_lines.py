"""Lines, checkpoints and single odd lines of Claude's output; and the lines that we write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.unit.claude_player import (
    ALL,
    Player,
    lines_of,
    play,
    uuid,
)

from relay_drivers.claude import commands
from relay_drivers.claude.checkpoint import Checkpoint
from relay_drivers.claude.lines import MAX_LINE, Lines, TooLong
from relay_drivers.claude.observations import Garbage
from relay_drivers.claude.protocol import Protocol
from relay_drivers.claude.reading import observe
from relay_drivers.claude.state import State
from relay_drivers.claude.text import neutralise
from relay_runtime.contract import Entry, Json
from relay_runtime.events import (
    Idle,
    Notice,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
    for mention in ("@/etc/passwd", '@"a b"', "@agent-x"):
        text = f"x{before}{mention}" if before else mention
        assert neutralise(text) == text.replace("@", "\u2060@")


def test_addresses_inside_words_stay_as_they_are() -> None:
    assert neutralise("me@example.org v1@2 字@x") == "me@example.org v1@2 字@x"
