"""What every driver must do, as checks with plain asserts. For driver authors and for our own.

    @pytest.mark.anyio
    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_my_driver_keeps_the_contract(check):
        await check(Subject(harness, environ))

The environment must let the harness answer any text with one short turn: point it to a scripted
model server. Each check starts a session of its own and ends it; `check_driver` runs them all.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..contract import Handed, Harness, SessionSpec, Unsupported, Verdict
from ..events import (
    MAX_TEXT,
    Event,
    Exited,
    Idle,
    Outcome,
    Proven,
    Refused,
    SessionReady,
    TurnEnded,
    TurnStarted,
)
from .driver_bench import STOP, DriverBench

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

#: A clipped text ends with a mark that says how much is missing.
_MARK = 64
_NOBODYS_WRITE = "00000000-0000-4000-8000-000000000000"


def _as_it_is(spec: SessionSpec) -> SessionSpec:
    return spec


@dataclass(frozen=True)
class Subject:
    """The driver to check. `spec` may change the bench's default spec; `text` is what is said."""

    harness: Harness
    environ: Mapping[str, str]
    spec: Callable[[SessionSpec], SessionSpec] = _as_it_is
    text: str = "Please answer with one word."

    def bench(self) -> DriverBench:
        return DriverBench(self.harness, self.environ, self.spec)


async def check_start(subject: Subject) -> None:
    """A new session says what it is, then that it waits for input."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        kinds = [type(event) for event in bench.events]
        assert kinds.count(SessionReady) == 1, "SessionReady must be said once per start"
        assert kinds.index(SessionReady) < kinds.index(Idle), "SessionReady comes before Idle"
        _history_is_sound(bench)


async def check_message(subject: Subject) -> None:
    """A message is accepted, proven once, makes one turn, and the session waits again."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        await _one_turn(bench, subject.text)
        _history_is_sound(bench)


async def check_messages_one_after_the_other(subject: Subject) -> None:
    """Several messages, each at the boundary after the one before: one turn and one proof each."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        write_ids = [await _one_turn(bench, f"{subject.text} ({n})") for n in range(3)]
        assert list(_proofs(bench)) == write_ids, "proofs come in order"
        _history_is_sound(bench)


async def check_settle(subject: Subject) -> None:
    """The harness's record knows what it took in, and nothing else."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        write_id = await _one_turn(bench, subject.text)
        nobodys = await bench.session.settle(_NOBODYS_WRITE)
        assert nobodys.verdict is not Verdict.PRESENT, "a write nobody made cannot be present"
        settled = await bench.session.settle(write_id)
        assert settled.verdict is not Verdict.ABSENT, "a proven write cannot be absent"
        if bench.session.capabilities.settles:
            assert nobodys.verdict is Verdict.ABSENT, "`settles` promises a decision"
            assert settled.verdict is Verdict.PRESENT, "`settles` promises a decision"
        if settled.verdict is Verdict.PRESENT:
            assert settled.evidence is not None, "PRESENT needs the evidence for it"


async def check_adopt_when_idle(subject: Subject) -> None:
    """After a crash of the supervisor nothing is said twice, Idle is said again, work goes on."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        await _one_turn(bench, subject.text)
        before = Counter(type(e) for e in bench.events)
        pid = (await bench.link.status()).pid
        await bench.crash()
        await bench.adopt()
        await bench.wait_for(Idle)
        assert (await bench.link.status()).pid == pid, "adopt must not restart the harness"
        await _one_turn(bench, subject.text)
        after = Counter(type(e) for e in bench.events)
        for kind in (Proven, TurnStarted, TurnEnded):
            assert after[kind] == before[kind] + 1, f"{kind.__name__} was said again after adopt"
        _history_is_sound(bench)


async def check_crash_before_proof(subject: Subject) -> None:
    """A proof that was not committed comes again, once; the record knows the write meanwhile."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        bench.arm(Proven)
        write_id = await bench.inject(subject.text)
        await bench.crash_before(Proven)
        await bench.adopt()
        await bench.wait_for(lambda event: isinstance(event, Proven) and event.write_id == write_id)
        await bench.wait_for(Idle)
        await _one_turn(bench, subject.text)
        _history_is_sound(bench)


async def check_crash_before_end_of_turn(subject: Subject) -> None:
    """An end of turn that was not committed comes again, once, and then Idle."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        bench.arm(TurnEnded)
        await bench.inject(subject.text)
        await bench.crash_before(TurnEnded)
        await bench.adopt()
        await bench.wait_for(TurnEnded)
        await bench.wait_for(Idle)
        _history_is_sound(bench)


async def check_interrupt_when_idle(subject: Subject) -> None:
    """To interrupt when nothing runs is no error and does no harm."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        await bench.session.interrupt()
        await _one_turn(bench, subject.text)


async def check_unknown_request(subject: Subject) -> None:
    """An answer to a request that is not open is refused."""
    async with subject.bench() as bench:
        await bench.create()
        await bench.wait_for(Idle)
        try:
            await bench.session.answer("no-such-request", True)
        except (KeyError, Unsupported):
            return
        raise AssertionError("answer must raise KeyError or Unsupported for an unknown request")


