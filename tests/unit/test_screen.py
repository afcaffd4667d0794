"""What a terminal shows after a program's output, and that a snapshot restores all of it."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_runtime.screen import LARGEST_SIDE, Cursor, Screen, exact, new_screen
from relay_runtime.screen.plain import PlainScreen

if TYPE_CHECKING:
    from collections.abc import Callable

needs_emulator = pytest.mark.skipif(not exact(), reason="pyghostty has no wheel for this platform")

MODES: tuple[int, ...] = (
    1,
    5,
    6,
    7,
    9,
    12,
    25,
    45,
    66,
    69,
    1000,
    1002,
    1003,
    1004,
    1005,
    1006,
    1007,
)
MODES += (1015, 1016, 1036, 1039, 1045, 2004, 2027, 2031, 2048)


def shown(data: bytes, rows: int = 5, cols: int = 12) -> Screen:
    screen = new_screen(rows, cols)
    screen.feed(data)
    return screen


def restored(screen: Screen) -> Screen:
    return shown(screen.snapshot(), screen.rows, screen.cols)


def seen(screen: Screen) -> dict[str, object]:
    return {
        "text": screen.text(),
        "ansi": screen.ansi(),
        "cursor": screen.cursor,
        "title": screen.title,
        "alternate": screen.alternate,
        "modes": [number for number in MODES if screen.mode(number)],
    }


# --- what is shown ----------------------------------------------------------------------------------


@needs_emulator
def test_a_new_screen_is_empty_with_the_cursor_at_home() -> None:
    with new_screen(3, 10) as screen:
        assert (screen.rows, screen.cols) == (3, 10)
        assert screen.text() == screen.ansi() == ["", "", ""]
        assert screen.cursor == Cursor(0, 0, True)
        assert (screen.title, screen.alternate) == ("", False)


@needs_emulator
@pytest.mark.parametrize(
    ("data", "text", "cursor"),
    [
        (b"one\r\ntwo  ", ["one", "two", ""], Cursor(1, 5, True)),
        (b"\x1b[2;3Hx\x1b[?25l", ["", "  x", ""], Cursor(1, 3, False)),
        (b"abcdefghij", ["abcdefghij", "", ""], Cursor(0, 9, True)),
        (b"abcdefghijk", ["abcdefghij", "k", ""], Cursor(1, 1, True)),
        (b"1\n2\n3\n4", [" 2", "  3", "   4"], Cursor(2, 4, True)),
        ("中文e\u0301".encode(), ["中文e\u0301", "", ""], Cursor(0, 5, True)),
        (b"123456789\xe4\xb8\xad", ["123456789", "中", ""], Cursor(1, 2, True)),
        (b"\x1b(0qx\x1b(B.", ["─│.", "", ""], Cursor(0, 3, True)),
        (b"a\x7fb", ["ab", "", ""], Cursor(0, 2, True)),
        (b"a\xff\xfeb", ["a\ufffd\ufffdb", "", ""], Cursor(0, 4, True)),
    ],
)
def test_text_and_cursor_are_as_on_a_terminal(data: bytes, text: list[str], cursor: Cursor) -> None:
    screen = shown(data, 3, 10)
    assert (screen.text(), screen.cursor) == (text, cursor)


@needs_emulator
def test_output_may_be_cut_anywhere() -> None:
    data = (
        "\x1b[1;31mr\u00e9d\x1b[m \x1b]0;t\u00eftle\x07中\x1b[?2004h\x1b[3;4Hx\U0001f600".encode()
    )
    for cut in range(len(data)):
        screen = shown(data[:cut])
        screen.feed(data[cut:])
        assert seen(screen) == seen(shown(data))
    screen = new_screen(5, 12)
    for byte in data:
        screen.feed(bytes([byte]))
    assert seen(screen) == seen(shown(data))


@needs_emulator
def test_modes_can_be_asked_by_number() -> None:
    screen = shown(b"\x1b[?2004h\x1b[?1003;1006h\x1b[?1h\x1b[?7l")
    for number in (1, 25, 1003, 1006, 2004):
        assert screen.mode(number)
    for number in (7, 1000, 1049, 31337, 99999999, -1):
        assert not screen.mode(number)


@needs_emulator
def test_a_title_holds_nothing_that_acts_on_a_terminal() -> None:
    assert shown("\x1b]2;a \u202eb\u009dc\x07".encode()).title == "a bc"
    assert shown(b"\x1b]0;plain\x1b\\").title == "plain"


@needs_emulator
def test_the_alternate_screen_comes_and_goes() -> None:
    screen = shown(b"before\x1b[?1049h\x1b[2J\x1b[Hthen")
    assert (screen.alternate, screen.text()[0]) == (True, "then")
    screen.feed(b"\x1b[?1049l")
    assert (screen.alternate, screen.text()[0]) == (False, "before")
    assert screen.cursor == Cursor(0, 6, True)


@needs_emulator
def test_each_row_of_ansi_stands_for_itself() -> None:
    screen = shown(b"\x1b[31mred\r\nstill\x1b[m no\r\n\x1b[44m\x1b[K", 4, 12)
    first, second, third, fourth = screen.ansi()
    assert first == "\x1b[31mred\x1b[0m"
    assert second == "\x1b[31mstill\x1b[0m no"
    assert third == "\x1b[44m" + " " * 12 + "\x1b[0m"
    assert fourth == ""


@needs_emulator
def test_cells_that_nothing_was_written_to_have_no_style() -> None:
    screen = shown(b"\x1b[7ma\x1b[Cb\x1b[m\r\n\x1b[3Cc\r\x1b[44md")
    assert screen.ansi()[0] == "\x1b[7ma\x1b[0m \x1b[7mb\x1b[0m"
    assert screen.ansi()[1] == "\x1b[44md\x1b[0m  c"


# --- sizes ------------------------------------------------------------------------------------------


@needs_emulator
def test_long_lines_are_reflowed() -> None:
    screen = shown(b"abcdefghijklmnop", 4, 8)
    screen.resize(4, 12)
    assert (screen.rows, screen.cols) == (4, 12)
    assert screen.text() == ["abcdefghijkl", "mnop", "", ""]
    screen.resize(3, 4)
    assert screen.text() == ["ijkl", "mnop", ""]


@needs_emulator
def test_a_program_cannot_change_the_size() -> None:
    screen = shown(b"\x1b[?40h\x1b[?3hwide?", 5, 80)
    assert (screen.rows, screen.cols, len(screen.text())) == (5, 80, 5)
    assert restored(screen).text() == screen.text()


@pytest.mark.parametrize("make", [new_screen, PlainScreen])
@pytest.mark.parametrize("size", [(0, 80), (24, 0), (-1, -1), (LARGEST_SIDE + 1, 80), (24, 65535)])
def test_sizes_that_no_terminal_has_are_refused(
    make: Callable[[int, int], Screen], size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="a screen has 1 to 1000 rows and columns"):
        make(*size)
    screen = make(24, 80)
    with pytest.raises(ValueError, match="rows by"):
        screen.resize(*size)
    assert (screen.rows, screen.cols) == (24, 80)


# --- snapshots --------------------------------------------------------------------------------------


@needs_emulator
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain \x1b[1;3;4:3;38;2;1;2;3;48;5;200mstyled\x1b[m",
        b"\x1b[44m\x1b[2J\x1b[2;3Hbackgrounds",
        b"\x1b[48;2;9;8;7m\x1b[K\x1b[m\x1b[3;5H\x1b[41m\x1b[3X",
        b"abcdefghijkl",
        b"\x1b[31mabcdefghijk\x1b[44ml\x1b[m",
        "abcdefghij中".encode(),
        b"a long line that wraps over rows",
        b"\x1b]0;title\x07\x1b[?25l\x1b[4 q",
        b"\x1b[2;4r\x1b[?6h\x1b[2;3H",
        b"\x1b[?69h\x1b[3;6s\x1b[2;3r\x1b[?6h\x1b[2;2H",
        b"\x1b[4h\x1b[?7labc\x1b[1;2H",
        b"\x1b[3g\x1b[1;5H\x1bH\r",
        b"\x1b)0\x0eqqq",
        b"\x1b[?1h\x1b=\x1b[?1000h\x1b[?1006h\x1b[?1004h\x1b[?2004h\x1b[>5u\x1b[>4;2m",
        b"one\x1b7\x1b[33mtwo\x1b[4;4H",
        b'\x1b(0q\x1b]8;;http://x\x07\x1b[1"q\x1b7\x1b(B\x1b]8;;\x07\x1b[0"qq',
        b"\x1b[2;4r\x1b[?6h\x1b[2;2H\x1b7\x1b[?6l\x1b[1;5H",
        b"under\x1b[35m\x1b[?1049h\x1b[Hover\x1b7\x1b[3;3H\x1b[>1u",
        b"under\x1b[?47h\x1b[Hover",
        b"\x1b]8;id=1;http://x\x1b\\link",
    ],
)
@pytest.mark.parametrize(
    "more",
    [
        b"",
        b"qZ",
        b"Z\x1b[?2K",
        b"\x1b8Z",
        b"\x1b[?1049lZ\x1b[?47lZ",
        b"\tZ\r\n\n\n\n\n\nY",
        b"\x1b[1;1H\x1b[LZ\x0f\x1b[?6l\x1b[r",
    ],
)
def test_a_restored_screen_shows_the_same_and_goes_on_the_same(data: bytes, more: bytes) -> None:
    screen = shown(data)
    copy = restored(screen)
    assert seen(copy) == seen(screen)
    screen.feed(more)
    copy.feed(more)
    assert seen(copy) == seen(screen)


@needs_emulator
def test_the_screen_under_the_alternate_one_has_its_cursor_where_it_was() -> None:
    screen = shown(b"under\x1b[2;4r\x1b[?6h\x1b[2;3H\x1b[?1049hover")
    copy = restored(screen)
    for one in (screen, copy):
        one.feed(b"\x1b[?1049lZ")
    assert (copy.text(), copy.cursor) == (screen.text(), screen.cursor)


@needs_emulator
def test_a_snapshot_inside_a_sequence_lets_it_go_on() -> None:
    data = "\x1b[1;31mr\u00e9d\x1b]0;t\u00eftle\x07\x1b[?1049h中\x1b[3;4Hx\U0001f600".encode()
    for cut in range(len(data)):
        copy = restored(shown(data[:cut]))
        copy.feed(data[cut:])
        assert seen(copy) == seen(shown(data))


@needs_emulator
def test_a_snapshot_shows_also_while_the_program_holds_its_output_back() -> None:
    snapshot = shown(b"\x1b[?2026hhalf frame").snapshot()
    assert b"half frame" in snapshot
    assert b"2026" not in snapshot


@needs_emulator
def test_a_wrapped_line_stays_one_line() -> None:
    copy = restored(shown(b"abcdefghijklmnop", 4, 8))
    copy.resize(4, 16)
    assert copy.text()[0] == "abcdefghijklmnop"


@needs_emulator
def test_a_snapshot_has_the_screen_alone_and_no_scrollback() -> None:
    screen = shown(b"".join(b"line %d\r\n" % number for number in range(5000)), 5, 12)
    assert b"line 4000" not in screen.snapshot()
    assert seen(restored(screen)) == seen(screen)


@needs_emulator
def test_a_string_too_long_to_keep_leaves_the_screen_whole() -> None:
    screen = shown(b"text\x1b]52;c;" + b"x" * (2 << 20))
    assert restored(screen).text() == screen.text() == ["text", "", "", "", ""]


# --- any output -------------------------------------------------------------------------------------

_number = st.integers(0, 15)
_texts = st.text("abcXYZ 0123é中文👍\u0301\u200d─", min_size=1, max_size=20)
_control = st.sampled_from(["\r", "\n", "\r\n", "\b", "\t"])
_sgr = st.lists(
    st.sampled_from(
        [
            "0",
            "1",
            "2",
            "3",
            "4",
            "4:3",
            "5",
            "7",
            "8",
            "9",
            "21",
            "22",
            "24",
            "27",
            "31",
            "39",
            "44",
            "49",
            "53",
            "91",
            "103",
            "38;5;99",
            "48;5;17",
            "58;5;3",
        ]
        + ["38;2;1;2;3", "48;2;40;50;60", "58:2::7:8:9", "59"]
    ),
    min_size=1,
    max_size=4,
).map(lambda codes: f"\x1b[{';'.join(codes)}m")
_moves = st.builds("\x1b[{}{}".format, _number, st.sampled_from("ABCDEFGdXPL@MSTJKIZ`"))
_place = st.builds("\x1b[{};{}{}".format, _number, _number, st.sampled_from("HHHr"))
_erase = st.builds("\x1b[{}{}".format, st.integers(0, 2), st.sampled_from("JK"))
_modes = st.builds(
    "\x1b[?{}{}".format, st.sampled_from([*MODES, 47, 1047, 1049, 2026]), st.sampled_from("hl")
)
_other = st.sampled_from(
    ["\x1b7", "\x1b8", "\x1bD", "\x1bM", "\x1bE", "\x1bH", "\x1b[3g", "\x1b(0lqk\x1b(B"]
    + ["\x1b[4h", "\x1b[4l", "\x1b[20h", "\x1b[20l", "\x1b=", "\x1b>", "\x1b#8", "\x1b[!p", "\x1bc"]
    + ["\x1b[>1u", "\x1b[<u", "\x1b[=5;1u", "\x1b[>4;2m", "\x1b[2 q", "\x1b[5 q", "\x1b[0 q"]
    + ["\x1b]0;one\x07", "\x1b]2;zw\u00f6lf\x1b\\", "\x1b]8;;http://x\x07", "\x1b]8;;\x07"]
    + ['\x1b[1"q', '\x1b[0"q', "\x1b[2;9s", "\x1b[?1049h", "\x1b[?1049l"]
)
_pieces = st.one_of(_texts, _texts, _texts, _control, _sgr, _moves, _place, _erase, _modes, _other)
streams = st.lists(_pieces, max_size=60).map(lambda pieces: "".join(pieces).encode())
sizes = st.tuples(st.integers(1, 12), st.integers(2, 24))


@needs_emulator
@settings(deadline=None)
@given(streams, sizes, st.integers(0))
def test_any_output_can_be_restored_at_any_byte(
    data: bytes, size: tuple[int, int], where: int
) -> None:
    cut = where % (len(data) + 1)
    screen = shown(data[:cut], *size)
    assert seen(restored(screen)) == seen(screen)


@needs_emulator
@settings(deadline=None)
@given(streams, streams, sizes)
def test_a_restored_screen_goes_on_as_the_first(
    before: bytes, after: bytes, size: tuple[int, int]
) -> None:
    screen = shown(_settled(before), *size)
    copy = restored(screen)
    screen.feed(_settled(after))
    copy.feed(_settled(after))
    first, second = seen(screen), seen(copy)
    # An empty cell is a blank in the copy, which can take part in a style without being seen.
    del first["ansi"], second["ansi"]
    assert first == second


def _settled(data: bytes) -> bytes:
    """Without what depends on more than can be restored: which cells hold a blank and which nothing
    (to combine with), and where lines were wrapped (to step back over)."""
    for text in ("\u0301", "\u200d", "\x1b[?45h", "\x1b[?1045h"):
        data = data.replace(text.encode(), b"")
    return data


_huge = st.builds(
    "\x1b[{}{}{}".format,
    st.sampled_from(["", "?", ">", "="]),
    st.sampled_from(["65535", "4294967296", "9" * 40, "9;" * 500, "0;65535;65535", "-1"]),
    st.sampled_from("ABCDEFGHIJKLMPSTXZ@`adefghlmnqrstux"),
).map(str.encode)
_cut_off = st.sampled_from(
    [
        b"\x1b]0;" + b"t" * 9000,
        b"\x1bPq#0" + b"~" * 9000,
        b"\x1b_Ga=T,f=32,s=9999,v=9999;AAAA\x1b\\",
    ]
    + [
        b"\x1b]52;c;" + b"A" * 9000 + b"\x07",
        b"\x1b]4;" + b"1;?;" * 900 + b"\x07",
        b"\x1b[?40h\x1b[?3h",
    ]
    + [b"e" + "\u0301".encode() * 3000, "👨\u200d".encode() * 500, b"\xf0\x9f", b"\xc2\x9b"]
)
_anything = st.lists(
    st.one_of(st.binary(max_size=60), st.binary(max_size=60), _huge, _cut_off, streams), max_size=12
)
_edge_sizes = st.sampled_from([(1, 1), (1, 1000), (1000, 1), (24, 80), (60, 200), (5, 10), (2, 2)])


@pytest.mark.parametrize("make", [new_screen, PlainScreen])
@settings(deadline=None)
@given(data=st.lists(st.tuples(_anything, _edge_sizes), min_size=1, max_size=5))
def test_no_output_and_no_size_breaks_a_screen(
    make: Callable[[int, int], Screen], data: list[tuple[list[bytes], tuple[int, int]]]
) -> None:
    with make(24, 80) as screen:
        for pieces, size in data:
            screen.resize(*size)
            for piece in pieces:
                screen.feed(piece)
            assert (screen.rows, screen.cols) == size
            assert len(screen.text()) == len(screen.ansi()) == screen.rows
            assert 0 <= screen.cursor.row < screen.rows
            assert 0 <= screen.cursor.col < screen.cols
            assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in screen.title)
            assert not any(
                ord(char) < 32 or 127 <= ord(char) < 160 for row in screen.text() for char in row
            )
            with make(*size) as copy:
                copy.feed(screen.snapshot())
                assert copy.title == screen.title


@needs_emulator
def test_the_largest_screen_can_be_filled_and_restored() -> None:
    screen = shown(b"\x1b#8\x1b[1000;1000H\x1b[41mx", LARGEST_SIDE, LARGEST_SIDE)
    copy = restored(screen)
    assert (copy.text(), copy.ansi()) == (screen.text(), screen.ansi())
    assert len(screen.text()[-1]) == LARGEST_SIDE


@needs_emulator
def test_what_scrolls_away_takes_a_bounded_amount_of_memory() -> None:
    screen = new_screen(40, 120)
    lines = b"".join(b"%d \x1b[3%dm%s\r\n" % (n, n % 8, b"x" * 100) for n in range(5000))
    for _ in range(4):
        screen.feed(lines)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(40):
        screen.feed(lines)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 4096
    screen.feed(b"\x1b]0;" + b"x" * 20_000_000)
    screen.feed(b"\x1b\\\x1b_G" + b"x" * 20_000_000 + b"\x1b\\")
    screen.feed(b"e" + "\u0301".encode() * 1_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 65536


# --- closing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [new_screen, PlainScreen])
def test_a_screen_can_be_closed_twice(make: Callable[[int, int], Screen]) -> None:
    screen = make(5, 10)
    screen.close()
    screen.close()
    with make(5, 10) as other:
        other.close()


@needs_emulator
def test_a_closed_screen_says_so() -> None:
    screen = shown(b"x")
    screen.close()
    for use in (screen.text, screen.ansi, screen.snapshot, lambda: screen.feed(b"x")):
        with pytest.raises(ValueError, match="the screen is closed"):
            use()
