"""The cells of a screen, each with its text and look, from the library's own form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import abi
from .base import Cell

if TYPE_CHECKING:
    from .base import Color
    from .terminal import Cells, Row, Terminal


def rows(terminal: Terminal, cells: Cells) -> list[list[Cell]]:
    return [_row(terminal, number, row) for number, row in enumerate(cells.rows)]


def _row(terminal: Terminal, number: int, row: Row) -> list[Cell]:
    if not any(row.cells):
        return []
    found: list[Cell] = []
    styles: dict[int, Cell] = {0: Cell()}  # a number can be another style in another row
    for col, bits in enumerate(row.cells):
        look = terminal.look(bits)
        if look.wide == abi.WIDE_SPACER_TAIL and found and found[-1].width == 2:
            continue
        if look.style not in styles:
            styles[look.style] = _styled(terminal.style(number, col))
        cell = styles[look.style]
        text = chr(look.codepoint) if look.codepoint else " "
        if look.cluster:
            text = terminal.cluster(number, col)
        # At the end of a row, a wide one was cut in two when the screen was made narrower.
        width = 2 if look.wide == abi.WIDE_WIDE and col + 1 < len(row.cells) else 1
        own = _color(look.background)
        background = cell.background if own is None else own
        found.append(cell._replace(text=text, width=width, background=background))
    return found


def _styled(style: abi.Style) -> Cell:
    return Cell(
        color=_color(style.fg_color),
        background=_color(style.bg_color),
        bold=style.bold,
        faint=style.faint,
        italic=style.italic,
        underline=bool(style.underline),
        inverse=style.inverse,
        invisible=style.invisible,
        strikethrough=style.strikethrough,
    )


def _color(color: abi.StyleColor) -> Color:
    value = color.value
    if color.tag == abi.STYLE_COLOR_RGB:
        return value.rgb.r, value.rgb.g, value.rgb.b
    if color.tag == abi.STYLE_COLOR_PALETTE:
        return int(value.palette)
    return None
