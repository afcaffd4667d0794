"""When a view ends: some time after the last one who looked at it has gone. Arithmetic only."""

from __future__ import annotations

#: For the first to come. Whoever starts a view looks at it at once.
FIRST_S = 30.0


class Leaving:
    """`after_s` None: it never ends by itself."""

    def __init__(self, after_s: float | None, now: float) -> None:
        self._after_s = after_s
        self.deadline = None if after_s is None else now + max(FIRST_S, after_s)

    def watched(self, by: int, now: float) -> None:
        """`by` people look at it now."""
        if self._after_s is None:
            return
        if by:
            self.deadline = None
        elif self.deadline is None:
            self.deadline = now + self._after_s

    def due(self, now: float) -> bool:
        return self.deadline is not None and now >= self.deadline
