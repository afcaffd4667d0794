"""A screen from its output: every byte at the size it was written for."""

from __future__ import annotations

from contextlib import closing

import pytest

from relay_runtime.attach.replay import Replay, SizeAt
from relay_runtime.screen import exact

pytestmark = pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform")

#: Ten columns fill a row of ten, and half a row of twenty.
OUTPUT = b"0123456789ab" + b"\r\n" + b"0123456789ab"
SIZES: list[SizeAt] = [(100, 5, 10), (114, 5, 20)]


@pytest.mark.parametrize("cut", range(len(OUTPUT) + 1))
def test_a_change_of_size_takes_effect_where_it_was_made_however_the_output_is_cut(
    cut: int,
) -> None:
    with closing(Replay(SIZES)) as replay:
        changed = [replay.feed(100, OUTPUT[:cut]), replay.feed(100 + cut, OUTPUT[cut:])]
        assert sum(changed) == 1
        assert (replay.screen.rows, replay.screen.cols) == (5, 20)
        assert replay.screen.text()[:2] == ["0123456789ab", "0123456789ab"]


def test_a_change_that_is_told_before_its_output_waits_for_it() -> None:
    with closing(Replay(SIZES[:1])) as replay:
        replay.resized(SIZES[1])
        assert replay.feed(100, OUTPUT[:5]) is False
        assert replay.screen.cols == 10
        assert replay.feed(105, OUTPUT[5:]) is True
        assert replay.screen.cols == 20


def test_a_terminal_larger_than_any_screen_is_kept_in_part() -> None:
    with closing(Replay([(0, 65_535, 65_535)])) as replay:
        replay.feed(0, b"here")
        assert replay.screen.text()[0] == "here"
