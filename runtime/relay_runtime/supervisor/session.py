"""A managed session as the rest of the supervisor sees it: what it is, and what one can ask of it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from ..contract import StopPlan
from ..control_types import SessionInfo
from ..restart import hold_for
from ..turn_types import MAX_BATCH_BYTES, Abilities, Held, Hold, Lifted, SessionState
from .effects import Clock, Effects
from .ledger import Ledger
from .life import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from relay_client.types import Delivery

    from ..contract import Harness, Session
    from ..events import ErrorInfo
    from .journal import Journal, SessionRow
    from .records import Live, SessionRecord

#: `release --force`: long enough for a process to put its terminal and locks in order.
FORCE_TERM_S = 1.0


class SessionError(Exception):
    """Raised when a session cannot do what was asked in its present state."""


class ManagedSession:
    """See the module. `on_change` is called after every step, `on_receipt` when one has a receipt."""

    def __init__(
        self,
        row: SessionRow,
        journal: Journal,
        harness: Harness,
        folder: str,
        environ: Mapping[str, str] | None,
        on_change: Callable[[ManagedSession], None],
        on_receipt: Callable[[], None],
        *,
        fresh: bool = False,
    ) -> None:
        abilities = Abilities(
            steer=harness.capabilities.steer,
            interrupt=harness.capabilities.interrupt,
            continue_turn=row.record.continue_turn,
            batch_bytes=min(MAX_BATCH_BYTES, harness.capabilities.max_input_bytes),
        )
        changed = lambda: on_change(self)
        self.ledger = Ledger(row, journal, abilities, _until, changed, on_receipt)
        self._life = Life(self.ledger, harness, folder, environ, fresh=fresh)

    async def run(self) -> None:
        """Until the session is over for good. Cancelled: holder and agent go on without us."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Effects(self.ledger, lambda: self._life.session).run)
            tasks.start_soon(Clock(self.ledger).run)
            await self._life.run()
            tasks.cancel_scope.cancel()

    # Questions.

    @property
    def name(self) -> str:
        return self.ledger.record.spec.name

    @property
    def environ(self) -> Mapping[str, str] | None:
        """The session's environment, in memory only; None until its holder was asked."""
        return self._life.environ

    @property
    def ended(self) -> anyio.Event:
        return self._life.ended

    @property
    def started(self) -> anyio.Event:
        """Set when it is ready for the first time, asks a person for something, or has ended."""
        return self._life.started

    def info(self) -> SessionInfo:
        """What `ps` and `spawn` show."""
        shown = self.ledger.shown
        return _info(self.ledger.record, shown.live, shown.state, shown.since).model_copy(
            update={
                "pid": self._life.pid,
                "holder_pid": self._life.holder_pid,
                "turn": shown.turn,
                "queued": shown.queued,
                "reason": shown.reason,
                "retry_at": shown.retry_at,
            }
        )

    async def offer(self, delivery: Delivery) -> None:
        """Take charge of a delivery; returns when that is durable."""
        await self.ledger.offer(delivery)

    # What people ask for.

    async def interrupt(self) -> None:
        """Stop the running turn. Raises `SessionError` when the agent is not running."""
        await self._running().interrupt()

    async def pause(self) -> None:
        """Let the turn go on, write nothing more. Idempotent."""
        await self.ledger.control(Held(Hold.PAUSED))

    async def resume(self) -> None:
        """End every hold, and start the agent again if it waits for that. Idempotent."""
        live = replace(self.ledger.live, failures=0)
        await self.ledger.control(*[Lifted(hold) for hold in self.ledger.holds], live=live)
        self._life.wake()

    async def answer(self, request_id: str | None, allow: bool, message: str | None) -> None:
        """Answer an open permission request; None answers the only one."""
        known = [request.request_id for request in self.ledger.live.requests]
        if request_id is None and len(known) == 1:
            request_id = known[0]
        if request_id is None or request_id not in known:
            which = ", ".join(known) or "none is open"
            raise SessionError(f"name an open request of {self.name}: {which}")
        await self._running().answer(request_id, allow, message)

    async def release(self, *, force: bool, reason: str | None = None) -> None:
        """End the session: let it finish its turn (unless `force`), end every process."""
        stop = self.ledger.record.stop
        if force:
            stop = StopPlan(0.0, 0.0, min(stop.term_s, FORCE_TERM_S))
        await self.ledger.control(Held(Hold.PAUSED))
        await self._life.release(stop, reason)
        await self.ended.wait()

    def _running(self) -> Session:
        if self._life.session is None or self._life.pid is None:
            raise SessionError(f"{self.name} is {self.ledger.state}: its agent is not running")
        return self._life.session


def _until(error: ErrorInfo, failures: int, now: float) -> float | None:
    return hold_for(error, failures, now, random.random())


def ended_info(row: SessionRow) -> SessionInfo:
    """What `ps --all` shows of a session that is over."""
    return _info(row.record, row.live, SessionState.EXITED, row.since)


def _info(record: SessionRecord, live: Live, state: SessionState, since: float) -> SessionInfo:
    spec = record.spec
    return SessionInfo(
        session_id=spec.session_id,
        agent_id=spec.agent_id,
        name=spec.name,
        harness=spec.harness,
        mode=spec.mode,
        state=state,
        pid=None,
        waiting=list(live.requests),
        usage=live.usage,
        since=since,
        reason=live.reason,
        cwd=spec.cwd,
        model=live.model or spec.model,
        profile=record.profile,
        conversation=live.conversation,
        restarts=live.restarts,
        label=record.label,
        tags=list(record.tags),
        created_at=record.created_at,
    )
