"""Reading /proc: what a line means, and who is below whom."""

from __future__ import annotations

import pytest

from relay_runtime.holder.proc import Stat, descendants, parse_stat

REST = b"S 41 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 10 11"


@pytest.mark.parametrize("name", [b"cat", b"a) R 1 (b", b"two words", b"line\nbreak", b"", b")"])
def test_a_program_cannot_forge_its_line_by_its_name(name: bytes) -> None:
    stat = parse_stat(43, b"43 (" + name + b") " + REST)
    assert (stat.pid, stat.parent, stat.start_ticks, stat.state) == (43, 41, 987654, "S")


def test_descendants_are_all_the_living_below_and_nobody_else() -> None:
    family = [
        Stat(10, 1, 5, "S"),
        Stat(11, 10, 5, "S"),
        Stat(12, 11, 5, "R"),
        Stat(13, 10, 5, "Z"),
        Stat(14, 1, 5, "S"),
    ]
    assert [stat.pid for stat in descendants(10, family)] == [11, 12]
    assert descendants(99, family) == []
