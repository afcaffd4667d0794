"""The steps by which a child is ended, in time. No I/O: told the time, it says what to do."""

from __future__ import annotations

DRAIN, INTERRUPT, TERM, KILL = "drain", "interrupt", "term", "kill"
STEPS = (DRAIN, INTERRUPT, TERM, KILL)
#: Longest a single step may be asked to take: a day. Anything more is a mistake in the unit.
MAX_STEP_S = 86_400.0


#: Seconds for each step before KILL; 0 skips the step.
Bounds = tuple[float, float, float]


def parse_bounds(values: tuple[object, object, object]) -> Bounds:
    """Raises `ValueError`."""
    for value in values:
        if type(value) not in (int, float) or not 0 <= float(str(value)) <= MAX_STEP_S:
            raise ValueError(f"each bound must be a number of seconds from 0 to {MAX_STEP_S:.0f}")
    drain, interrupt, term = (float(str(value)) for value in values)
    return drain, interrupt, term


class Ending:
    """One stop under way. KILL has no bound: it lasts until nothing is left."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._step = -1
        #: When the current step is over; None before the first and in KILL.
        self.deadline: float | None = None

    def due(self, now: float) -> list[str]:
        """The steps that begin now. Several when the ones before have no time."""
        begun: list[str] = []
        while self._step < len(self._bounds) and (self.deadline is None or now >= self.deadline):
            self._step += 1
            if self._step == len(self._bounds):
                self.deadline = None
                begun.append(KILL)
            elif self._bounds[self._step] > 0:
                self.deadline = now + self._bounds[self._step]
                begun.append(STEPS[self._step])
        return begun

    def hasten(self, bounds: Bounds, now: float) -> None:
        """A second request: it can shorten the steps that are left, never start over."""
        drain, interrupt, term = map(min, self._bounds, bounds)
        self._bounds = (drain, interrupt, term)
        if self.deadline is not None:
            self.deadline = min(self.deadline, now + self._bounds[self._step])