async def check_release(subject: Subject) -> None:
    """Release ends `run` and every process, and may be said twice."""
    async with subject.bench() as bench:
        session = await bench.create()
        await bench.wait_for(Idle)
        await session.release(STOP)
        await bench.wait_run()
        assert bench.failure is None, f"run raised after a release: {bench.failure!r}"
        assert (await bench.link.status()).pid is None, "release must end the process"
        await session.release(STOP)
        _history_is_sound(bench)


async def check_resume(subject: Subject) -> None:
    """After the harness itself was killed, the same conversation goes on with what it knew."""
    async with subject.bench() as bench:
        session = await bench.create()
        if not session.capabilities.resume:
            return
        await bench.wait_for(Idle)
        write_id = await _one_turn(bench, subject.text)
        await bench.kill_agent()
        await bench.recreate()
        await bench.wait_for(Idle)
        ready = [event for event in bench.events if isinstance(event, SessionReady)]
        assert ready[-1].conversation == ready[0].conversation, "it must be the same conversation"
        settled = await bench.session.settle(write_id)
        if session.capabilities.settles:
            assert settled.verdict is Verdict.PRESENT, "the write is lost in the new process"
        await _one_turn(bench, subject.text)
        _history_is_sound(bench)


async def check_probe(subject: Subject) -> None:
    """`doctor` can look at the harness, here and where there is nothing."""
    await subject.harness.probe(subject.environ)
    nothing = await subject.harness.probe({"PATH": "/nonexistent", "HOME": "/nonexistent"})
    assert nothing.found is None, "probe must look at the environment it is given"
    assert nothing.advice, "probe must say what to do when the program is missing"


#: In the order in which a new driver is best brought up.
CHECKS: tuple[Callable[[Subject], Awaitable[None]], ...] = (
    check_probe,
    check_start,
    check_message,
    check_messages_one_after_the_other,
    check_settle,
    check_interrupt_when_idle,
    check_unknown_request,
    check_release,
    check_adopt_when_idle,
    check_crash_before_proof,
    check_crash_before_end_of_turn,
    check_resume,
)


async def check_driver(
    harness: Harness,
    environ: Mapping[str, str],
    spec: Callable[[SessionSpec], SessionSpec] = _as_it_is,
) -> None:
    """All of `CHECKS`, one after the other. Raises `AssertionError` at the first that fails."""
    for check in CHECKS:
        await check(Subject(harness, environ, spec))


async def _one_turn(bench: DriverBench, text: str) -> str:
    write_id = await bench.inject(text)
    receipt = bench.receipts[write_id]
    assert receipt.status is Handed.ACCEPTED, f"at a boundary it must be accepted, not {receipt}"
    proven = await bench.wait_for(
        lambda event: isinstance(event, Proven) and event.write_id == write_id
    )
    assert isinstance(proven, Proven)
    assert proven.evidence.kind and proven.evidence.reference, "evidence must name its source"
    ended = await bench.wait_for(TurnEnded)
    assert isinstance(ended, TurnEnded)
    assert ended.outcome is Outcome.COMPLETED, f"the turn failed: {ended}"
    await bench.wait_for(Idle)
    return write_id


def _proofs(bench: DriverBench) -> Counter[str]:
    return Counter(event.write_id for event in bench.events if isinstance(event, Proven))


def _history_is_sound(bench: DriverBench) -> None:
    """What must hold for any sequence of committed events."""
    events = bench.events
    assert not any(isinstance(event, Exited) for event in events), "Exited is the runtime's to say"
    twice = [write_id for write_id, times in _proofs(bench).items() if times > 1]
    assert not twice, f"proven more than once: {twice}"
    final = {event.write_id for event in events if isinstance(event, Refused) and not event.retry}
    assert not final & _proofs(bench).keys(), "a write cannot be proven and refused"
    started = Counter(event.turn_id for event in events if isinstance(event, TurnStarted))
    ended = Counter(event.turn_id for event in events if isinstance(event, TurnEnded))
    assert all(times == 1 for times in started.values()), f"turns started twice: {started}"
    assert all(times == 1 for times in ended.values()), f"turns ended twice: {ended}"
    assert ended.keys() <= started.keys(), "a turn ended that never started"
    _idle_is_outside_of_turns(events)
    for event in events:
        _texts_are_bounded(event)
    json.dumps(bench.checkpoint)


def _idle_is_outside_of_turns(events: list[Event]) -> None:
    running: str | None = None
    for event in events:
        if isinstance(event, TurnStarted):
            running = event.turn_id
        elif isinstance(event, TurnEnded | SessionReady):  # a new process has no old turn
            running = None
        elif isinstance(event, Idle):
            assert running is None, f"Idle was said while turn {running} ran"


def _texts_are_bounded(event: Event) -> None:
    for item in dataclasses.fields(event):
        value = getattr(event, item.name)
        if isinstance(value, str):
            assert len(value) <= MAX_TEXT + _MARK, (
                f"{event.type}: {item.name} has {len(value)} characters; use `clip`"
            )


__all__ = ["CHECKS", "Subject", "check_driver"]
