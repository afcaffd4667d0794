"""A workbench for drivers: a real holder, an in-memory runtime around it, and crashes on demand.

    async with DriverBench(harness, environ) as bench:
        await bench.create()
        await bench.wait_for(Idle)
        write_id = await bench.inject("hello")
        await bench.wait_for(Proven)
        await bench.crash()          # as kill -9 of the supervisor would
        await bench.adopt()
        await bench.wait_for(Idle)

At the end of the block the agent is stopped, the holder quits, and no process of the session may be
left: that is asserted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import anyio

from ..contract import (
    Context,
    Entry,
    Harness,
    HarnessGone,
    Injection,
    Json,
    Receipt,
    Session,
    SessionSpec,
    StopPlan,
)
from ..events import Event, SessionReady
from ..holder_link import HolderLink, connect, launch
from ..processes import Process, alive, descendants_of, marked, reap_orphans, vanished

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from anyio.abc import TaskGroup, TaskStatus

#: How long a fact may take to come true. Real CLIs need seconds for a start on a busy machine.
WAIT_S = 30.0
#: For stopping what a test left: nothing here has to be saved.
STOP = StopPlan(drain_s=0, interrupt_s=0.5, term_s=0.5)
#: Of each log, shown when a wait runs out.
TAIL_BYTES = 2000

Wanted = type[Event] | Callable[[Event], bool]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One committed event: `at` is monotonic seconds, `life` counts create and adopt from 1."""

    event: Event
    at: float
    life: int


class _Memory(Context):
    """The journal and the commit of a real runtime, in memory."""

    def __init__(self, bench: DriverBench, spec: SessionSpec, link: HolderLink) -> None:
        self.spec = spec
        self.holder = link
        self.checkpoint = None
        self._bench = bench
        self._life = bench.lives

    async def emit(self, *events: Event, checkpoint: Json = None) -> None:
        await (
            anyio.lowlevel.checkpoint()
        )  # a commit takes time, in which the caller may be cancelled
        if self._life != self._bench.lives:
            raise AssertionError("a session that was dropped still emits")
        await self._bench.commit(events, checkpoint)


