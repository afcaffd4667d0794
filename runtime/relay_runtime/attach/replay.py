"""From a session's output back to its screen: each byte at the size it was written for. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..screen import LARGEST_SIDE, new_screen, restored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..screen import Saved, Screen

#: `[offset, rows, columns]`: from that offset on, the terminal had that size.
SizeAt = tuple[int, int, int]

#: Ends a sequence that is not finished: its end is lost, and what follows is no part of it.
_CANCEL = b"\x18"


class Replay:
    """A screen that is fed output by offset. `sizes` begins where the run does.

    With a screen that was `saved` it begins at `offset`, where that was.
    """

    def __init__(
        self, sizes: Iterable[SizeAt], offset: int = 0, saved: Saved | None = None
    ) -> None:
        (begin, rows, cols), *later = sizes
        if saved is None:
            self.screen: Screen = new_screen(*_held(rows, cols))
            self._offset = begin
        else:
            self.screen, self._offset = restored(saved), offset
            later = [size for size in ((begin, rows, cols), *later) if size[0] >= offset]
        self._later = deque(later)

    def resized(self, size: SizeAt) -> None:
        """The terminal has a new size from an offset on, which may not have been fed yet."""
        if not self._later or self._later[-1] != size:
            self._later.append(size)

    def resizes(self, offset: int, length: int) -> bool:
        """Whether output of that length gives the screen another size."""
        return bool(self._later) and self._later[0][0] <= offset + length

    def feed(self, offset: int, data: bytes) -> bool:
        """The output at `offset`. True: the screen has another size now."""
        if offset > self._offset:
            self.screen.feed(_CANCEL)
        self._offset = offset + len(data)
        if not self.resizes(offset, len(data)):
            self.screen.feed(data)
            return False
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
