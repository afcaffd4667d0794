"""What to write to a terminal so that it shows a screen. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .switches import Switches
from .terminal import RESET

if TYPE_CHECKING:
    from ..screen import Screen

#: Terminals that know them show everything in between at once.
BEGIN, END = b"\x1b[?2026h", b"\x1b[?2026l"
_ENTERS = re.compile(rb"\x1b\[\?(?:47|1047|1049)h")
#: What keys and pastes look like, and whether the mouse is reported, also when we draw ourselves.
_MODES = (1, 1000, 1002, 1003, 1004, 1006, 2004)


def whole(screen: Screen) -> bytes:
    """For a terminal of the screen's size: everything, so that the program's own output may follow.

    A sequence that the program has only begun is left to the output that ends it.
    """
    # We are on one screen all the time: what a program has on the other one must not stay below.
    shown, _ = Switches().feed(_ENTERS.sub(b"\x1b[m\x1b[2J", screen.snapshot()))
    return BEGIN + RESET + b"\x1b[2J\x1b[H" + shown + END


def part(screen: Screen, rows: int, cols: int) -> bytes:
    """For a terminal of another size: as much as fits, with the row of the cursor in sight."""
    cursor = screen.cursor
    top = max(0, min(cursor.row - rows + 1, screen.rows - rows))
    out = [BEGIN, b"\x1b[?7l\x1b[?25l"]
    out += [b"\x1b[?%d%c" % (mode, b"lh"[screen.mode(mode)]) for mode in _MODES]
    lines = screen.ansi()[top : top + rows]
    for number, line in enumerate(lines, 1):
        out.append(b"\x1b[%d;1H\x1b[m\x1b[2K%s\x1b[m" % (number, line.encode()))
    out.append(b"\x1b[J" if len(lines) < rows else b"")
    if cursor.visible and cursor.col < cols:
        out.append(b"\x1b[%d;%dH\x1b[?25h" % (cursor.row - top + 1, cursor.col + 1))
    return b"".join(out) + END


def notice(text: str, rows: int, cols: int) -> bytes:
    """One line in the last row, until the screen is painted without it; no text: an empty row.

    Cursor and pen are where they were. What the program had saved of them itself is lost until then.
    """
    shown = b"\x1b[7m" + f" {text} "[:cols].encode() if text else b""
    return b"\x1b7\x1b[%d;1H\x1b[m\x1b[K%s\x1b8" % (rows, shown)


def title(text: str) -> bytes:
    """Of the window. Control characters in it would end it and act on the terminal."""
    return b"\x1b]2;" + "".join(filter(str.isprintable, text)).encode() + b"\x1b\\"


def retitles(data: bytes) -> bool:
    """Whether output may change the title of the window: by a string, or by taking an older one."""
    return b"\x1b]" in data or b"\x1b[23" in data


__all__ = ["notice", "part", "retitles", "title", "whole"]
