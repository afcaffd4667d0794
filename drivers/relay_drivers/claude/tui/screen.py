"""What Claude's terminal interface shows: its input box, or what stands in its place. Pure.

The screen is asked before keys are sent, so it must never say more than can be seen. Whatever does
not look exactly as an input box that has the cursor is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Literal

from relay_runtime.screen.plain import PlainScreen

from . import dialogues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay_runtime.screen import Screen

    from .dialogues import Dialogue

#: Narrower, the note about a stashed draft is cut or broken up.
LEAST_COLS: Final = 24

#: A person's input begins behind this; what was said before is shown behind `❯` and a blank.
_PROMPT: Final = "❯\xa0"
_LINE: Final = re.compile("─+")
#: The upper edge of the box has the session's name when it was given one.
_EDGE: Final = re.compile("─+(?: .* ─+)?")
#: At the end of the line above the box, and in older versions of one below it.
_STASHED_ABOVE: Final = re.compile(r"(?:.*[\s·]|)draft stashed")
_STASHED_BELOW: Final = re.compile(r"(?:.*[\s·]|)› stashed")
_INTERRUPT: Final = "esc to interrupt"
_IDLE: Final = "✳"
_WORKING: Final = re.compile("[◐◑◒◓\u2801-\u28ff]")
_STYLE: Final = re.compile(r"\x1b\[([0-9;]*)m|(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TuiScreen:
    """`input` is the box that takes what is typed: empty, with a draft, or none that can be seen.

    `stashed`: a draft was put aside, by whomever; only known where there is an input. `busy` None:
    nothing says so. Not busy while it waits for an answer.
    """

    input: Literal["empty", "draft", "none"]
    stashed: bool
    dialogue: Dialogue | None
    busy: bool | None


@dataclass(frozen=True, slots=True)
class _Box:
    top: int  #: its upper edge
    bottom: int  #: its lower edge


def read(screen: Screen) -> TuiScreen:
    """What `screen` shows of Claude. Without a terminal emulator that is next to nothing."""
    if isinstance(screen, PlainScreen):
        return TuiScreen("none", stashed=False, dialogue=None, busy=_busy(screen.title, ()))
    rows, cursor = screen.text(), screen.cursor
    box = _box(rows, cursor.row, screen.cols)
    if box is None:
        dialogue = dialogues.find(rows, cursor.row, cursor.col)
        return TuiScreen("none", stashed=False, dialogue=dialogue, busy=_busy(screen.title, ()))
    below = rows[box.bottom + 1 :]
    stashed = _STASHED_ABOVE.fullmatch(rows[box.top - 1]) is not None
    stashed = stashed or any(_STASHED_BELOW.fullmatch(row) for row in below)
    return TuiScreen(
        input="empty" if _is_empty(screen, rows, box) else "draft",
        stashed=stashed,
        dialogue=None,
        busy=_busy(screen.title, below),
    )


def _box(rows: Sequence[str], cursor_row: int, cols: int) -> _Box | None:
    """The input box, when all of it is on the screen and the cursor is inside."""
    if cols < LEAST_COLS:
        return None
    inside = len(list(takewhile(_may_be_input, reversed(rows[:cursor_row]))))
    first = cursor_row - inside
    if not rows[cursor_row].startswith(_PROMPT):
        first -= 1
    bottom = cursor_row + 1
    while bottom < len(rows) and _may_be_input(rows[bottom]):
        bottom += 1
    top = first - 1
    if top < 1 or bottom >= len(rows) or not rows[first].startswith(_PROMPT):
        return None
    whole = _LINE.fullmatch(rows[bottom]) and len(rows[bottom]) == cols
    return _Box(top, bottom) if whole and _EDGE.fullmatch(rows[top]) else None


def _may_be_input(row: str) -> bool:
    """Whether it can be a further line of an input."""
    return not row or row.startswith("  ")


def _is_empty(screen: Screen, rows: Sequence[str], box: _Box) -> bool:
    row = box.top + 1
    if box.bottom - row > 1 or screen.cursor.col != len(_PROMPT):
        return False
    shown = rows[row][len(_PROMPT) :].strip()
    return not shown or _is_hint(screen.ansi()[row])


def _is_hint(row: str) -> bool:
    """Whether what follows the prompt was not typed: a hint is faint but for what is under the
    cursor."""
    faint, cells = False, list[bool | None]()
    for style, character in _STYLE.findall(row):
        if character:
            cells.append(faint if character.strip() else None)
        else:
            faint = _faint(style, faint)
    typed = [cell for cell in cells[len(_PROMPT) + 1 :] if cell is not None]
    return bool(typed) and all(typed)


def _faint(style: str, faint: bool) -> bool:
    """Whether text is faint after a sequence that sets a style."""
    numbers = iter(style.split(";"))
    for number in numbers:
        if number in ("38", "48", "58"):
            # A colour has one or three numbers of its own, which may be a 2 too.
            for _ in range(3 if next(numbers, "") == "2" else 1):
                next(numbers, "")
        elif number == "2":
            faint = True
        elif number in ("", "0", "22"):
            faint = False
    return faint


def _busy(title: str, footer: Sequence[str]) -> bool | None:
    if _WORKING.match(title) or any(_INTERRUPT in row for row in footer):
        return True
    return False if title.startswith(_IDLE) else None


__all__ = ["LEAST_COLS", "TuiScreen", "read"]
