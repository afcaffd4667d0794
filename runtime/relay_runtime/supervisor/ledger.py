"""One session's turn machine together with its place in the journal.

Every input goes through `_step`: the machine decides, what it decided is committed in one
transaction, and only then do its effects (write, settle, interrupt) come out for the session to
carry out. So an intent is always on disk before a byte goes out, and a receipt before anybody
hears of it. A commit that fails is repeated until the disk takes it: the machine has moved on and
must not be forgotten; meanwhile the drivers wait in `observe`, and nothing is lost.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
from pydantic_core import to_json

from relay_client.types import DeliveryMode, Message

from ..contract import Entry, Injection, Json
from ..events import (
    ErrorClass,
    ErrorInfo,
    Exited,
    Idle,
    Outcome,
    PermissionResolved,
    TurnEnded,
)
from ..framing import Framed, clean, frame
from ..turn_types import (
    Abilities,
    Action,
    Held,
    Hold,
    Interrupt,
    Pending,
    Report,
    Restarting,
    SessionState,
    Settle,
    Signal,
    Status,
    Write,
)
from ..turns import TurnMachine
from .journal import DeliveryRow, Journal, ReceiptRow, SessionRow, Step, WriteRow, dump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay_client.types import Delivery

    from ..events import Event
    from .records import Live, SessionRecord

_log = logging.getLogger(__name__)

#: Between attempts to commit on a full disk.
COMMIT_RETRY_S = 1.0

#: Errors of the model endpoint that a session waits out.
_HOLDS = {
    ErrorClass.AUTH: Hold.AUTH,
    ErrorClass.RATE_LIMIT: Hold.RATE_LIMIT,
    ErrorClass.OVERLOADED: Hold.OVERLOADED,
}

CUT_NOTE = (
    "[relay-runtime] Your previous turn was cut off: {why}. Go on with what you were doing;"
    " messages you got in it still count."
)


@dataclass(frozen=True, slots=True)
class Inject:
    """Hand this to the harness; the intent is committed."""

    injection: Injection


@dataclass(frozen=True, slots=True)
class Shown:
    """A session as others may see it: as it is on disk, where the next supervisor finds it."""

    live: Live
    state: SessionState
    since: float  #: seconds since the epoch; when it came into this state
    reason: str | None  #: why it is in it, in a few words
    turn: str | None
    queued: int
    retry_at: float | None  #: when the last hold with a known end is over


Effect = Inject | Settle | Interrupt
HoldRule = Callable[[ErrorInfo, int, float], float | None]


class Ledger:
    """See the module. `hold_for(error, failures in a row, now)` says until when to hold."""

    def __init__(
        self,
        row: SessionRow,
        journal: Journal,
        abilities: Abilities,
        hold_for: HoldRule,
        on_change: Callable[[], None],
        on_receipt: Callable[[], None],
    ) -> None:
        self.record: SessionRecord = row.record
        self.live: Live = row.live
        self.checkpoint: Json = row.checkpoint
        self.since = row.since
        self.changed = anyio.Event()
        self._last_event_at = time.time()
        self._journal = journal
        self._hold_for = hold_for
        self._on_change = on_change
        self._on_receipt = on_receipt
        self._lock = anyio.Lock()
        self._machine = TurnMachine(abilities, max_queue=row.record.limits.queue)
        self._items: dict[str, Framed | str] = {}  # what waits; str is the session's own task
        self._open: WriteRow | None = None
        self._state = SessionState(row.state)
        # Bounded by the machine: one write and one settlement are open at most, one interrupt a turn.
        self.effects: deque[Effect] = deque()
        self._effects_came = anyio.Event()
        self._restore()
        self.shown = self._show()

    def _restore(self) -> None:
        session_id = self.record.spec.session_id
        rows = self._journal.open_deliveries(session_id)
        self._open = self._journal.open_write(session_id)
        in_doubt = None
        if self._open is not None:
            entry = Entry(self._open.entry)
            in_doubt = Write(self._open.write_id, self._open.deliveries, entry, self._open.cut)
        pending = [self._pending(row.delivery_id, row.message, row.arrival) for row in rows]
        told = self._journal.reasons_told(session_id)
        self._arrival = max((row.arrival for row in rows), default=0)
        self._machine.restore(self.live.machine, pending, in_doubt, told, time.time())

    # Questions.

    @property
    def state(self) -> SessionState:
        return self._machine.state

    @property
    def queued(self) -> int:
        return self._machine.queued

    @property
    def waiting(self) -> int:
        """Deliveries that are not on their way into the agent yet."""
        return self.queued - (len(self._open.deliveries) if self._open is not None else 0)

    @property
    def deadline(self) -> float | None:
        return self._machine.deadline

    @property
    def silent_since(self) -> float:
        """When something was last heard of the harness, or something was first expected of it."""
        return max(self._last_event_at, self.since)

    @property
    def holds(self) -> dict[Hold, float | None]:
        return dict(self._machine.holds)

    async def next_effect(self) -> Effect:
        """Wait for what is to be carried out next. For one caller."""
        while not self.effects:
            self._effects_came = anyio.Event()
            await self._effects_came.wait()
        return self.effects.popleft()

    # Inputs. Each returns when what it changed is durable.

    async def offer(self, delivery: Delivery) -> None:
        """Take charge of a delivery. One that was offered before is left alone."""
        message = delivery.message.model_dump_json(by_alias=True)
        await self._offer(delivery.delivery_id, message)

    async def offer_task(self, text: str) -> None:
        """The session's own first task: its user's words, without a frame, once per session."""
        await self._offer(f"task:{self.record.spec.session_id}", json.dumps({"task": text}))

    async def _offer(self, delivery_id: str, message: str) -> None:
        async with self._lock:
            if self._journal.knows(delivery_id):
                return
            self._arrival += 1
            pending = self._pending(delivery_id, message, self._arrival)
            now = time.time()
            step = self._new_step(now)
            step.deliveries.append(DeliveryRow(delivery_id, message))
            await self._finish(step, self._machine.offer(pending, now))

    async def observe(self, events: Sequence[Event], checkpoint: Json = None) -> None:
        """Events of the driver and the checkpoint after them, in one transaction."""
        async with self._lock:
            now = time.time()
            self._last_event_at = now
            step = self._new_step(now)
            if checkpoint is not None:
                self.checkpoint = checkpoint
                step.checkpoint = dump(checkpoint)
            actions: list[Action] = []
            for event in events:
                actions += self._observe(event, step, now)
            await self._finish(step, actions)

    async def control(self, *signals: Signal, live: Live | None = None) -> None:
        """Signals of the shell, and a changed live part, in one transaction."""
        async with self._lock:
            now = time.time()
            step = self._new_step(now)
            if live is not None:
                self.live = live
            actions: list[Action] = []
            for signal in signals:
                actions += self._machine.observe(signal, now)
            await self._finish(step, actions)

    async def begin_run(self, signal: Restarting, live: Live) -> None:
        """A new process starts: what was remembered of the old one does not apply to it."""
        async with self._lock:
            now = time.time()
            step = self._new_step(now)
            self.live, self.checkpoint = live, None
            step.checkpoint = "null"
            await self._finish(step, self._machine.observe(signal, now))

    async def end_run(self, exited: Exited, hold: Held | None, live: Live) -> None:
        """The process is gone; `live` and `hold` say what follows from it."""
        async with self._lock:
            now = time.time()
            step = self._new_step(now)
            self.live = live
            actions = self._machine.observe(hold, now) if hold is not None else []
            await self._finish(step, actions + self._observe(exited, step, now))

    async def tick(self) -> None:
        async with self._lock:
            now = time.time()
            await self._finish(self._new_step(now), self._machine.tick(now))

    # One step.

    def _new_step(self, now: float) -> Step:
        return Step(self.record.spec.session_id, now)

    def _observe(self, event: Event, step: Step, now: float) -> list[Action]:
        actions: list[Action] = []
        if isinstance(event, TurnEnded):
            actions += self._judge(event, now)
        if isinstance(event, Idle | Exited):
            for request in self.live.requests:
                withdrawn = PermissionResolved(request.request_id, "withdrawn")
                step.events.append((withdrawn.type, to_json(asdict(withdrawn))))
            self.live = replace(self.live, requests=())
        self.live = self.live.seeing(event)
        step.events.append((event.type, to_json(asdict(event))))
        return actions + self._machine.observe(event, now)

    def _judge(self, turn: TurnEnded, now: float) -> list[Action]:
        """Hold the session before its failed turn can lead to the next write."""
        error = turn.error
        hold = _HOLDS.get(error.error) if error is not None else None
        if turn.outcome is not Outcome.FAILED or error is None or hold is None:
            self.live = replace(self.live, failures=0)
            return []
        self.live = replace(self.live, failures=self.live.failures + 1, reason=error.message)
        until = self._hold_for(error, self.live.failures, now)
        return self._machine.observe(Held(hold, until), now)

    async def _finish(self, step: Step, actions: list[Action]) -> None:
        effects = self._enter(step, actions)
        self._close_writes(step)
        state = self._machine.state
        if state is not self._state:
            self._state, self.since = state, step.at
            step.state = (state.value, step.at)
            step.events.append(("session.state", to_json({"state": state, "reason": self._reason})))
        self.live = replace(self.live, machine=self._machine.snapshot())
        step.live = self.live
        with anyio.CancelScope(shield=True):
            committed = await self._commit(step)
        while not committed:
            await anyio.sleep(COMMIT_RETRY_S)  # the disk is full; there is no event to wait for
            with anyio.CancelScope(shield=True):
                committed = await self._commit(step)
        self.shown = self._show()
        self.effects.extend(effects)
        self._effects_came.set()
        if step.receipts:
            self._on_receipt()
        self.changed.set()
        self.changed = anyio.Event()
        self._on_change()

    def _show(self) -> Shown:
        machine, live = self._machine, self.live
        ends = [until for until in machine.holds.values() if until is not None]
        retry_at = max(ends, default=live.retry_at)
        return Shown(
            live, machine.state, self.since, self._reason, machine.turn_id, machine.queued, retry_at
        )

    @property
    def _reason(self) -> str | None:
        if self.state is SessionState.HELD:
            holds = list(self._machine.holds)
            if self.live.reason and holds != [Hold.PAUSED]:
                return self.live.reason
            return ", ".join(holds) or "the model endpoint is being retried"
        if self.state is SessionState.WAITING:
            return ", ".join(f"{r.tool}: {r.detail}" for r in self.live.requests) or None
        if self.state in (SessionState.EXITED, SessionState.STARTING):
            return self.live.reason
        return None

    async def _commit(self, step: Step) -> bool:
        try:
            await self._journal.commit(step)
        except sqlite3.OperationalError as error:
            _log.error(
                "the journal cannot be written, trying again: %s",
                error,
                extra={"action": "journal_retry", "session": step.session_id},
            )
            return False
        return True

    def _enter(self, step: Step, actions: list[Action]) -> list[Effect]:
        """Write the machine's actions into the step; what is left to do comes back."""
        effects: list[Effect] = []
        for action in actions:
            match action:
                case Report():
                    self._report(step, action)
                case Write():
                    effects.append(self._intend(step, action))
                case Settle() | Interrupt():
                    effects.append(action)
        return effects

    def _report(self, step: Step, report: Report) -> None:
        evidence = to_json(asdict(report.evidence)).decode() if report.evidence else None
        item = self._items[report.delivery_id]
        receipt = ReceiptRow(
            uuid4().hex,
            report.delivery_id,
            report.status.value,
            report.reason,
            evidence,
            report.next_attempt_at,
            step.at,
            local=isinstance(item, str),
        )
        step.receipts.append(receipt)
        seen = {
            "delivery_id": report.delivery_id,
            "message_id": item.message_id if isinstance(item, Framed) else None,
            "status": report.status,
            "reason": report.reason,
            "evidence": asdict(report.evidence) if report.evidence else None,
        }
        step.events.append(("receipt", to_json(seen)))
        if report.status in (Status.DELIVERED, Status.FAILED):
            step.final.append(report.delivery_id)

    def _intend(self, step: Step, write: Write) -> Inject:
        old = self._open
        same = old is not None and old.write_id == write.write_id
        text = old.text if old is not None and same else self._compose(write)
        seq = self.live.input_seq + 1
        self.live = replace(self.live, input_seq=seq)
        row = WriteRow(
            write.write_id, write.deliveries, write.entry.value, write.cut, text, seq, step.at
        )
        step.write = self._open = row
        return Inject(Injection(row.write_id, seq, text, write.entry))

    def _close_writes(self, step: Step) -> None:
        """An intent stays open exactly as long as the machine has it open."""
        row = self._open
        if row is not None and row.write_id != self._machine.open_write:
            step.closed_writes.append(row.write_id)
            self._open = None
        for delivery_id in step.final:
            self._items.pop(delivery_id, None)

    def _compose(self, write: Write) -> str:
        parts = [CUT_NOTE.format(why=clean(write.cut))] if write.cut else []
        items = [self._items[delivery_id] for delivery_id in write.deliveries]
        parts += [item if isinstance(item, str) else frame(item) for item in items]
        return "\n\n".join(parts)

    def _pending(self, delivery_id: str, message: str, arrival: int) -> Pending:
        raw = json.loads(message)
        if "task" in raw:
            text = clean(str(raw["task"]))
            self._items[delivery_id] = text
            return Pending(delivery_id, arrival, len(text.encode()))
        parsed = Message.model_validate(raw)
        framed = Framed(parsed.id, parsed.sender, parsed.body, parsed.thread_id)
        self._items[delivery_id] = framed
        return Pending(
            delivery_id,
            arrival,
            len(frame(framed).encode()),
            steer=parsed.mode is DeliveryMode.STEER,
            interrupt=parsed.mode is DeliveryMode.INTERRUPT,
            expires_at=parsed.expires_at,
        )