class DriverBench:
    """One session of `harness`, started with `environ`; `spec` may change what it is asked for.

    `spec` gets the default spec (headless or the driver's default mode, temporary folders) and
    returns the one to use, usually by `dataclasses.replace`.
    """

    def __init__(
        self,
        harness: Harness,
        environ: Mapping[str, str],
        spec: Callable[[SessionSpec], SessionSpec] = lambda default: default,
    ) -> None:
        self.harness = harness
        self.environ = dict(environ)
        self.root = Path(tempfile.mkdtemp(prefix="rr-"))
        self.session_dir = str(self.root / "s")
        cwd = self.root / "work"
        cwd.mkdir()
        session_id = uuid.uuid4().hex
        default = SessionSpec(
            session_id=session_id,
            agent_id=f"bench-{session_id[:8]}",
            name="bench",
            harness=harness.name,
            mode=harness.default_mode,
            cwd=str(cwd),
            state_dir=self.session_dir,
        )
        self.spec = spec(default)
        self.recorded: list[Recorded] = []
        self.checkpoint: Json = None  #: the last committed one
        self.injections: dict[str, Injection] = {}
        self.receipts: dict[str, Receipt] = {}
        self.lives = 0
        self.failure: Exception | None = None  #: what `run` of the present session raised
        self._seq = 0
        self._since = 0
        self._news = anyio.Event()
        self._trap: Callable[[Event], bool] | None = None
        self._trapped = anyio.Event()
        self._over = anyio.Event()
        self._down = anyio.Event()
        self._scope: anyio.CancelScope | None = None
        self._session: Session | None = None
        self._link: HolderLink | None = None
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        try:
            async with launch(self.session_dir, self.spec.session_id, self.environ):
                pass
        except BaseException:
            await self._tasks.__aexit__(None, None, None)
            shutil.rmtree(self.root, ignore_errors=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            with anyio.CancelScope(shield=True):
                left = await self._end_everything()
        finally:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)
            shutil.rmtree(self.root, ignore_errors=True)
        if error is None:
            assert not left, f"processes of the session were left: {left}"

    # --- what is there --------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        assert self._session is not None, "create or adopt first"
        return self._session

    @property
    def link(self) -> HolderLink:
        assert self._link is not None, "create or adopt first"
        return self._link

    @property
    def events(self) -> list[Event]:
        """Everything committed so far, over all crashes."""
        return [entry.event for entry in self.recorded]

    def of(self, kind: type[Event] | tuple[type[Event], ...]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    # --- lives ----------------------------------------------------------------------------------

    async def create(self, *, conversation: str | None = None) -> Session:
        """Start the harness. Raises what `Harness.create` raises."""
        return await self._begin(replace(self.spec, conversation=conversation), adopt=False)

    async def adopt(self) -> Session:
        """Take over the running harness, as a supervisor does that found it after a crash."""
        return await self._begin(self.spec, adopt=True)

    async def recreate(self) -> Session:
        """Start the harness again, to continue the conversation it named last."""
        ready = [event for event in self.events if isinstance(event, SessionReady)]
        assert ready, "there was no SessionReady, so there is no conversation to continue"
        return await self.create(conversation=ready[-1].conversation)

    async def crash(self) -> None:
        """Drop session and connection as `kill -9` of the supervisor would. The harness lives on."""
        if self._scope is not None:
            self._scope.cancel()
            await self._down.wait()
        self._trap = None

    async def crash_before(self, wanted: Wanted, wait_s: float = WAIT_S) -> None:
        """Crash when such an event is about to be committed: it is lost, and must come again.

        What would be committed with it is lost too. Call it before the thing that leads to it:
        it waits, so start that in a task or arm it with `arm` first.
        """
        if self._trap is None:
            self.arm(wanted)
        await self._within(self._trapped, wait_s, f"an emit of {_name(wanted)}")
        await self.crash()

    def arm(self, wanted: Wanted) -> None:
        """Let the next emit with such an event hang uncommitted, for `crash_before` to find."""
        self._trap, self._trapped = _matcher(wanted), anyio.Event()

    async def kill_agent(self) -> None:
        """`kill -9` the harness process and wait until the session has noticed."""
        status = await self.link.status()
        assert status.pid is not None, "the harness does not run"
        os.kill(status.pid, signal.SIGKILL)
        with anyio.fail_after(WAIT_S):
            await self.link.wait_exit()
        await self.wait_run()

    async def wait_run(self, wait_s: float = WAIT_S) -> None:
        """Wait until `Session.run` has returned or raised; what it raised is in `failure`."""
        await self._within(self._over, wait_s, "Session.run to return")

    # --- messages and events --------------------------------------------------------------------

    async def inject(self, text: str, entry: Entry = Entry.NEXT_TURN) -> str:
        """Hand `text` to the harness with a new id and number. Its receipt is in `receipts`."""
        self._seq += 1
        injection = Injection(str(uuid.uuid4()), self._seq, text, entry)
        self.injections[injection.write_id] = injection
        await self.reinject(injection.write_id)
        return injection.write_id

    async def reinject(self, write_id: str) -> Receipt:
        """Hand in a write once more with the same id and number, as after a crash."""
        self.mark()
        receipt = await self.session.receive_message(self.injections[write_id])
        self.receipts[write_id] = receipt
        return receipt

    def mark(self) -> None:
        """From here on `wait_for` looks at later events only. Done by every inject and new life."""
        self._since = len(self.recorded)

    async def wait_for(self, wanted: Wanted, wait_s: float = WAIT_S) -> Event:
        """The first such event since the last inject, create, adopt or `mark`; waits for it.

        `wanted` is an event class or a predicate. Raises `AssertionError`, with what happened
        instead, when it does not come within `wait_s` seconds or the session ends before.
        """
        matches = _matcher(wanted)
        with anyio.move_on_after(wait_s):
            while True:
                news = self._news
                over = self._over.is_set()
                for entry in self.recorded[self._since :]:
                    if matches(entry.event):
                        return entry.event
                if over:
                    raise AssertionError(self._report(_name(wanted), "Session.run is over"))
                await news.wait()
        raise AssertionError(self._report(_name(wanted), f"{wait_s} s passed"))

    async def commit(self, events: tuple[Event, ...], checkpoint: Json) -> None:
        """What `Context.emit` does here; for the context only."""
        if self._trap is not None and any(self._trap(event) for event in events):
            self._trapped.set()
            await anyio.sleep_forever()
        now = time.monotonic()
        self.recorded += [Recorded(event, now, self.lives) for event in events]
        if checkpoint is not None:
            self.checkpoint = checkpoint
        self._tell()

    # --- inside ---------------------------------------------------------------------------------

    async def _begin(self, spec: SessionSpec, *, adopt: bool) -> Session:
        if self._scope is not None:
            await self.crash()
        self.mark()
        self.lives += 1
        self.failure = None
        self._over, self._down = anyio.Event(), anyio.Event()
        failure = await self._tasks.start(self._live, spec, adopt)
        if failure is not None:
            raise failure
        return self.session

    async def _live(
        self, spec: SessionSpec, adopt: bool, *, task_status: TaskStatus[Exception | None]
    ) -> None:
        """One life of a supervisor, as far as this session sees it, until it is cancelled."""
        try:
            with anyio.CancelScope() as self._scope:
                async with connect(self.session_dir) as self._link:
                    context = _Memory(self, spec, self._link)
                    try:
                        if adopt:
                            context.checkpoint = self.checkpoint
                            self._session = await self.harness.adopt(spec, context)
                        else:
                            self._session = await self.harness.create(spec, context)
                    except Exception as error:  # noqa: BLE001 - raised by whoever began this life
                        task_status.started(error)
                        return
                    task_status.started(None)
                    await self._run(self._session)
                    await anyio.sleep_forever()  # settle and release may still be called
        finally:
            self._scope = self._session = self._link = None
            self._over.set()
            self._down.set()

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self.failure = error
        self._over.set()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def _within(self, event: anyio.Event, wait_s: float, what: str) -> None:
        with anyio.move_on_after(wait_s):
            await event.wait()
        if not event.is_set():
            raise AssertionError(self._report(what, f"{wait_s} s passed"))

    async def _end_everything(self) -> list[Process]:
        """Stop the session by the holder alone. Returns the processes that survived it."""
        await self.crash()
        try:
            async with connect(self.session_dir) as link:
                known = [*descendants_of(link.holder_pid), *marked(self.spec.session_id)]
                await link.stop(STOP)
                await link.quit()
        except HarnessGone:  # the test killed the holder
            known = await reap_orphans(self.spec.session_id, self._meta())
        left = alive([*known, *marked(self.spec.session_id)])
        for process in left:
            os.kill(process.pid, signal.SIGKILL)
        await vanished(left)
        return left

    def _meta(self) -> dict[str, Json]:
        meta: dict[str, Json] = json.loads(Path(self.session_dir, "meta.json").read_bytes())
        return meta

    def _report(self, wanted: str, why: str) -> str:
        lines = [f"waited for {wanted}: {why}"]
        if self.failure is not None:
            lines.append(f"Session.run raised {self.failure!r}")
        lines += [f"  life {entry.life}: {entry.event}"[:500] for entry in self.recorded[-25:]]
        for name in ("out", "err"):
            lines.append(f"--- end of {name}:")
            lines.append(self.tail(name))
        return "\n".join(lines)

    def tail(self, name: str) -> str:
        """The last output of the harness: `out`, `err` or `hooks`."""
        segments = sorted(Path(self.session_dir, "log").glob(f"{name}-*.log"))
        if not segments:
            return ""
        return segments[-1].read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")


def _matcher(wanted: Wanted) -> Callable[[Event], bool]:
    if isinstance(wanted, type):
        kind = wanted
        return lambda event: isinstance(event, kind)
    return wanted


def _name(wanted: Wanted) -> str:
    return getattr(wanted, "__name__", repr(wanted))


__all__ = ["DriverBench", "Recorded"]
