"""What a terminal shows, as far as the command driver must know it."""

from __future__ import annotations

import json

import pytest

from relay_drivers.command.screen import PASTE_OFF, Screen


def screen(rows: int = 40, cols: int = 120) -> Screen:
    return Screen(rows, cols, "utf-8")


CASES = [
    (b"hello", ["hello"], "hello"),
    (b"one\r\ntwo", ["one", "two"], "one\ntwo"),
    (b"12%\r34%", ["34%"], "12%34%"),
    (b"ab\bX", ["aX"], "abX"),
    (b"\x1b[1;31mred\x1b[0m plain", ["red plain"], "red plain"),
    (b"\x1b]0;a title\x07agent> ", ["agent> "], "agent> "),
    (b"\x1b]0;a title\x1b\\agent> ", ["agent> "], "agent> "),
    (b"\x1bP1$r0m\x1b\\x", ["x"], "x"),
    (b"\x1b(B\x1b=\x1b>x", ["x"], "x"),
    (b"abcdef\r\x1b[3C\x1b[K", ["abc"], "abcdef"),
    (b"abcdef\x1b[2D\x1b[P", ["abcdf"], "abcdef"),
    (b"abc\x1b[2K\rx", ["x"], "abcx"),
    (b"one\r\ntwo\x1b[A\rONE", ["ONE"], "one\ntwoONE"),
    (b"one\r\ntwo\x1b[2J\x1b[Hnew", ["new"], "one\ntwonew"),
    (b"a\tb", ["a       b"], "ab"),
    ("größe 字".encode(), ["größe 字"], "größe 字"),
    (b"\xff\xfe", ["��"], "��"),
    (b"\x1b[?2004hx\x1b[?2004l", ["x"], "x" + PASTE_OFF),
    (b"\x1b[?2004l", [""], ""),
    (b"\x1b[999;999Hx\x1b[999A\x1b[999D", [""], "x"),
    (b"\x1b[99999999999999999999Cx", [" " * 120, "x"], "x"),
]


@pytest.mark.parametrize(("data", "lines", "printed"), CASES)
def test_output_is_shown_alike_whole_and_byte_by_byte(
    data: bytes, lines: list[str], printed: str
) -> None:
    whole = screen()
    assert whole.feed(data) == printed
    bytewise = screen()
    assert "".join(bytewise.feed(bytes([byte])) for byte in data) == printed
    assert [line.rstrip() for line in whole.lines] == [line.rstrip() for line in lines]
    assert bytewise.lines == whole.lines


@pytest.mark.parametrize(("data", "lines", "printed"), CASES)
def test_a_screen_goes_on_from_its_dump_at_any_byte(
    data: bytes, lines: list[str], printed: str
) -> None:
    for cut in range(len(data)):
        first, second = screen(), screen()
        before = first.feed(data[:cut])
        second.load(json.loads(json.dumps(first.dump())))
        assert before + second.feed(data[cut:]) == printed
        assert [line.rstrip() for line in second.lines] == [line.rstrip() for line in lines]


def test_long_lines_wrap_as_line_editors_expect() -> None:
    # Readline prints the character that wraps, then a blank and a carriage return.
    wrapped = screen(cols=10)
    wrapped.feed(b"0123456789 \rab")
    assert wrapped.lines == ["0123456789", "ab"]


def test_what_scrolls_off_is_forgotten() -> None:
    small = screen(rows=3)
    small.feed(b"\r\n".join(b"%d" % number for number in range(1000)))
    assert small.lines == ["997", "998", "999"]


def test_bracketed_paste_is_followed_also_among_other_modes() -> None:
    followed = screen()
    followed.feed(b"\x1b[?1004;2004h")
    assert followed.pasting
    followed.feed(b"\x1b[?2004l")
    assert not followed.pasting


def test_a_string_that_never_ends_is_not_kept() -> None:
    endless = screen()
    endless.feed(b"\x1b]0;" + b"x" * 1_000_000)
    assert len(json.dumps(endless.dump())) < 1000
    endless.feed(b"\x07back")
    assert endless.lines == ["back"]


def test_a_sequence_that_never_ends_is_not_kept() -> None:
    endless = screen()
    endless.feed(b"\x1b[" + b"1;" * 500)
    endless.feed(b"1;" * 500)
    assert len(str(endless.dump()["rest"])) <= 256


def test_lost_output_ends_what_was_half_read() -> None:
    gap = screen()
    gap.feed(b"\x1b]0;title")
    gap.skip()
    gap.feed(b"agent> ")
    assert gap.lines == ["agent> "]
