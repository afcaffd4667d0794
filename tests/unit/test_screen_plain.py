"""What a screen knows where there is no terminal emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay_runtime.screen import Cursor, abi, exact, new_screen
from relay_runtime.screen.plain import PlainScreen

from .test_screen import MODES

if TYPE_CHECKING:
    import pytest


def plain(data: bytes) -> PlainScreen:
    screen = PlainScreen(3, 10)
    screen.feed(data)
    return screen


def test_without_an_emulator_modes_and_title_are_right() -> None:
    data = b"\x1b[?1049h\x1b[?1000;1006h\x1b[?2004h\x1b[?1000l\x1b[?25l\x1b]2;a title\x07"
    for cut in range(len(data)):
        screen = plain(data[:cut])
        screen.feed(data[cut:])
        assert [number for number in MODES if screen.mode(number)] == [7, 1006, 2004]
        assert (screen.title, screen.alternate) == ("a title", True)
        copy = plain(screen.snapshot())
        assert [number for number in MODES if copy.mode(number)] == [7, 1006, 2004]
        assert (copy.title, copy.alternate) == ("a title", True)
    screen.feed(b"\x1bc")
    assert (screen.mode(25), screen.mode(2004), screen.title) == (True, False, "")


def test_without_an_emulator_the_text_is_what_was_printed_last() -> None:
    screen = plain(b"one\r\n\x1b[31mtwo\x1b[m\r\nthree is long\r\nend")
    assert screen.text() == screen.ansi() == ["three is l", "ong", "end"]
    assert screen.cursor == Cursor(2, 3, True)
    assert plain(b"one").text() == ["one", "", ""]
    screen.resize(2, 20)
    assert screen.text() == ["three is long", "end"]
    screen.feed(b"x\r\n" * 200_000)
    assert screen.text() == ["x", ""]


def test_without_an_emulator_a_snapshot_clears_for_the_program_to_paint() -> None:
    snapshot = plain(b"text\x1b[?2004h\x1b[?1049h").snapshot()
    assert snapshot == b"\x1b[?1049h\x1b[?2004h\x1b[2J\x1b[H"


def test_where_there_is_no_library_screens_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    abi.load.cache_clear()
    try:
        monkeypatch.setattr(abi, "VERSION", "0.0.0")
        assert not exact()
        assert isinstance(new_screen(24, 80), PlainScreen)
    finally:
        monkeypatch.undo()
        abi.load.cache_clear()
