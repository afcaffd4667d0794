"""Carries out what a session's turn machine asks for, and keeps its time.

Effects are carried out one after another, beside the driver's pump: a driver may need its pump to
answer a write. What comes of them goes back to the machine as a signal.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from ..contract import DriverError, Handed, HarnessGone, Session, Settlement, Verdict
from ..events import Notice, Refused
from ..turn_types import Doubted, Interrupt, SessionState, Settle, Settled
from .ledger import Inject

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..contract import Injection
    from .ledger import Effect, Ledger

#: A harness's record must answer within this; a longer wait counts as "cannot say now".
SETTLE_S = 30.0
#: Handing over a write takes milliseconds; an agent that does not take it in this time is in doubt.
HAND_OVER_S = 60.0


class Effects:
    """`session()` is the driver's session of the current run, or the last one, or None."""

    def __init__(self, ledger: Ledger, session: Callable[[], Session | None]) -> None:
        self._ledger = ledger
        self._session = session

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._carry_out(await self._ledger.next_effect())

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Inject(injection):
                await self._inject(injection)
            case Settle(write_id):
                settlement = await self._settle(write_id)
                await self._ledger.control(
                    Settled(write_id, settlement.verdict, settlement.evidence, settlement.reason)
                )
            case Interrupt():
                await self._interrupt()

    async def _inject(self, injection: Injection) -> None:
        write_id = injection.write_id
        session = self._session()
        try:
            if session is None:
                raise HarnessGone("the agent is not running")
            with anyio.fail_after(HAND_OVER_S):
                receipt = await session.receive_message(injection)
        except (HarnessGone, TimeoutError):
            await self._ledger.control(Doubted(write_id))
        except DriverError as error:
            await self._ledger.observe([Refused(write_id, str(error), retry=False)])
        else:
            reason = receipt.reason or "the harness did not take it"
            if receipt.status is not Handed.ACCEPTED:
                again = receipt.status is Handed.DEFERRED
                await self._ledger.observe([Refused(write_id, reason, retry=again)])

    async def _settle(self, write_id: str) -> Settlement:
        session = self._session()
        if session is None:
            return Settlement(Verdict.UNKNOWN, reason="the agent is not running")
        try:
            with anyio.fail_after(SETTLE_S):
                return await session.settle(write_id)
        except TimeoutError:
            return Settlement(Verdict.UNKNOWN, reason=f"no answer within {SETTLE_S:g} s")
        except DriverError as error:
            return Settlement(Verdict.UNKNOWN, reason=str(error))

    async def _interrupt(self) -> None:
        session = self._session()
        if session is None:
            return
        try:
            await session.interrupt()
        except DriverError as error:
            await self._ledger.observe([Notice("interrupt.failed", str(error))])


class Clock:
    """Ticks the machine at its deadlines, and reports a turn that has gone silent."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self) -> None:
        """Until cancelled. Sleeps until a deadline or a change, whichever is first."""
        while True:
            changed = self._ledger.changed
            machine, silence = self._ledger.deadline, self._silence()
            times = [at for at in (machine, silence) if at is not None]
            if not times:
                await changed.wait()
                continue
            with anyio.move_on_after(max(min(times) - time.time(), 0)):
                await changed.wait()
                continue
            if machine is not None and machine <= time.time():
                await self._ledger.tick()
            if silence is not None and silence <= time.time():
                await self._report_silence()

    def _silence(self) -> float | None:
        if self._ledger.state is not SessionState.BUSY:
            return None
        return self._ledger.silent_since + self._ledger.record.limits.turn_idle_s

    async def _report_silence(self) -> None:
        """Never a kill: an agent may think for long, and silence alone proves nothing."""
        limit = self._ledger.record.limits.turn_idle_s
        await self._ledger.observe([Notice("turn.stalled", f"nothing heard for {limit:g} s")])


__all__ = ["Clock", "Effects"]
