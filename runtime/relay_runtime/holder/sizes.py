"""How large the session's terminal is: who decides, and since where in its output.

Output means something only at the size it was written for, so a screen can be rebuilt from the log
only together with the sizes. Arithmetic only.
"""

from __future__ import annotations

Size = tuple[int, int]

#: Whose size a terminal gets that several people look at: of the one who came or resized last, or
#: the largest that all of them can show.
POLICIES = ("latest", "smallest")
#: Of one run. Beyond it the oldest are forgotten: output that far back is no longer on the screen.
MAX_SIZES = 1000


def choose(policy: str, views: list[Size]) -> Size | None:
    """The size to take for `views`, the newest last. None: nobody looks, so it stays as it is."""
    if not views:
        return None
    if policy == "smallest":
        return min(rows for rows, _ in views), min(cols for _, cols in views)
    return views[-1]


class Sizes:
    """The sizes of one run, each with the offset in `out` from which on it holds."""

    def __init__(self) -> None:
        self._sizes: list[tuple[int, int, int]] = []

    @property
    def now(self) -> Size | None:
        """Rows and columns; None when there is no terminal."""
        return self._sizes[-1][1:] if self._sizes else None

    def add(self, offset: int, rows: int, cols: int) -> None:
        if self._sizes and self._sizes[-1][0] == offset and len(self._sizes) > 1:
            self._sizes.pop()  # nothing was written at that size
        self._sizes.append((offset, rows, cols))
        if len(self._sizes) > MAX_SIZES:
            del self._sizes[1]  # the first one says where the run begins

    def as_json(self) -> list[list[int]]:
        """`[offset, rows, columns]` each, the first at the beginning of the run."""
        return [list(size) for size in self._sizes]
