"""From a session's output back to its screen: each byte at the size it was written for. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..screen import LARGEST_SIDE, new_screen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..screen import Screen

#: `[offset, rows, columns]`: from that offset on, the terminal had that size.
SizeAt = tuple[int, int, int]


class Replay:
    """A screen that is fed output by offset. `sizes` begins where the run does."""

    def __init__(self, sizes: Iterable[SizeAt]) -> None:
        (_, rows, cols), *later = sizes
        self.screen: Screen = new_screen(*_held(rows, cols))
        self._later = deque(later)

    def resized(self, size: SizeAt) -> None:
        """The terminal has a new size from an offset on, which may not have been fed yet."""
        if not self._later or self._later[-1] != size:
            self._later.append(size)

    def feed(self, offset: int, data: bytes) -> bool:
        """The output at `offset`. True: the screen has another size now."""
        before = (self.screen.rows, self.screen.cols)
        while self._later and self._later[0][0] <= offset + len(data):
            at, rows, cols = self._later.popleft()
            head = max(0, at - offset)
            self.screen.feed(data[:head])
            self.screen.resize(*_held(rows, cols))
            offset, data = offset + head, data[head:]
        if data:
            self.screen.feed(data)
        return (self.screen.rows, self.screen.cols) != before

    def close(self) -> None:
        self.screen.close()


def _held(rows: int, cols: int) -> tuple[int, int]:
    """Terminals can be larger than any screen is; then a part of it is kept."""
    return min(rows, LARGEST_SIDE), min(cols, LARGEST_SIDE)


__all__ = ["Replay", "SizeAt"]
