"""Codex's own queue, where a person at the thread leaves what is to come next. Pure.

We put nothing in it, but it decides whether codex waits for input: between two turns it looks idle
for 10 to 50 ms. What is queued is taken out before its turn starts, so an empty queue proves nothing
when it was not empty before. An interrupt pauses it until some other turn has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: When no turn has started by now, codex waits like we do, whatever is in its queue.
QUEUE_S: Final = 2.0


@dataclass(slots=True)
class Submissions:
    #: It is not what it was when we looked; nor do we know what it is before we have looked.
    changed: bool = True
    _size: int | None = None
    _taken: bool = False  # something was taken out since a turn ran, so one is about to start
    _until: float | None = None

    def listed(self, size: int) -> None:
        """It holds `size` submissions now."""
        self._taken = self._size is not None and size < self._size
        self._size, self.changed = size, False

    def goes_on(self, boundary: bool, paused: bool, now: float) -> bool:
        """Whether to expect a turn that codex starts by itself. Ask again after `patience`."""
        if not boundary:
            self._taken, self._until = False, None
            return False
        if not self._taken and (paused or not self._size):
            return False
        self._until = self._until or now + QUEUE_S
        return now < self._until

    def patience(self, now: float) -> float | None:
        """How long to wait for that turn; None: it is not waited for."""
        return None if self._until is None else max(self._until - now, 0)


__all__ = ["QUEUE_S", "Submissions"]
