"""The turn machine over every short sequence of inputs, and over long random ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from relay_runtime.contract import Entry, Verdict
from relay_runtime.events import (
    ErrorClass,
    ErrorInfo,
    Evidence,
    ExitClass,
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
from relay_runtime.turn_types import (
    Abilities,
    Action,
    Closed,
    Doubted,
    Held,
    Hold,
    Interrupt,
    Lifted,
    Pending,
    Report,
    Restarting,
    SessionState,
    Settle,
    Settled,
    Signal,
    Status,
    Write,
)
from relay_runtime.turns import MAX_ATTEMPTS, MAX_BATCH, PROOF_S, SETTLE_TRIES, TurnMachine

if TYPE_CHECKING:
    from collections.abc import Callable

PROOF = Evidence("test", "ref", "t1")
LIMITED = ErrorInfo(ErrorClass.RATE_LIMIT, "429")
CRASH = Exited(None, 9, ExitClass.CRASH, "killed")


@dataclass
class Bench:
    """Drives a machine and checks the rules at every step."""

    abilities: Abilities = field(default_factory=lambda: Abilities(steer=True))
    now: float = 1000.0
    at_boundary: bool = False  # what the harness really is, kept apart from the machine
    turn: bool = False
    unproven: str | None = None
    offered: list[str] = field(default_factory=list)
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)
    final: dict[str, Report] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    log: list[Action] = field(default_factory=list)
    settling: str | None = None
    blocked: set[object] = field(default_factory=set)
    typing: bool = False

    def __post_init__(self) -> None:
        self.machine = TurnMachine(self.abilities)

    def offer(self, steer: bool = False, interrupt: bool = False, ttl: float | None = None) -> None:
        name = f"d{len(self.offered)}"
        self.offered.append(name)
        expires = self.now + ttl if ttl else None
        pending = Pending(name, len(self.offered), 100, steer, interrupt, expires)
        self.take(self.machine.offer(pending, self.now))

    def see(self, signal: Signal) -> None:
        self.now += 0.001
        match signal:
            case Idle():
                self.at_boundary, self.turn = True, False
            case TurnStarted():
                self.at_boundary, self.turn = False, True
            case Exited() | Restarting() | Closed():
                self.at_boundary = self.turn = self.typing = False
                self.blocked = {b for b in self.blocked if isinstance(b, Hold)}
            case PermissionRequested(request_id):
                self.blocked.add(request_id)
            case PermissionResolved(request_id):
                self.blocked.discard(request_id)
            case Held(hold):
                self.blocked.add(hold)
            case Lifted(hold):
                self.blocked.discard(hold)
            case HumanTyping(active):
                self.typing = active
        if isinstance(signal, Idle | TurnEnded):
            self.blocked = {b for b in self.blocked if isinstance(b, Hold)}
        decided = isinstance(signal, Proven | Refused) or (
            isinstance(signal, Settled) and signal.verdict is not Verdict.UNKNOWN
        )
        if decided and getattr(signal, "write_id", None) == self.unproven:
            self.unproven = None
        self.take(self.machine.observe(signal, self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for hold, until in list(self.machine.holds.items()):
            if until is not None and until <= self.now:
                self.blocked.discard(hold)
        self.take(self.machine.tick(self.now))

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            self.log.append(action)
            match action:
                case Write():
                    self.check_write(action)
                case Report(delivery_id, status):
                    self.check_report(action, delivery_id, status)
                case Settle(write_id):
                    self.settling = write_id
                    assert write_id in self.written
                case Interrupt():
                    assert self.turn
        deadline = self.machine.deadline
        assert deadline is None or deadline > self.now - 60 or self.settling or not self.turn

    def check_write(self, write: Write) -> None:
        assert self.unproven is None, "two unproven writes"
        if write.entry is Entry.NEXT_TURN:
            assert self.at_boundary, "written outside a boundary"
            assert not self.typing, "written into a human's draft"
        else:
            assert self.turn and self.abilities.steer
        assert not self.blocked, f"written while {self.blocked}"
        assert not self.final.keys() & set(write.deliveries), "written after its final receipt"
        if write.write_id in self.written:
            assert self.written[write.write_id] == write.deliveries
        else:
            before = {d for w in self.written.values() for d in w}
            assert not before & set(write.deliveries), "the same delivery under two ids"
        self.written[write.write_id] = write.deliveries
        self.unproven = write.write_id

    def check_report(self, report: Report, delivery_id: str, status: Status) -> None:
        assert delivery_id not in self.final, "a receipt after the final one"
        if status is Status.ACCEPTED:
            assert delivery_id not in self.accepted
            self.accepted.add(delivery_id)
        elif status is Status.DEFERRED:
            assert delivery_id in self.accepted
            assert report.reason
        else:
            self.final[delivery_id] = report
            if status is Status.DELIVERED:
                assert report.evidence is not None
                assert any(delivery_id in w for w in self.written.values())
            else:
                assert report.reason
        ended = status in (Status.DELIVERED, Status.FAILED)
        if ended and self.unproven and delivery_id in self.written[self.unproven]:
            self.unproven = None

    def reports(self, delivery_id: str) -> list[tuple[str, str | None]]:
        return [
            (a.status.value, a.reason)
            for a in self.log
            if isinstance(a, Report) and a.delivery_id == delivery_id
        ]

    def writes(self) -> list[Write]:
        return [a for a in self.log if isinstance(a, Write)]

    def answer(self, verdict: Verdict) -> None:
        """The harness's record answers the last question."""
        if self.settling is not None:
            write_id, self.settling = self.settling, None
            evidence = PROOF if verdict is Verdict.PRESENT else None
            self.see(Settled(write_id, verdict, evidence, "asked"))

    def prove(self) -> None:
        if self.unproven is not None:
            self.see(Proven(self.unproven, PROOF))

    def refuse(self, retry: bool = True) -> None:
        if self.unproven is not None:
            self.see(Refused(self.unproven, "not taken", retry))

    def step(self, name: str) -> None:
        STEPS[name](self)

    def finish(self) -> None:
        """Let everything come to an end: each accepted delivery must get its final receipt."""
        for request in [b for b in self.blocked if isinstance(b, str)]:
            self.see(PermissionResolved(request, "deny"))
        for hold in list(self.machine.holds):
            self.see(Lifted(hold))
        self.see(HumanTyping(False))
        if self.machine.state is SessionState.EXITED:
            self.see(Restarting())
        for _ in range(12):
            self.see(Idle())
            self.answer(Verdict.PRESENT)
            self.prove()
            self.wait(PROOF_S * 2)
            self.answer(Verdict.PRESENT)
        assert set(self.final) == set(self.offered)
        delivered = [d for w in self.written.values() for d in w if d in self.final]
        assert len(delivered) == len(set(delivered))


