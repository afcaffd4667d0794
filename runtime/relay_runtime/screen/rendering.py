"""The cells of a screen as text with styles.

The library's own formatter leaves out rows that have a background and no text, and gives the style
of a cell to the empty cells after it, so it is not used for this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import abi

if TYPE_CHECKING:
    from .terminal import Cells, Row, Terminal

_RESET = "\x1b[0m"
_SPACER = "\0"
_ATTRIBUTES = (
    ("bold", 1),
    ("faint", 2),
    ("italic", 3),
    ("blink", 5),
    ("inverse", 7),
    ("invisible", 8),
    ("strikethrough", 9),
    ("overline", 53),
)
# Where the eight colours begin, the eight bright ones, and any other: text, then background.
_TEXT, _BACKGROUND = (30, 90, 38), (40, 100, 48)


def rows(terminal: Terminal, cells: Cells) -> list[str]:
    """Each row, beginning and ending without a style; blanks at its end left out."""
    return [text for text, _ in _rows(terminal, cells)]


def joined(terminal: Terminal, cells: Cells) -> str:
    """All rows, for a terminal of this width with the cursor at home."""
    found = _rows(terminal, cells)
    while found and not found[-1][0]:
        found.pop()
    parts = []
    for number, (text, blanks) in enumerate(found):
        below, _ = found[number + 1] if number + 1 < len(found) else ("", 0)
        # Terminals differ in how wide some characters are: that must not move the rows below.
        if below and text.isascii() and below.isascii() and _goes_on(terminal, cells, number):
            parts.append(text + " " * blanks)
        else:
            parts.append(text + "\r\n")
    return "".join(parts).removesuffix("\r\n")


def _goes_on(terminal: Terminal, cells: Cells, number: int) -> bool:
    """Whether a row was filled to its last column and its line then went on in the next."""
    row, below = cells.rows[number : number + 2]
    last, first = terminal.look(row.cells[-1]), terminal.look(below.cells[0])
    return row.wraps and last.codepoint != 0 and first.codepoint != 0


def _rows(terminal: Terminal, cells: Cells) -> list[tuple[str, int]]:
    """Each row, and the number of blanks after it."""
    known = _Known(terminal)
    return [_row(terminal, number, row, known) for number, row in enumerate(cells.rows)]


class _Known(dict[int, tuple[str, bool, int, str]]):
    """Of the bits of a cell: its text, whether it is wide, its style's number, its own background.

    The text is empty where there are several characters, and _SPACER behind a wide one.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def __missing__(self, cell: int) -> tuple[str, bool, int, str]:
        look = self._terminal.look(cell)
        text = chr(look.codepoint) if look.codepoint else " "
        if look.cluster:
            text = ""
        elif look.wide == abi.WIDE_SPACER_TAIL:
            text = _SPACER
        wide = look.wide == abi.WIDE_WIDE
        self[cell] = text, wide, look.style, _color(look.background, _BACKGROUND)
        return self[cell]


def _row(terminal: Terminal, number: int, row: Row, known: _Known) -> tuple[str, int]:
    if not any(row.cells):
        return "", len(row.cells)
    parts: list[str] = []
    styles = {0: ""}  # a number can be another style in another row
    style, blanks = "", 0
    for col, cell in enumerate(row.cells):
        text, wide, style_number, background = known[cell]
        if text == _SPACER:
            continue
        if wide and (col + 1 == len(row.cells) or text == " "):
            # Cut in two when the screen was made narrower, or drawn where there is no such character.
            text = " " if col + 1 == len(row.cells) else "  "
        if style_number not in styles:
            styles[style_number] = _sgr(terminal.style(number, col))
        wanted = styles[style_number] + background
        if text == " " and not wanted:
            blanks += 1
            continue
        if style and (blanks or wanted != style):
            parts.append(_RESET)
            style = ""
        if blanks:
            parts.append(" " * blanks)
            blanks = 0
        if wanted != style:
            parts.append(wanted)
            style = wanted
        parts.append(text or terminal.cluster(number, col))
    if style:
        parts.append(_RESET)
    return "".join(parts), blanks


def _sgr(style: abi.Style) -> str:
    codes = [str(code) for name, code in _ATTRIBUTES if getattr(style, name)]
    parts = [f"\x1b[{';'.join(codes)}m"] if codes else []
    if style.underline:
        parts.append("\x1b[4m" if style.underline == 1 else f"\x1b[4:{style.underline}m")
    parts += [_color(style.fg_color, _TEXT), _color(style.bg_color, _BACKGROUND)]
    # With colons, so that a terminal which does not know it takes nothing in it for something else.
    under, value = style.underline_color.tag, style.underline_color.value
    if under == abi.STYLE_COLOR_PALETTE:
        parts.append(f"\x1b[58:5:{value.palette}m")
    elif under == abi.STYLE_COLOR_RGB:
        parts.append(f"\x1b[58:2::{value.rgb.r}:{value.rgb.g}:{value.rgb.b}m")
    return "".join(parts)


def _color(color: abi.StyleColor, codes: tuple[int, int, int]) -> str:
    dim, bright, other = codes
    value = color.value
    if color.tag == abi.STYLE_COLOR_RGB:
        return f"\x1b[{other};2;{value.rgb.r};{value.rgb.g};{value.rgb.b}m"
    if color.tag != abi.STYLE_COLOR_PALETTE:
        return ""
    if value.palette < 8:
        return f"\x1b[{dim + value.palette}m"
    if value.palette < 16:
        return f"\x1b[{bright + value.palette - 8}m"
    return f"\x1b[{other};5;{value.palette}m"
