"""The bench and the conformance checks: a good driver passes, and each kind of bad one fails."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from relay_runtime.contract import Context, Handed, Settlement, StartFailed, StopPlan, Verdict
from relay_runtime.events import HarnessError, Idle, Proven, SessionReady, TurnEnded, TurnStarted
from relay_runtime.processes import alive, descendants_of, marked
from relay_runtime.testing.conformance import (
    CHECKS,
    Subject,
    check_adopt_when_idle,
    check_crash_before_end_of_turn,
    check_crash_before_proof,
    check_message,
    check_release,
    check_resume,
    check_settle,
    check_start,
    check_unknown_request,
)
from relay_runtime.testing.driver_bench import DriverBench

from .line_driver import LineHarness, LineSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay_runtime.contract import Json, SessionSpec
    from relay_runtime.events import Event

pytestmark = pytest.mark.anyio

ENVIRON = {"PATH": os.environ["PATH"]}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_good_driver_passes(check: Callable[[Subject], Awaitable[None]]) -> None:
    await check(Subject(LineHarness(), ENVIRON))


class NeverReady(LineSession):
    def understand(self, line: dict[str, str]) -> list[Event]:
        return [event for event in super().understand(line) if not isinstance(event, SessionReady)]


class ProvesTwice(LineSession):
    def understand(self, line: dict[str, str]) -> list[Event]:
        events = super().understand(line)
        return events + [event for event in events if isinstance(event, Proven)]


class IdleTooEarly(LineSession):
    def understand(self, line: dict[str, str]) -> list[Event]:
        events = super().understand(line)
        return [*events, Idle()] if line["kind"] == "took" else events


class ForgetsWhereItWas(LineSession):
    def checkpoint(self) -> Json:
        return {"offset": 0, "record": self.record, "turn": self.turn}


class RemembersTooMuch(LineSession):
    """Its checkpoint is ahead of its events: what it was about to say is lost in a crash."""

    def understand(self, line: dict[str, str]) -> list[Event]:
        events = super().understand(line)
        self.held, before = events, getattr(self, "held", [])
        return before if line["kind"] != "ready" else events

    held: list[Event]


class SaysNothingAfterAdopt(LineSession):
    async def run(self) -> None:
        self.adopted = False
        await super().run()


class SettlesByGuessing(LineSession):
    async def settle(self, write_id: str) -> Settlement:
        return Settlement(Verdict.PRESENT)


class AnswersAnything(LineSession):
    async def answer(self, request_id: str, allow: bool, message: str | None = None) -> None:
        pass


class LeavesItsProcess(LineSession):
    async def release(self, stop: StopPlan) -> None:
        pass


class BadHarness(LineHarness):
    def __init__(self, kind: type[LineSession]) -> None:
        self.kind = kind

    def session(self, ctx: Context, offset: int) -> LineSession:
        return self.kind(ctx, offset)


class StartsAnew(LineHarness):
    async def create(self, spec: SessionSpec, ctx: Context) -> LineSession:
        return await super().create(replace(spec, conversation=None), ctx)


@pytest.mark.parametrize(
    ("harness", "check", "complaint"),
    [
        (BadHarness(NeverReady), check_start, "SessionReady must be said once"),
        (BadHarness(ProvesTwice), check_message, "proven more than once"),
        (BadHarness(IdleTooEarly), check_message, "Idle was said while turn"),
        (BadHarness(ForgetsWhereItWas), check_adopt_when_idle, "was said again after adopt"),
        (BadHarness(ForgetsWhereItWas), check_crash_before_proof, "started twice"),
        (BadHarness(SettlesByGuessing), check_settle, "cannot be present"),
        (BadHarness(AnswersAnything), check_unknown_request, "KeyError or Unsupported"),
        (StartsAnew(), check_resume, "the same conversation"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
async def test_a_bad_driver_is_found_out(
    harness: LineHarness, check: Callable[[Subject], Awaitable[None]], complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        await check(Subject(harness, ENVIRON))


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (SaysNothingAfterAdopt, check_adopt_when_idle),
        (LeavesItsProcess, check_release),
        (RemembersTooMuch, check_crash_before_end_of_turn),
    ],
)
async def test_a_driver_that_never_says_what_it_must_is_found_out_by_its_bound(
    kind: type[LineSession],
    check: Callable[[Subject], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DriverBench.wait_for, "__defaults__", (0.5,))
    monkeypatch.setattr(DriverBench.wait_run, "__defaults__", (0.5,))
    monkeypatch.setattr(DriverBench.crash_before, "__defaults__", (0.5,))
    with pytest.raises(AssertionError, match="waited for"):
        await check(Subject(BadHarness(kind), ENVIRON))


async def test_the_bench_runs_a_session_through_crashes_of_everything() -> None:
    async with DriverBench(LineHarness(), ENVIRON) as bench:
        await bench.create()
        await bench.wait_for(SessionReady)
        first = await bench.inject("one")
        assert bench.receipts[first].status is Handed.ACCEPTED
        await bench.wait_for(Idle)
        await bench.crash()
        await bench.adopt()
        bench.arm(TurnStarted)
        second = await bench.inject("two")
        await bench.crash_before(TurnStarted)
        assert bench.of(TurnStarted) != []
        await bench.adopt()
        await bench.wait_for(TurnEnded)
        await bench.kill_agent()
        await bench.recreate()
        await bench.wait_for(Idle)
        third = await bench.inject("three")
        await bench.wait_for(TurnEnded)
        proven = [event.write_id for event in bench.events if isinstance(event, Proven)]
        assert proven == [first, second, third]
        assert [bench.injections[write_id].seq for write_id in proven] == [1, 2, 3]
        assert {entry.life for entry in bench.recorded} == {1, 2, 3, 4}


async def test_a_write_repeated_after_a_crash_is_not_written_twice() -> None:
    async with DriverBench(LineHarness(), ENVIRON) as bench:
        await bench.create()
        await bench.wait_for(Idle)
        bench.arm(Proven)
        write_id = await bench.inject("one")
        await bench.crash_before(Proven)
        await bench.adopt()
        await bench.reinject(write_id)
        await bench.wait_for(Idle)
        await bench.inject("two")
        await bench.wait_for(TurnEnded)
        assert len(bench.of(Proven)) == 2


async def test_a_wait_that_runs_out_tells_what_happened_instead() -> None:
    async with DriverBench(LineHarness(), ENVIRON) as bench:
        await bench.create()
        await bench.wait_for(Idle)
        with pytest.raises(AssertionError) as failure:
            await bench.wait_for(HarnessError, 0.05)
        assert "waited for HarnessError" in str(failure.value)
        assert "SessionReady" in str(failure.value)
        assert '"kind": "ready"' in str(failure.value)


async def test_a_wait_ends_when_the_session_does() -> None:
    async with DriverBench(LineHarness(), ENVIRON) as bench:
        await bench.create()
        await bench.wait_for(Idle)
        await bench.kill_agent()
        bench.mark()
        with pytest.raises(AssertionError, match=r"Session\.run is over"):
            await bench.wait_for(Idle)


async def test_nothing_survives_the_bench() -> None:
    async with DriverBench(LineHarness(), ENVIRON) as bench:
        await bench.create()
        await bench.wait_for(Idle)
        family = [*descendants_of(bench.link.holder_pid), *marked(bench.spec.session_id)]
        assert len(set(family)) >= 2, "the program and the child that called setsid"
    assert alive(family) == []
    assert not bench.root.exists()


async def test_the_bench_cleans_up_when_the_holder_was_killed() -> None:
    async with DriverBench(LineHarness(), ENVIRON) as bench:
        await bench.create()
        await bench.wait_for(Idle)
        family = marked(bench.spec.session_id)
        os.kill(bench.link.holder_pid, signal.SIGKILL)
        await bench.wait_run()
    assert alive(family) == []


async def test_a_failure_to_start_comes_out_of_create() -> None:
    class Missing(LineHarness):
        async def create(self, spec: SessionSpec, ctx: Context) -> LineSession:
            raise StartFailed("install it")

    async with DriverBench(Missing(), ENVIRON) as bench:
        with pytest.raises(StartFailed, match="install it"):
            await bench.create()