STEPS: dict[str, Callable[[Bench], None]] = {
    "offer": lambda b: b.offer(),
    "steer": lambda b: b.offer(steer=True),
    "interrupt": lambda b: b.offer(interrupt=True),
    "mortal": lambda b: b.offer(ttl=3.0),
    "idle": lambda b: b.see(Idle()),
    "turn": lambda b: b.see(TurnStarted("t1")),
    "ended": lambda b: b.see(TurnEnded("t1", Outcome.COMPLETED)),
    "limited": lambda b: b.see(TurnEnded("t1", Outcome.FAILED, error=LIMITED)),
    "proven": lambda b: b.prove(),
    "refused": lambda b: b.refuse(),
    "doubted": lambda b: b.see(Doubted(b.unproven or "none")),
    "present": lambda b: b.answer(Verdict.PRESENT),
    "absent": lambda b: b.answer(Verdict.ABSENT),
    "unknown": lambda b: b.answer(Verdict.UNKNOWN),
    "crash": lambda b: b.see(CRASH),
    "restart": lambda b: b.see(Restarting()),
    "typing": lambda b: b.see(HumanTyping(not b.typing)),
    "asks": lambda b: b.see(PermissionRequested("r1", "Bash", "rm")),
    "answered": lambda b: b.see(PermissionResolved("r1", "allow")),
    "held": lambda b: b.see(Held(Hold.RATE_LIMIT, b.now + 4)),
    "paused": lambda b: b.see(Held(Hold.PAUSED)),
    "lifted": lambda b: b.see(Lifted(Hold.PAUSED)),
    "retrying": lambda b: b.see(HarnessError(ErrorInfo(ErrorClass.AUTH, "401", retrying=True))),
    "wait": lambda b: b.wait(6.0),
}


