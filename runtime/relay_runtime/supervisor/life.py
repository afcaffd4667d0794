"""The life of one session: its holder, run after run of its agent, and what follows each end.

Cancelling `Life.run` leaves holder and agent running; the next supervisor adopts them. Everything
needed for that is in the journal before it matters: the end of a run is committed together with
the decision about the next one.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio

from ..contract import (
    Context,
    DriverError,
    HarnessGone,
    Mode,
    ResumeRefused,
    StartFailed,
    StopPlan,
    Stream,
)
from ..events import Ended, ExitClass, Exited, Notice, SessionReady
from ..holder_link import connect, launch
from ..processes import reap_orphans
from ..restart import HoldFor, Restart, Stop, decide
from ..turn_types import Closed, Held, Hold, Restarting, SessionState
from ..views import end_view, refresh
from . import onlookers
from .attendance import attend
from .effects import SETTLE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ..contract import ChildExit, Harness, Holder, Json, Session, SessionSpec
    from ..events import Event
    from ..holder_link import HolderLink
    from .ledger import Ledger
    from .records import Live

_log = logging.getLogger(__name__)

#: Before connecting again to a holder that hung up on us.
RECONNECT_S = 0.2
#: How much of an agent's last words is read to see why it ended.
LAST_WORDS = 8192
#: … and how long that may take; they are on disk already.
LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True)
class _End:
    """How one run of the agent ended."""

    exit_class: ExitClass
    reason: str
    exit: ChildExit | None
    run: int


class _Context(Context):
    """What the driver gets: everything it says goes to the ledger."""

    def __init__(self, life: Life, spec: SessionSpec, holder: Holder) -> None:
        self.spec = spec
        self.holder = holder
        self.checkpoint = life.ledger.checkpoint
        self._life = life

    async def emit(self, *events: Event, checkpoint: Json = None) -> None:
        await self._life.ledger.observe(events, checkpoint)
        if any(isinstance(event, SessionReady) for event in events):
            self._life.ready.set()
        if self._life.ledger.state is not SessionState.STARTING:
            self._life.started.set()


class Life:
    """See the module. `environ` is None after a supervisor restart: the holder has it. `fresh`: it
    was spawned just now, and has no holder yet."""

    def __init__(
        self,
        ledger: Ledger,
        harness: Harness,
        folder: str,
        environ: Mapping[str, str] | None,
        *,
        fresh: bool,
    ) -> None:
        self.ledger = ledger
        self.session: Session | None = None
        self.pid: int | None = None
        self.holder_pid: int | None = None
        self.ready = anyio.Event()
        self.started = anyio.Event()  # takes input for the first time, asks a person, or is over
        self.ended = anyio.Event()
        self._harness = harness
        self._folder = folder
        self.environ = environ
        self._has_holder = not fresh
        self._wake = anyio.Event()
        self._stop: StopPlan | None = None
        self._stop_reason = "the session was released"
        self._late = False

    # From outside.

    def wake(self) -> None:
        """Start the agent now if its restart is being waited for."""
        self._wake.set()

    async def release(self, stop: StopPlan, reason: str | None) -> None:
        """End the agent and then the session; returns at once, `ended` is set when it is done."""
        self._stop = stop
        self._stop_reason = reason or self._stop_reason
        self._wake.set()
        if self.session is not None and self.pid is not None:
            await self._end_agent(self.session, stop)

    # From beginning to end.

    async def run(self) -> None:
        """Until the session is over for good."""
        while True:
            try:
                async with self._open_holder() as holder:
                    await self._runs(holder)
                    await self._close()
                    await holder.quit()
                break
            except StartFailed as error:
                self._stop_reason = str(error)
                await self._close()
                break
            except HarnessGone as error:
                if await self._holder_answers():
                    await anyio.sleep(RECONNECT_S)
                elif not await self._survives_its_holder(error):
                    await self._close()
                    break
        self.ended.set()
        self.started.set()

    @property
    def _session_id(self) -> str:
        return self.ledger.record.spec.session_id

    @property
    def _has_terminal(self) -> bool:
        return self.ledger.record.spec.mode is Mode.PTY

    @asynccontextmanager
    async def _open_holder(self) -> AsyncIterator[HolderLink]:
        if self._has_holder or self.environ is None:
            async with connect(self._folder) as holder:
                self.environ = await holder.environ()
                yield holder
            return
        log_bytes = self.ledger.record.limits.log_bytes
        async with launch(
            self._folder, self._session_id, self.environ, log_bytes=log_bytes
        ) as holder:
            self._has_holder = True
            yield holder

    async def _holder_answers(self) -> bool:
        """Only the connection was lost, not the holder."""
        try:
            async with connect(self._folder):
                return True
        except HarnessGone:
            return False

    async def _runs(self, holder: HolderLink) -> None:
        """One run of the agent after another, until none follows."""
        status = await holder.status()
        self.holder_pid = status.holder_pid
        adopt = status.run > self.ledger.live.exited_run
        while adopt or await self._may_start():
            end = await self._one_run(holder, adopt)
            self.pid = None
            if not await self._goes_on_after(end):
                return
            adopt = False

    async def _may_start(self) -> bool:
        """Wait out the backoff or the hold. False: the session was released meanwhile."""
        while self._stop is None and not self._wake.is_set():
            live = self.ledger.live
            if live.waits_for_human:
                await self._wake.wait()
            elif live.retry_at is not None and live.retry_at > time.time():
                with anyio.move_on_after(live.retry_at - time.time()):
                    await self._wake.wait()
            else:
                break
        self._wake = anyio.Event()
        return self._stop is None

    async def _one_run(self, holder: HolderLink, adopt: bool) -> _End:
        live = self.ledger.live
        self.ready = anyio.Event()
        if adopt and live.machine.get("activity") != "starting":
            self.ready.set()  # it was ready before this supervisor came
        if not adopt:
            live = replace(live, retry_at=None, waits_for_human=False)
            await self.ledger.begin_run(Restarting(), live=live)
        spec = replace(self.ledger.record.spec, conversation=live.conversation)
        begin = self._harness.adopt if adopt else self._harness.create
        refused: DriverError | None = None
        try:
            self.session = await begin(spec, _Context(self, spec, holder))
            self.pid = (await holder.status()).pid
            await self._pump(self.session, holder)
        except (StartFailed, ResumeRefused) as error:
            refused = error
            await holder.stop(StopPlan(0.0, 0.0, self.ledger.record.stop.term_s))
        except HarnessGone:
            if (await holder.status()).pid is not None:
                raise  # the connection was lost, not the agent: connect again and adopt it
        return await self._describe_end(holder, refused)

    async def _pump(self, session: Session, holder: HolderLink) -> None:
        failed: DriverError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_start, tasks.cancel_scope)
            tasks.start_soon(self._offer_task)
            tasks.start_soon(self._pass_on_notices, holder)
            tasks.start_soon(self._refresh_view, holder)
            if self._has_terminal:
                tasks.start_soon(onlookers.tell, self.ledger, holder)
            else:
                tasks.start_soon(attend, self._folder, self.ledger, holder)
            if self._stop is not None:
                tasks.start_soon(self._end_agent, session, self._stop)
            try:
                await session.run()
            except* DriverError as group:
                failed = _first(group)  # raised bare below: a group would wrap it
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed
        if self._late:
            limit = self.ledger.record.limits.start_s
            raise StartFailed(f"not ready within {limit:g} s; `relay-runtime logs` may say why")

    async def _watch_start(self, pump: anyio.CancelScope) -> None:
        waits = True
        while waits:
            with anyio.move_on_after(self.ledger.record.limits.start_s):
                await self.ready.wait()
                return
            # What it asks before it starts is for a person, who may take their time.
            waits = self.ledger.state is SessionState.WAITING
        self._late = True
        pump.cancel()

    async def _pass_on_notices(self, holder: HolderLink) -> None:
        async for told in holder.notices():
            if told.code == onlookers.LOG_ROLLED:
                if self._has_terminal and told.stream is Stream.OUT:
                    log_bytes = self.ledger.record.limits.log_bytes
                    await onlookers.keep_screen(self._folder, log_bytes, holder)
                continue
            await self.ledger.observe([Notice(told.code, told.message)])

    async def _offer_task(self) -> None:
        """The first task, once per session, as soon as it can take one."""
        task = self.ledger.record.task
        if task is not None:
            await self.ready.wait()
            await self.ledger.offer_task(task)

    async def _refresh_view(self, holder: HolderLink) -> None:
        """Those who look at the agent see the one that runs now."""
        await self.ready.wait()
        record, live = self.ledger.record, self.ledger.live
        spec = replace(record.spec, conversation=live.conversation)
        try:
            await refresh(self._harness, spec, holder)
        except DriverError as error:
            _log.warning("the view of %s: %s", spec.name, error, extra={"action": "view"})

    async def _end_agent(self, session: Session, stop: StopPlan) -> None:
        if stop.drain_s > 0:
            with anyio.move_on_after(stop.drain_s):
                await session.drain()
        await session.release(stop)

    async def _describe_end(self, holder: HolderLink, refused: DriverError | None) -> _End:
        status = await holder.status()
        ended = status.exit
        if self._stop is not None:
            return _End(ExitClass.CLEAN, self._stop_reason, ended, status.run)
        words = await _last_words(holder)
        known = self._harness.exit_class(ended, words) if ended is not None else None
        if isinstance(refused, ResumeRefused):
            return _End(ExitClass.RESUME_REFUSED, str(refused), ended, status.run)
        if refused is not None:
            return _End(known or ExitClass.START_FAILED, str(refused), ended, status.run)
        if ended is None:
            return _End(ExitClass.CRASH, "the agent's process is gone", None, status.run)
        clean = ExitClass.CLEAN if ended.code == 0 else ExitClass.CRASH
        how = f"exit status {ended.code}" if ended.signal is None else f"signal {ended.signal}"
        said = words.strip().splitlines()
        return _End(known or clean, f"{how}: {said[-1][:200]}" if said else how, ended, status.run)

    async def _goes_on_after(self, end: _End) -> bool:
        """Commit the end of a run together with what follows from it."""
        live = replace(self.ledger.live, exited_run=end.run, reason=end.reason, retry_at=None)
        goes_on = self._stop is None
        if goes_on:
            live, goes_on = self._decide(live, end)
        exit_ = end.exit
        code, signal = (exit_.code, exit_.signal) if exit_ is not None else (None, None)
        exited = Exited(code, signal, end.exit_class, end.reason)
        hold = Held(Hold.AUTH) if live.waits_for_human else None
        await self.ledger.end_run(exited, hold, live=live)
        return goes_on

    def _decide(self, live: Live, end: _End) -> tuple[Live, bool]:
        policy, now = self.ledger.record.restart, time.time()
        match decide(policy, live.history, end.exit_class, now, random.random()):
            case Restart(at=at, resume=resume, history=history):
                conversation = live.conversation if resume else None
                live = replace(live, history=history, retry_at=at, conversation=conversation)
                live = replace(live, restarts=live.restarts + 1)
            case HoldFor(reason=why):
                live = replace(live, waits_for_human=True, reason=f"{why}: {end.reason}")
            case Stop(reason=why):
                self._stop_reason = f"{why}: {end.reason}"
                return replace(live, reason=self._stop_reason), False
        return live, True

    async def _survives_its_holder(self, error: HarnessGone) -> bool:
        """The holder was killed: end what it left behind, start over if the environment is known."""
        _log.warning("session %s: %s", self._session_id, error, extra={"action": "holder_lost"})
        try:
            await reap_orphans(self._session_id, _meta(self._folder))
        except TimeoutError as survivors:
            await self.ledger.observe([Notice("processes.left", str(survivors))])
        self.pid = self.holder_pid = None
        self._has_holder = False
        end = _End(ExitClass.CRASH, "its holder process was killed", None, 0)
        if self.environ is not None:
            return await self._goes_on_after(end) and await self._may_start()
        await self._goes_on_after(end)
        self._stop_reason = (
            "its holder was killed, and with it the only copy of its environment;"
            " spawn the session again"
        )
        return False

    async def _close(self) -> None:
        """Settle what is in doubt, fail what waits: after this the session has nothing open."""
        live = replace(self.ledger.live, ended=True, reason=self._stop_reason, retry_at=None)
        await self.ledger.control(Closed(self._stop_reason), live=live)
        await end_view(self._folder)
        with anyio.move_on_after(SETTLE_S):
            while self.ledger.queued:
                await self.ledger.changed.wait()
        await self.ledger.observe([Ended(self._stop_reason)])


def _first(group: BaseExceptionGroup[DriverError]) -> DriverError:
    """Drivers use task groups; what counts is the first thing that went wrong."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DriverError)
    return error


async def _last_words(holder: HolderLink) -> str:
    """The end of what the agent said on its error stream, else on its output."""
    status = await holder.status()
    if status.pid is None and status.exit is None:
        return ""  # it was never executed: nothing ends the streams
    for stream in (Stream.ERR, Stream.OUT):
        end = status.offsets.get(stream, 0)
        said = bytearray()
        with anyio.move_on_after(LAST_WORDS_S):
            async for chunk in holder.read(stream, max(end - LAST_WORDS, 0)):
                said += chunk.data
        if said.strip():
            return said.decode(errors="replace")
    return ""


def _meta(folder: str) -> Mapping[str, Json]:
    """The holder's own record of its child; empty when it was lost with it."""
    try:
        with open(os.path.join(folder, "meta.json"), encoding="utf-8") as file:
            meta = json.load(file)
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}
