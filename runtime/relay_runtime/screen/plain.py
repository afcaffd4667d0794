"""What is left of a screen where there is no terminal emulator."""

from __future__ import annotations

import codecs
import itertools
import re

from ..visible_text import VisibleText
from .base import Cell, Cursor, Saved, Screen, check_size

#: Of printed text, which is more than a screen shows.
KEPT_CHARACTERS = 1 << 16
# Those that a terminal's owner would notice if they were wrong: keys, cursor, screen, mouse, paste.
_MODES = frozenset({1, 7, 9, 25, 47, 66, *range(1000, 1008), 1015, 1016, 1047, 1049, 2004, 2031})
_SET_AFTER_RESET = frozenset({7, 25})
_ALTERNATE = frozenset({47, 1047, 1049})
_MODE = re.compile("\x1b\\[\\?([0-9;]+)([hl])")
_TITLE = re.compile("\x1b\\][02];([^\x00-\x1f\x7f-\x9f]*)(?:\x07|\x1b\\\\)")
_RESET = "\x1bc"


class PlainScreen(Screen):
    """No emulator: the modes and the title are right, the text is what was printed last.

    A snapshot sets the modes and clears; the program paints again when its terminal changes size.
    """

    def __init__(self, rows: int, cols: int) -> None:
        check_size(rows, cols)
        self._size = rows, cols
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._visible = VisibleText(self._act)
        self._modes: dict[int, bool] = {}  # in the order in which they were set
        self._title = ""
        self._printed = ""

    @property
    def rows(self) -> int:
        return self._size[0]

    @property
    def cols(self) -> int:
        return self._size[1]

    @property
    def cursor(self) -> Cursor:
        """Behind what was printed last."""
        lines = self._lines()
        return Cursor(len(lines) - 1, min(len(lines[-1]), self.cols - 1), self.mode(25))

    @property
    def title(self) -> str:
        return self._title

    @property
    def alternate(self) -> bool:
        return any(self.mode(number) for number in _ALTERNATE)

    def mode(self, number: int) -> bool:
        return self._modes.get(number, number in _SET_AFTER_RESET)

    def feed(self, data: bytes) -> None:
        self._printed = (self._printed + self._visible.feed(self._decode(data)))[-KEPT_CHARACTERS:]

    def resize(self, rows: int, cols: int) -> None:
        check_size(rows, cols)
        self._size = rows, cols

    def snapshot(self) -> bytes:
        modes = sorted(self._modes.items(), key=lambda mode: mode[0] not in _ALTERNATE)
        parts = [f"\x1b[?{number}{'h' if value else 'l'}" for number, value in modes]
        title = f"\x1b]2;{self._title}\x1b\\" if self._title else ""
        return f"{''.join(parts)}\x1b[2J\x1b[H{title}".encode()

    def save(self) -> Saved:
        return Saved(*self._size, "", b"", self.snapshot())

    def text(self) -> list[str]:
        lines = [line.rstrip(" ") for line in self._lines()]
        return lines + [""] * (self.rows - len(lines))

    def ansi(self) -> list[str]:
        return self.text()

    def cells(self) -> list[list[Cell]]:
        return [[Cell(character) for character in line] for line in self.text()]

    def close(self) -> None:
        self._printed = ""

    def _lines(self) -> list[str]:
        """The last lines of what was printed, cut where the screen ends; at least one."""
        last = self._printed[-(self.rows * self.cols + self.rows) :]
        cut = (_cut(line.expandtabs(), self.cols) for line in last.split("\n")[-self.rows :])
        return list(itertools.chain.from_iterable(cut))[-self.rows :]

    def _act(self, sequence: str) -> None:
        """Keeps what a sequence says about modes and the title."""
        if sequence == _RESET:
            self._modes.clear()
            self._title = ""
        elif found := _MODE.fullmatch(sequence):
            # A parameter of many digits is none of ours, and long ones are slow to read.
            for digits in found[1].split(";"):
                if len(digits) < 5 and digits and (number := int(digits)) in _MODES:
                    self._modes.pop(number, None)
                    self._modes[number] = found[2] == "h"
        elif found := _TITLE.fullmatch(sequence):
            self._title = found[1]


def _cut(line: str, width: int) -> list[str]:
    return [line[at : at + width] for at in range(0, len(line), width)] or [""]
