"""The turn machine of one session: when may a message go in, and what may be said about it.

Pure: no I/O, no clock, no task. Inputs are `offer`, `observe` and `tick`; each returns the actions
that the shell must carry out in order, after it has committed them. `deadline` is when the shell
must call `tick` if nothing else happens before.

Rules:

1. At most one write of ours is unproven at any time. The queue is ours, the harness gets one batch.
2. A write goes in only at a boundary (`Idle`), unless it steers a running turn.
3. `delivered` is said only for a write that the harness proved (`Proven`, or `Settled` present).
4. A write in doubt is settled from the harness's own record before anything else is written.
   Present: delivered. Absent: the same write again, with the same id. Never a guess.
5. Every delivery that was accepted gets exactly one final receipt: delivered or failed.
6. What the harness does moves by the table `TRANSITIONS` alone. What else stands against a write (a
   human's draft, holds, open requests, an endpoint that is being retried) is kept beside it, and
   `state` shows what matters most.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from .contract import Entry, Verdict
from .events import (
    ErrorClass,
    ErrorCleared,
    Evidence,
    Exited,
    HarnessError,
    HumanTyping,
    Idle,
    Outcome,
    PermissionRequested,
    PermissionResolved,
    Proven,
    Refused,
    TurnEnded,
    TurnStarted,
)
from .turn_types import (
    Abilities,
    Action,
    Activity,
    Closed,
    Doubted,
    Endpoint,
    Flight,
    Held,
    Hold,
    Human,
    Interrupt,
    Lifted,
    Pending,
    Report,
    Restarting,
    Retry,
    SessionState,
    Settle,
    Settled,
    Signal,
    Status,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .contract import Json
    from .turn_types import Told

#: One write takes at most this many messages: an agent that was busy for an hour gets its mail in
#: readable portions, and a crash puts no more than this in doubt at once.
MAX_BATCH: Final = 32
#: Deliveries that may wait for one session. More means that nobody is working them off.
MAX_QUEUE: Final = 1000
#: Proof normally comes within 0.2 s of the write; past this the harness's record is asked.
PROOF_S: Final = 5.0
#: Asked again after 5, 10, 20, 40, 60, 60 s: three minutes in which a record must become readable.
SETTLE_TRIES: Final = 6
SETTLE_MAX_S: Final = 60.0
#: A write that was provably not taken goes in again this often before it fails.
MAX_ATTEMPTS: Final = 5
#: Wait before a write that was not taken at a boundary is tried at the same boundary again.
RETRY_S: Final = 1.0

#: Errors that pass: the agent is asked to go on with the turn they cut off. Another error would
#: only come again.
_PASSING: Final = frozenset({ErrorClass.AUTH, ErrorClass.RATE_LIMIT, ErrorClass.OVERLOADED})

_WRITE_IDS: Final = UUID("6f0c6a3e-7c55-4b0e-9d53-0d6f8f7b1c11")


# --- the table ------------------------------------------------------------------------------------------

ANY_ACTIVITY = tuple(Activity)

TRANSITIONS: Mapping[type[object], Mapping[Activity, Activity]] = {
    Restarting: dict.fromkeys(ANY_ACTIVITY, Activity.STARTING),
    Idle: {
        Activity.STARTING: Activity.IDLE,
        Activity.IDLE: Activity.IDLE,
        Activity.BUSY: Activity.IDLE,
    },
    TurnStarted: {
        Activity.STARTING: Activity.BUSY,
        Activity.IDLE: Activity.BUSY,
        Activity.BUSY: Activity.BUSY,
    },
    Exited: dict.fromkeys(ANY_ACTIVITY, Activity.EXITED),
    Closed: dict.fromkeys(ANY_ACTIVITY, Activity.EXITED),
}
#: `TurnEnded` is not a boundary: the harness may go on by itself. `Idle` is.


@dataclass(slots=True)
class TurnMachine:
    """See the module. One per session, from spawn to its end, over every restart of the agent."""

    abilities: Abilities
    max_queue: int = MAX_QUEUE
    activity: Activity = Activity.STARTING
    human: Human = Human.AWAY
    endpoint: Endpoint = Endpoint.OK
    asks: set[str] = field(default_factory=set)
    holds: dict[Hold, float | None] = field(default_factory=dict)
    turn_id: str | None = None
    _queue: deque[Pending] = field(default_factory=deque)
    _flight: Flight | None = None
    _retry: Retry | None = None
    _told: dict[str, set[Told]] = field(default_factory=dict)
    _cut: tuple[str, str] | None = None  # (turn id, why)
    _interrupting: bool = False
    _closed: str | None = None

    @property
    def state(self) -> SessionState:
        """The state of the region that matters most."""
        if self.activity is Activity.EXITED:
            waits = self.holds and self._closed is None
            return SessionState.HELD if waits else SessionState.EXITED
        if self._flight is not None and self._flight.doubted:
            return SessionState.UNSURE
        if self.activity is Activity.STARTING:
            return SessionState.WAITING if self.asks else SessionState.STARTING
        if self.holds or self.endpoint is Endpoint.RETRYING:
            return SessionState.HELD
        if self.asks:
            return SessionState.WAITING
        if self.activity is Activity.BUSY or self._flight is not None:
            return SessionState.BUSY
        if self.human is Human.DRAFTING:
            return SessionState.DRAFTING
        return SessionState.IDLE

    @property
    def open_write(self) -> str | None:
        """Id of the write that is not decided: unproven, in doubt, or to go in again."""
        return self._undecided.write.write_id if self._undecided else None

    @property
    def queued(self) -> int:
        """Deliveries that are accepted and not final."""
        return len(self._queue) + (len(self._undecided.pending) if self._undecided else 0)

    @property
    def _undecided(self) -> Flight | None:
        return self._retry.flight if self._retry else self._flight

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        times = [p.expires_at for p in self._queue if p.expires_at is not None]
        times += [until for until in self.holds.values() if until is not None]
        if self._flight is not None and not self._flight.settling and self._can_settle:
            times.append(self._flight.check_at)
        if self._retry is not None and self.activity is Activity.IDLE:
            times.append(self._retry.not_before)
        return min(times, default=None)

    # Inputs.

    def snapshot(self) -> dict[str, Json]:
        """What a restart of the supervisor must not forget; the queue is in the journal."""
        return {
            "activity": self.activity.value,
            "human": self.human.value,
            "endpoint": self.endpoint.value,
            "asks": sorted(self.asks),
            "holds": {hold.value: until for hold, until in self.holds.items()},
            "turn_id": self.turn_id,
            "cut": list(self._cut) if self._cut else None,
        }

    def restore(
        self,
        snapshot: Mapping[str, Json],
        queue: Iterable[Pending],
        in_doubt: Write | None,
        told: Mapping[str, Iterable[Told]],
        now: float,
    ) -> None:
        """Take over from the journal after a restart of the supervisor; call before anything else.

        `queue` holds every delivery that is not final, in order, those of `in_doubt` among them;
        `told` what its sender heard of each that was deferred.
        """
        match snapshot:
            case {
                "activity": str(activity),
                "human": str(human),
                "endpoint": str(endpoint),
                "asks": list(asks),
                "holds": dict(holds),
            }:
                self.activity = Activity(activity)
                self.human = Human(human)
                self.endpoint = Endpoint(endpoint)
                self.asks = {str(ask) for ask in asks}
                self.holds = {
                    Hold(hold): until if isinstance(until, int | float) else None
                    for hold, until in holds.items()
                }
        turn_id = snapshot.get("turn_id")
        self.turn_id = turn_id if isinstance(turn_id, str) else None
        match snapshot.get("cut"):
            case [str(cut_turn), str(why)]:
                self._cut = (cut_turn, why)
        by_id = {p.delivery_id: p for p in queue}
        if in_doubt is not None:
            pending = tuple(by_id.pop(d) for d in in_doubt.deliveries if d in by_id)
            self._flight = Flight(in_doubt, pending, check_at=now, doubted=True)
        self._queue.extend(by_id.values())
        self._told = {delivery_id: set(heard) for delivery_id, heard in told.items()}

    def offer(self, pending: Pending, now: float) -> list[Action]:
        """A delivery arrived. Its id must be new to this machine."""
        if self._closed is not None:
            return [Report(pending.delivery_id, Status.FAILED, self._closed)]
        if len(self._queue) >= self.max_queue:
            reason = f"queue full: {self.max_queue} messages wait for this session"
            return [Report(pending.delivery_id, Status.FAILED, reason)]
        self._queue.append(pending)
        actions: list[Action] = [Report(pending.delivery_id, Status.ACCEPTED)]
        if pending.interrupt and self._may_interrupt:
            self._interrupting = True
            actions.append(Interrupt())
        return actions + self._advance(now)

    def observe(self, signal: Signal, now: float) -> list[Action]:
        """The harness or the shell said something."""
        actions: list[Action] = []
        match signal:
            case Held(hold, until):
                self.holds[hold] = until
            case Lifted(hold):
                self.holds.pop(hold, None)
            case HumanTyping(active):
                self.human = Human.DRAFTING if active else Human.AWAY
            case PermissionRequested(request_id):
                self.asks.add(request_id)
            case PermissionResolved(request_id):
                self.asks.discard(request_id)
            case HarnessError(error) if error.retrying:
                self.endpoint = Endpoint.RETRYING
            case ErrorCleared():
                self.endpoint = Endpoint.OK
            case TurnStarted() | TurnEnded() | Idle() | Exited() | Restarting():
                self._turn_signal(signal, now)
            case Proven(write_id, evidence):
                actions += self._prove(write_id, evidence)
            case Refused(write_id, reason, retry):
                actions += self._refuse(write_id, reason, retry, now)
            case Doubted(write_id):
                if self._is_flight(write_id) and self._flight is not None:
                    self._flight.doubted = True
                    self._flight.check_at = now
            case Settled():
                actions += self._settled(signal, now)
            case Closed(reason):
                actions += self._close(reason)
            case _:  # the rest of what a driver emits is there to be watched
                return []
        self.activity = TRANSITIONS.get(type(signal), {}).get(self.activity, self.activity)
        return actions + self._advance(now)

    def tick(self, now: float) -> list[Action]:
        """Time passed. Harmless at any time."""
        actions: list[Action] = []
        for hold in [h for h, until in self.holds.items() if until is not None and until <= now]:
            del self.holds[hold]
        expired = [p for p in self._queue if p.expires_at is not None and p.expires_at <= now]
        for pending in expired:
            self._queue.remove(pending)
            actions.append(self._final(pending.delivery_id, Status.FAILED, "expired"))
        return actions + self._advance(now)

    # What signals do beyond the table.

    def _turn_signal(self, signal: Signal, now: float) -> None:
        flight = self._flight
        match signal:
            case TurnStarted(turn_id):
                self.turn_id = turn_id
                self._cut = None
                if flight is not None:
                    flight.turn_seen = True
            case TurnEnded(turn_id, outcome, error=error):
                self.endpoint = Endpoint.OK
                self.asks.clear()
                if outcome is Outcome.FAILED and error is not None and error.error in _PASSING:
                    self._cut = (turn_id, error.message)
            case Idle():
                self.endpoint = Endpoint.OK
                self._interrupting = False
                self.turn_id = None
                self.asks.clear()
                if flight is not None and flight.turn_seen:
                    flight.doubted = True  # its turn came and went without a proof
                    flight.check_at = now
            case Exited() | Restarting():
                if self.turn_id is not None:
                    self._cut = (self.turn_id, "the agent's process ended")
                self.endpoint = Endpoint.OK
                self.human = Human.AWAY
                self._interrupting = False
                self.turn_id = None
                self.asks.clear()
                if flight is not None:
                    flight.doubted, flight.settling = True, False
                    flight.tries, flight.check_at = 0, now

    def _is_flight(self, write_id: str) -> bool:
        return self._flight is not None and self._flight.write.write_id == write_id

    def _prove(self, write_id: str, evidence: Evidence) -> list[Action]:
        flight = self._flight
        if flight is None and self._retry is not None:
            flight = self._retry.flight  # a late proof beats what was concluded before
        if flight is None or flight.write.write_id != write_id:
            return []
        self._flight = self._retry = None
        return [
            self._final(p.delivery_id, Status.DELIVERED, evidence=evidence) for p in flight.pending
        ]

    def _refuse(self, write_id: str, reason: str, retry: bool, now: float) -> list[Action]:
        flight = self._flight
        if flight is None or flight.write.write_id != write_id:
            return []
        self._flight = None
        if retry and flight.attempts < MAX_ATTEMPTS:
            self._retry = Retry(flight, not_before=now + RETRY_S * flight.attempts)
            return []
        if retry:
            reason = f"not submitted after {flight.attempts} attempts: {reason}"
        return [self._final(p.delivery_id, Status.FAILED, reason) for p in flight.pending]

    def _settled(self, settled: Settled, now: float) -> list[Action]:
        flight = self._flight
        if flight is None or flight.write.write_id != settled.write_id or not flight.settling:
            return []
        flight.settling = False
        flight.tries += 1
        why = settled.reason or "the harness keeps no record of it"
        match settled.verdict:
            case Verdict.PRESENT if settled.evidence is not None:
                return self._prove(settled.write_id, settled.evidence)
            case Verdict.ABSENT if self._closed is None:
                return self._refuse(settled.write_id, why, retry=True, now=now)
            case Verdict.ABSENT:
                return self._refuse(settled.write_id, self._closed or why, retry=False, now=now)
        if self._closed is None and flight.tries < SETTLE_TRIES:
            flight.doubted = True
            flight.check_at = now + min(PROOF_S * 2**flight.tries, SETTLE_MAX_S)
            return []
        reason = f"outcome unknown: {why}"
        return self._refuse(settled.write_id, reason, retry=False, now=now)

    def _close(self, reason: str) -> list[Action]:
        self._closed = reason
        self._cut = None
        waiting = list(self._retry.flight.pending if self._retry else ()) + list(self._queue)
        self._retry = None
        self._queue.clear()
        actions: list[Action] = [self._final(p.delivery_id, Status.FAILED, reason) for p in waiting]
        if self._flight is not None:
            # Its last word is the harness's own, even now: it may have been delivered.
            self._flight.doubted = self._flight.settling = True
            actions.append(Settle(self._flight.write.write_id))
        return actions

    # What may happen now.

    @property
    def _can_settle(self) -> bool:
        return self.activity in (Activity.IDLE, Activity.BUSY)

    @property
    def _may_interrupt(self) -> bool:
        busy = self.activity is Activity.BUSY and not self._interrupting
        return busy and self.abilities.interrupt and Hold.PAUSED not in self.holds

    def _advance(self, now: float) -> list[Action]:
        """Everything that has become possible, then what still waits says why."""
        actions: list[Action] = []
        flight = self._flight
        overdue = flight is not None and flight.check_at <= now and not flight.settling
        if flight is not None and overdue and self._can_settle:
            flight.settling = flight.doubted = True
            actions.append(Settle(flight.write.write_id))
        if (write := self._next_write(now)) is not None:
            actions.append(write)
        return actions + self._defer()

    def _next_write(self, now: float) -> Write | None:
        blocked = self.holds or self.asks or self.endpoint is Endpoint.RETRYING
        if self._flight is not None or blocked or self._closed is not None:
            return None
        if self.activity is Activity.BUSY:
            return self._steer(now)
        if self.activity is not Activity.IDLE or self.human is Human.DRAFTING:
            return None
        if self._retry is not None:
            return self._again(now)
        batch = self._take_batch()
        cut, self._cut = self._cut, None
        if not batch and (cut is None or not self.abilities.continue_turn):
            return None
        key = " ".join(p.delivery_id for p in batch) or f"continue {cut} {now}"
        write_id = str(uuid5(_WRITE_IDS, key))
        ids = tuple(p.delivery_id for p in batch)
        return self._launch(Write(write_id, ids, cut=cut[1] if cut else None), batch, now)

    def _steer(self, now: float) -> Write | None:
        if not self.abilities.steer or self._retry is not None or self._interrupting:
            return None
        pending = next((p for p in self._queue if p.steer), None)
        if pending is None:
            return None
        self._queue.remove(pending)
        write_id = str(uuid5(_WRITE_IDS, pending.delivery_id))
        write = Write(write_id, (pending.delivery_id,), entry=Entry.STEER)
        return self._launch(write, (pending,), now)

    def _again(self, now: float) -> Write | None:
        retry = self._retry
        if retry is None or retry.not_before > now:
            return None
        self._retry = None
        old = retry.flight.write
        write = Write(old.write_id, old.deliveries, Entry.NEXT_TURN, old.cut)
        return self._launch(write, retry.flight.pending, now, retry.flight.attempts + 1)

    def _launch(
        self, write: Write, pending: tuple[Pending, ...], now: float, attempts: int = 1
    ) -> Write:
        self._flight = Flight(write, pending, check_at=now + PROOF_S, attempts=attempts)
        return write

    def _take_batch(self) -> tuple[Pending, ...]:
        """The next messages in order, those that may not wait first, within the bounds."""
        ordered = sorted(self._queue, key=lambda p: (not p.interrupt, p.order))
        batch: list[Pending] = []
        size = 0
        for pending in ordered[:MAX_BATCH]:
            if batch and size + pending.size > self.abilities.batch_bytes:
                break
            batch.append(pending)
            size += pending.size
        taken = {p.delivery_id for p in batch}
        self._queue = deque(p for p in self._queue if p.delivery_id not in taken)
        return tuple(batch)

    def _defer(self) -> list[Action]:
        """One receipt for each waiting delivery and reason, and one when the next attempt is known:
        told once, not at every change."""
        if not self._queue:
            return []
        reason = self._why_not
        known = [until for until in self.holds.values() if until is not None]
        at = max(known) if known and len(known) == len(self.holds) else None
        actions: list[Action] = []
        for pending in self._queue:
            told = self._told.setdefault(pending.delivery_id, set())
            if (reason, at is not None) not in told:
                told.add((reason, at is not None))
                actions.append(
                    Report(pending.delivery_id, Status.DEFERRED, reason, next_attempt_at=at)
                )
        return actions

    @property
    def _why_not(self) -> str:
        state = self.state
        if state is SessionState.EXITED:
            return SessionState.STARTING.value  # it waits for the restart
        if state is SessionState.IDLE:
            return SessionState.UNSURE.value  # a refused write goes in again before it
        return state.value

    def _final(
        self,
        delivery_id: str,
        status: Status,
        reason: str | None = None,
        evidence: Evidence | None = None,
    ) -> Report:
        self._told.pop(delivery_id, None)
        return Report(delivery_id, status, reason, evidence)
