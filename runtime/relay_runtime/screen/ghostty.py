"""The screen that libghostty-vt keeps: as a terminal shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import abi, grid, rendering, snapshot
from .base import Cell, Cursor, Saved, Screen, check_size
from .snapshot import Painting
from .terminal import Terminal

if TYPE_CHECKING:
    from .snapshot import State

# Control and formatting characters, with which a title could act where it is shown.
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LEAVE_ALTERNATE = b"\x1b[?1049l\x1b[?1047l\x1b[?47l"
_RESTORE_CURSOR = b"\x1b8"
#: Ends an unfinished sequence, so that what follows is no part of it.
_CANCEL = b"\x18"
#: Whose state it is that `save` gives: another version may have another one.
EMULATOR = f"pyghostty {abi.VERSION}"


class GhosttyScreen(Screen):
    """Every method but `close` raises ValueError once the screen is closed."""

    def __init__(self, rows: int, cols: int) -> None:
        check_size(rows, cols)
        self._size = rows, cols
        self._terminal = Terminal(rows, cols)

    @property
    def rows(self) -> int:
        return self._size[0]

    @property
    def cols(self) -> int:
        return self._size[1]

    @property
    def cursor(self) -> Cursor:
        return Cursor(*self._terminal.cursor(), self._terminal.cursor_visible())

    @property
    def title(self) -> str:
        return _ACTING.sub("", self._terminal.title().decode("utf-8", "replace"))

    @property
    def alternate(self) -> bool:
        return self._terminal.alternate()

    def mode(self, number: int) -> bool:
        return 0 <= number < 1 << 15 and self._terminal.mode(number)

    def feed(self, data: bytes) -> None:
        # Terminals ignore DEL; the library would give it a cell.
        self._terminal.feed(data.replace(b"\x7f", b""))
        if self._terminal.size() != self._size:
            # DECCOLM makes a terminal 80 or 132 columns wide; a window stays as its user has it.
            self._terminal.resize(*self._size)

    def resize(self, rows: int, cols: int) -> None:
        check_size(rows, cols)
        self._terminal.resize(rows, cols)
        self._size = rows, cols

    def text(self) -> list[str]:
        rows = self._terminal.plain().decode("utf-8", "replace").split("\n")
        return [row.rstrip(" ") for row in rows] + [""] * (self.rows - len(rows))

    def ansi(self) -> list[str]:
        return rendering.rows(self._terminal, self._terminal.cells())

    def cells(self) -> list[list[Cell]]:
        return grid.rows(self._terminal, self._terminal.cells())

    def snapshot(self) -> bytes:
        terminal = self._terminal
        hidden = saved = None
        copy = terminal.copy()
        if copy is not None:
            try:
                copy.feed(_CANCEL + _RESTORE_CURSOR)
                saved = _state(copy)
                if terminal.alternate():
                    copy.feed(_LEAVE_ALTERNATE)
                    hidden = _painting(copy)
            finally:
                copy.close()
        unfinished = terminal.unfinished() or b""
        return snapshot.compose(_painting(terminal), saved, hidden, self.title, unfinished)

    def save(self) -> Saved:
        # A terminal that is decoded inside a sequence cannot tell what of it has come: the painting can.
        inside = self._terminal.unfinished() != b""
        state = b"" if inside else self._terminal.encoded() or b""
        return Saved(*self._size, EMULATOR if state else "", state, self.snapshot())

    @classmethod
    def restored(cls, saved: Saved) -> GhosttyScreen:
        """Raises ValueError when this emulator does not know the state."""
        if saved.emulator != EMULATOR:
            raise ValueError(f"the state is of {saved.emulator or 'no emulator'}")
        screen = cls.__new__(cls)
        screen._terminal = Terminal.decoded(saved.state)
        screen._size = screen._terminal.size()
        return screen

    def close(self) -> None:
        self._terminal.close()


def _state(terminal: Terminal) -> State:
    _, cols = terminal.size()
    return snapshot.read(terminal.whole(), terminal.styled(), cols)


def _painting(terminal: Terminal) -> Painting:
    cells = terminal.cells()
    text = rendering.joined(terminal, cells)
    return Painting(text, _state(terminal), cells.cursor_shape, terminal.alternate())
