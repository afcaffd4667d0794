"""A program's switches to the other screen do not reach the terminal of whoever looks on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_runtime.attach.switches import Switches, without_switches

SWITCHES = [b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?47h", b"\x1b[?1047l", b"\x1bc"]
PIECES = [
    *SWITCHES,
    b"text",
    b"\x1b[31m",
    b"\x1b[?25h",
    "é漢".encode(),
    b"\x1b]0;title\x07",
    b"\r\n",
]


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_is_taken_out_and_told(switch: bytes) -> None:
    assert Switches().feed(b"a" + switch + b"b") == (b"ab", True)


def test_modes_beside_the_switch_stay() -> None:
    assert without_switches(b"\x1b[?1049;2004h") == (b"\x1b[?2004h", True)
    assert without_switches(b"\x1b[?2004;25l\x1b[1049h") == (b"\x1b[?2004;25l\x1b[1049h", False)


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.lists(st.integers(1, 9), max_size=60))
def test_the_rest_is_given_out_whole_however_it_is_cut(
    pieces: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(pieces)
    wanted, switched = without_switches(data)
    stream, out, seen, at = Switches(), b"", False, 0
    for size in [*cuts, len(data)]:
        shown, some = stream.feed(data[at : at + size])
        shown.decode()  # never half a character
        assert not shown.endswith(b"\x1b")
        out, seen, at = out + shown, seen or some, at + size
    assert (out, seen) == (wanted, switched)


def test_a_string_that_does_not_end_is_not_kept_back_for_ever() -> None:
    stream = Switches()
    image = b"\x1bP" + b"x" * 10_000
    shown = b"".join(stream.feed(image[at : at + 1000])[0] for at in range(0, len(image), 1000))
    assert len(shown) > 5000
