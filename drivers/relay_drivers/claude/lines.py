"""The bytes of Claude's stdout as lines, in whatever pieces they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A line carries at most one tool result or message; the largest seen in practice are a few MB
#: (whole files in tool results). Past this it is not held in memory but reported and skipped.
MAX_LINE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line that was longer than `MAX_LINE`; its rest is skipped too."""


class Lines:
    """Splits a stream at newlines and knows which byte has not been consumed yet.

    `offset` is that of the first byte after the last complete line: where to read again after a
    crash. `skipping` says that the bytes from there up to the next newline are to be thrown away.
    """

    def __init__(self, offset: int, *, skipping: bool = False) -> None:
        self.offset = offset
        self.skipping = skipping
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> Iterator[bytes | TooLong]:
        """The lines that `data` completes, without their newline and without empty ones.

        `offset` is right after each line that was yielded and after exhaustion.
        """
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            piece = data[start:end]
            start = end + 1
            self.offset += self._held + len(piece) + 1
            line = b"".join((*self._parts, piece)) if self._parts else piece
            self._parts.clear()
            self._held = 0
            if self.skipping:
                self.skipping = False
            elif line.strip():
                yield line
        if start < len(data):
            yield from self._hold(data[start:])

    def _hold(self, rest: bytes) -> Iterator[TooLong]:
        if not self.skipping:
            self._parts.append(rest)
            self._held += len(rest)
            if self._held <= MAX_LINE:
                return
            self.skipping = True
            self.offset += self._held
            self._parts.clear()
            self._held = 0
            yield TooLong()
        else:
            self.offset += len(rest)

    def resync(self, offset: int) -> None:
        """Bytes were lost: go on at `offset`, from the first line that is surely whole."""
        self.offset = offset
        self.skipping = True
        self._parts.clear()
        self._held = 0


__all__ = ["MAX_LINE", "Lines", "TooLong"]
