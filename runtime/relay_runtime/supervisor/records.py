"""What the supervisor keeps about a session: its fixed record and its live part, as JSON and back.

No secret is in either; the session's environment lives in the holder's memory alone.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read by pydantic
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import ConfigDict, JsonValue, TypeAdapter

from ..contract import Json, SessionSpec, StopPlan
from ..control_types import PendingRequest, UsageTotals
from ..events import (
    ErrorCleared,
    HarnessError,
    PermissionRequested,
    PermissionResolved,
    SessionReady,
    TurnEnded,
)
from ..restart import History, RestartPolicy

if TYPE_CHECKING:
    from ..events import Event


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one session that its profile may change."""

    queue: int = 1000  #: messages that may wait for it
    start_s: float = 60.0  #: from exec to readiness; a cold OpenCode took 4 s, a loaded laptop more
    turn_idle_s: float = 900.0  #: a turn silent for this long is reported, never killed
    log_bytes: int = 256 * 1024 * 1024  #: of output kept, per stream


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What was asked for at spawn. Never changes."""

    spec: SessionSpec
    created_at: float
    label: str | None = None
    tags: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    profile: str | None = None
    machine: str | None = None
    project: str | None = None
    task: str | None = None
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    stop: StopPlan = field(default_factory=StopPlan)
    limits: Limits = field(default_factory=Limits)
    continue_turn: bool = True
    meta: dict[str, JsonValue] = field(default_factory=dict)

    __pydantic_config__ = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True)
class Live:
    """What changes as the session runs, and must be known again after `kill -9`."""

    machine: Mapping[str, Json] = field(default_factory=dict)
    requests: tuple[PendingRequest, ...] = ()
    usage: UsageTotals = field(default_factory=UsageTotals)
    conversation: str | None = None
    model: str | None = None
    reason: str | None = None
    retry_at: float | None = None
    input_seq: int = 0  #: highest holder sequence number given to a write
    exited_run: int = 0  #: the holder's run whose exit has been dealt with
    failures: int = 0  #: turns in a row that the model endpoint failed
    waits_for_human: bool = False  #: held after its process ended, until `resume`
    restarts: int = 0
    history: History = field(default_factory=History)
    ended: bool = False  #: over for good

    def seeing(self, event: Event) -> Live:
        """The live part after `event`, as far as it is only kept and not decided upon."""
        match event:
            case SessionReady(conversation, model=model):
                return replace(self, conversation=conversation, model=model or self.model)
            case TurnEnded(error=error):
                usage = _added(self.usage, event)
                reason = error.message if error is not None else None
                return replace(self, requests=(), usage=usage, reason=reason, retry_at=None)
            case HarnessError(error) if error.retrying:
                return replace(self, reason=error.message, retry_at=error.retry_at)
            case ErrorCleared():
                return replace(self, reason=None, retry_at=None)
            case PermissionRequested(request_id, tool, detail):
                request = PendingRequest(request_id=request_id, tool=tool, detail=detail)
                others = tuple(r for r in self.requests if r.request_id != request_id)
                return replace(self, requests=(*others, request))
            case PermissionResolved(request_id):
                left = tuple(r for r in self.requests if r.request_id != request_id)
                return replace(self, requests=left)
        return self


def _added(totals: UsageTotals, turn: TurnEnded) -> UsageTotals:
    cost = totals.cost_usd
    if turn.cost_usd is not None:
        cost = (cost or 0.0) + turn.cost_usd
    return UsageTotals(
        turns=totals.turns + 1,
        input_tokens=totals.input_tokens + turn.usage.input_tokens,
        output_tokens=totals.output_tokens + turn.usage.output_tokens,
        cached_tokens=totals.cached_tokens + turn.usage.cached_tokens,
        cost_usd=cost,
    )


RECORD = TypeAdapter(SessionRecord)
LIVE = TypeAdapter(Live)
