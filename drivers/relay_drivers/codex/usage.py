"""Tokens of a turn, from the totals that codex keeps for the thread. Pure.

Codex reports a total and the last answer's share after each answer of the model. When a turn fails
it reports the same once more, so shares cannot be added up; the difference of two totals can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay_runtime.events import Usage

from .read import Obj, count, sub

if TYPE_CHECKING:
    from relay_runtime.contract import Json

_NOTHING: Final = Usage()


@dataclass(slots=True)
class Meter:
    total: Usage | None = None  #: of the thread; None: not known yet
    base: Usage | None = None  #: … when the running turn began

    def begin_turn(self) -> None:
        self.base = self.total

    def begun_before(self, so_far: Usage) -> None:
        """The running turn began in the past and has used `so_far`."""
        self.base = _minus(self.total or so_far, so_far)

    def take(self, report: Obj) -> None:
        """A report of the app-server."""
        total = reported(sub(report, "total"))
        if self.total is None and self.base is None:
            self.base = _minus(total, reported(sub(report, "last")))
        self.total = total

    def spent(self) -> Usage:
        """Since the running turn began."""
        return _minus(self.total or _NOTHING, self.base or _NOTHING)


def reported(usage: Obj) -> Usage:
    """Counts as the app-server spells them."""
    return Usage(
        input_tokens=count(usage, "inputTokens"),
        output_tokens=count(usage, "outputTokens"),
        cached_tokens=count(usage, "cachedInputTokens"),
    )


def recorded(usage: Obj) -> Usage:
    """Counts as the rollout spells them."""
    return Usage(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cached_tokens=count(usage, "cached_input_tokens"),
    )


def dump(usage: Usage | None) -> Json:
    """For a checkpoint."""
    if usage is None:
        return None
    return [usage.input_tokens, usage.output_tokens, usage.cached_tokens]


def load(saved: object) -> Usage | None:
    match saved:
        case [int(given), int(said), int(cached)]:
            return Usage(given, said, cached)
    return None


def _minus(more: Usage, less: Usage) -> Usage:
    return Usage(
        max(more.input_tokens - less.input_tokens, 0),
        max(more.output_tokens - less.output_tokens, 0),
        max(more.cached_tokens - less.cached_tokens, 0),
    )


__all__ = ["Meter", "dump", "load", "recorded", "reported"]
