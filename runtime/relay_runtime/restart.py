"""What follows when an agent's process ends, and how long an error of its model endpoint holds it.

Pure: time and chance are arguments. Restarts are counted in a true sliding window of timestamps
that is kept over supervisor restarts; a run that was stable for long enough starts the delays
afresh, never the count. What would fail the same way again is not repeated: a start that failed
stops the session, a login that is refused waits for a human.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from .events import ErrorClass, ExitClass

if TYPE_CHECKING:
    from .events import ErrorInfo

#: Longest exponent that is worth computing: 2**30 s is beyond any bound.
_MAX_EXPONENT: Final = 30
#: First and longest hold of an error that says nothing about when it passes. A rate limit is
#: probed once per hold, so the first wait is long enough for a per-minute limit to refill half.
_HOLDS: Final = {
    ErrorClass.RATE_LIMIT: (30.0, 900.0),
    ErrorClass.OVERLOADED: (5.0, 120.0),
}
#: First wait of an error that says when it passes: a time that was kept to and did not help was
#: wrong, and an agent that is told again and again to go on fills its conversation with it.
_TOLD_HOLD: Final = 1.0
#: Share of a wait that is random, so that many sessions do not come back in step.
_HOLD_JITTER: Final = 0.2


class Policy(StrEnum):
    """When the agent is started again after it ended without being asked to."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Times in seconds. At most `max_restarts` within any `period_s`."""

    policy: Policy = Policy.ON_FAILURE
    max_restarts: int = 5
    period_s: float = 600.0
    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    jitter: float = 0.2
    stable_after_s: float = 60.0
    same_conversation: bool = True


@dataclass(frozen=True, slots=True)
class History:
    """Restarts of one session: when each was due, and how many in a row without a stable run."""

    restarts: tuple[float, ...] = field(default=())
    in_a_row: int = 0
    fresh_tried: bool = False  #: a refused conversation was given up for a fresh one already


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it at `at`; `resume` says whether in the same conversation."""

    at: float
    resume: bool
    history: History


@dataclass(frozen=True, slots=True)
class HoldFor:
    """Wait for a human: nothing we do can help."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The session is over."""

    reason: str


def decide(
    policy: RestartPolicy, history: History, exit_class: ExitClass, now: float, chance: float
) -> Restart | HoldFor | Stop:
    """What follows an exit that nobody asked for. `chance` is random in [0, 1)."""
    if exit_class is ExitClass.AUTH:
        return HoldFor("it is not logged in")
    if exit_class is ExitClass.START_FAILED:
        return Stop("it did not start")
    if policy.policy is Policy.NEVER:
        return Stop("it ended, and its restart policy is never")
    if exit_class is ExitClass.CLEAN and policy.policy is Policy.ON_FAILURE:
        return Stop("it ended by itself")
    if exit_class is ExitClass.RESUME_REFUSED and history.fresh_tried:
        return Stop("it refuses its conversation, and a fresh one too")
    recent = tuple(at for at in history.restarts if at > now - policy.period_s)
    if len(recent) >= policy.max_restarts:
        return Stop(f"crash loop: {len(recent)} restarts in {policy.period_s:g} s")
    calm = bool(recent) and now - recent[-1] >= policy.stable_after_s
    in_a_row = 0 if calm or not recent else history.in_a_row
    at = now + backoff(policy, in_a_row, chance)
    refused = exit_class is ExitClass.RESUME_REFUSED
    return Restart(
        at,
        resume=policy.same_conversation and not refused,
        history=replace(
            history,
            restarts=(*recent, at),
            in_a_row=in_a_row + 1,
            fresh_tried=refused or (history.fresh_tried and not calm),
        ),
    )


def backoff(policy: RestartPolicy, in_a_row: int, chance: float) -> float:
    """Seconds before the next start: never beyond `max_s`, jitter included."""
    delay = policy.initial_s * policy.factor ** min(in_a_row, _MAX_EXPONENT)
    delay = min(delay, policy.max_s)
    return delay * (1 - policy.jitter * chance)


def hold_for(error: ErrorInfo, failures: int, now: float, chance: float) -> float | None:
    """Until when a session waits after `failures` turns in a row failed so; None: for a human."""
    if error.error not in _HOLDS:
        return None
    first, longest = _HOLDS[error.error]
    told = now
    if error.retry_at is not None and error.retry_at > now:
        first, told = _TOLD_HOLD, error.retry_at
    delay = min(first * 2.0 ** min(max(failures - 1, 0), _MAX_EXPONENT), longest)
    return max(told, now + delay * (1 - _HOLD_JITTER * chance))