def test_every_sequence_of_four_inputs_keeps_the_rules() -> None:
    for names in itertools.product(STEPS, repeat=3):
        for first in ("offer", "idle"):
            bench = Bench()
            bench.step(first)
            for name in names:
                bench.step(name)
            bench.finish()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=60))
def test_long_random_sequences_keep_the_rules(names: list[str]) -> None:
    bench = Bench()
    for name in names:
        bench.step(name)
    bench.finish()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=40), st.integers(0, 40))
def test_a_supervisor_restart_anywhere_keeps_the_rules(names: list[str], at: int) -> None:
    bench = Bench()
    for index, name in enumerate([*names, "wait"]):
        if index == at:
            restart(bench)
        bench.step(name)
    bench.finish()


def restart(bench: Bench) -> None:
    """What the journal gives back after `kill -9` of the supervisor."""
    left = [d for d in bench.offered if d not in bench.final]
    queue = [Pending(d, bench.offered.index(d) + 1, 100) for d in left]
    in_doubt = None
    if bench.unproven is not None:
        in_doubt = Write(bench.unproven, bench.written[bench.unproven])
    old = bench.machine
    refused = old._retry.flight.write if old._retry else None
    bench.machine = TurnMachine(bench.abilities)
    bench.settling = None
    in_doubt = in_doubt or refused
    if in_doubt is not None:
        bench.unproven = in_doubt.write_id
    bench.machine.restore(old.snapshot(), queue, in_doubt, {}, bench.now)


def busy() -> Bench:
    bench = Bench()
    bench.see(Idle())
    bench.see(TurnStarted("t1"))
    return bench


def test_an_idle_session_gets_its_message_at_once() -> None:
    bench = Bench()
    bench.see(Idle())
    bench.offer()
    assert [type(a) for a in bench.log] == [Report, Write]
    assert bench.machine.state is SessionState.BUSY
    bench.prove()
    assert bench.reports("d0") == [("accepted", None), ("delivered", None)]


def test_messages_during_a_turn_wait_for_the_boundary_and_go_in_together_in_order() -> None:
    bench = busy()
    for _ in range(20):
        bench.offer()
    assert not bench.writes()
    assert all(bench.reports(d)[1] == ("deferred", "busy") for d in bench.offered)
    bench.see(TurnEnded("t1", Outcome.COMPLETED))
    assert not bench.writes()
    bench.see(Idle())
    assert [w.deliveries for w in bench.writes()] == [tuple(bench.offered)]
    bench.prove()
    assert [bench.final[d].status for d in bench.offered] == [Status.DELIVERED] * 20


def test_a_batch_is_bounded() -> None:
    bench = busy()
    for _ in range(MAX_BATCH + 1):
        bench.offer()
    bench.see(Idle())
    assert len(bench.writes()[0].deliveries) == MAX_BATCH


def test_a_steer_enters_the_running_turn_and_comes_back_when_an_interrupt_swallowed_it() -> None:
    bench = busy()
    bench.offer(steer=True)
    assert bench.writes()[0].entry is Entry.STEER
    bench.refuse()
    bench.see(Idle())
    bench.wait(2.0)
    again = bench.writes()[1]
    assert again.entry is Entry.NEXT_TURN
    assert again.write_id == bench.writes()[0].write_id


def test_an_interrupting_message_stops_the_turn_once_and_goes_first() -> None:
    bench = busy()
    bench.offer()
    bench.offer(interrupt=True)
    bench.offer(interrupt=True)
    assert sum(isinstance(a, Interrupt) for a in bench.log) == 1
    bench.see(TurnEnded("t1", Outcome.INTERRUPTED))
    bench.see(Idle())
    assert bench.writes()[0].deliveries == ("d1", "d2", "d0")


def test_a_turn_that_ends_without_proof_is_settled_before_anything_else_is_written() -> None:
    bench = Bench()
    bench.see(Idle())
    bench.offer()
    bench.offer()
    bench.see(TurnStarted("t1"))
    bench.see(Idle())
    assert any(isinstance(a, Settle) for a in bench.log)
    assert bench.machine.state is SessionState.UNSURE
    bench.answer(Verdict.ABSENT)
    bench.wait(2.0)
    first, second = bench.writes()
    assert first == second


def test_a_write_that_is_never_taken_fails_with_the_number_of_attempts() -> None:
    bench = Bench()
    bench.see(Idle())
    bench.offer()
    for _ in range(MAX_ATTEMPTS):
        bench.refuse()
        bench.wait(10.0)
    assert len(bench.writes()) == MAX_ATTEMPTS
    assert bench.reports("d0")[-1] == ("failed", "not submitted after 5 attempts: not taken")


def test_an_outcome_that_no_record_decides_fails_as_unknown_after_a_bounded_time() -> None:
    bench = Bench()
    bench.see(Idle())
    bench.offer()
    bench.see(Doubted(bench.unproven or ""))
    for _ in range(SETTLE_TRIES):
        bench.answer(Verdict.UNKNOWN)
        bench.wait(70.0)
    assert bench.reports("d0")[-1] == ("failed", "outcome unknown: asked")


def test_a_rate_limited_turn_holds_the_queue_and_then_tells_the_agent_what_happened() -> None:
    bench = busy()
    bench.see(Held(Hold.RATE_LIMIT, bench.now + 30))
    bench.see(TurnEnded("t1", Outcome.FAILED, error=LIMITED))
    bench.see(Idle())
    assert bench.machine.state is SessionState.HELD
    bench.offer()
    assert bench.reports("d0")[1] == ("deferred", "held")
    bench.wait(31.0)
    assert bench.writes()[0].cut == "429"


def test_a_sender_that_heard_of_the_hold_hears_when_it_ends_once_that_is_known() -> None:
    bench = busy()
    bench.see(HarnessError(ErrorInfo(ErrorClass.RATE_LIMIT, "429", retrying=True)))
    bench.offer()
    until = bench.now + 30
    bench.see(Held(Hold.RATE_LIMIT, until))
    bench.see(TurnEnded("t1", Outcome.FAILED, error=LIMITED))
    bench.see(Idle())
    assert bench.reports("d0")[1:] == [("deferred", "held"), ("deferred", "held")]
    assert [a.next_attempt_at for a in bench.log if isinstance(a, Report)] == [None, None, until]


def test_a_turn_cut_off_by_a_crash_is_continued_when_nothing_waits() -> None:
    bench = busy()
    bench.see(CRASH)
    bench.see(Restarting())
    bench.see(Idle())
    assert bench.writes()[0].deliveries == ()
    assert bench.writes()[0].cut == "the agent's process ended"


def test_expired_messages_fail_and_never_enter() -> None:
    bench = busy()
    bench.offer(ttl=3.0)
    bench.wait(4.0)
    bench.see(Idle())
    assert bench.reports("d0")[-1] == ("failed", "expired")
    assert not bench.writes()


def test_closing_fails_what_waits_and_settles_what_was_written() -> None:
    bench = Bench()
    bench.see(Idle())
    bench.offer()
    bench.offer()
    bench.see(Closed("session was released"))
    assert bench.reports("d1")[-1] == ("failed", "session was released")
    bench.answer(Verdict.PRESENT)
    assert bench.reports("d0")[-1] == ("delivered", None)
    bench.offer()
    assert bench.reports("d2") == [("failed", "session was released")]


def test_the_queue_is_bounded_and_says_so() -> None:
    bench = busy()
    bench.machine.max_queue = 2
    for _ in range(3):
        bench.offer()
    assert bench.reports("d2") == [("failed", "queue full: 2 messages wait for this session")]


def test_a_proof_that_comes_after_a_refusal_counts_and_nothing_is_written_again() -> None:
    bench = Bench()
    bench.see(Idle())
    bench.offer()
    write_id = bench.writes()[0].write_id
    bench.refuse()
    bench.see(Proven(write_id, PROOF))
    bench.wait(10.0)
    assert len(bench.writes()) == 1
    assert bench.reports("d0")[-1] == ("delivered", None)


def test_a_batch_is_as_small_as_the_harness_wants_it() -> None:
    bench = Bench(Abilities(batch_bytes=250))
    bench.see(Idle())
    bench.see(TurnStarted("t1"))
    for _ in range(3):
        bench.offer()
    bench.see(Idle())
    assert bench.writes()[0].deliveries == ("d0", "d1")
