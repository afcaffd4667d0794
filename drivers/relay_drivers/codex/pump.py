"""This end of the connection to an app-server: what comes in becomes events, for as long as it lives.

Everything that changes what is known of the thread happens under one lock, together with the commit
of the events that follow from it: what is committed and what is known never differ by half a step.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import DriverError, HarnessGone, StartFailed, Stream
from relay_runtime.events import Event, Outcome, Proven, Refused, SessionReady

from . import approvals, checkpoint, history, program
from .attach import Begun, begin, greet, join, rejoin
from .read import objects, text
from .rpc import CallRefused, Message, Peer, connect
from .submissions import Submissions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo
    from pathlib import Path

    from relay_runtime.contract import Context

    from .protocol import Thread

_log = logging.getLogger(__name__)

#: Between attempts to connect. Codex listens some 60 ms after its start, so begin far below that;
#: later it is a process that hangs or is about to end.
FIRST_RETRY_S: Final = 0.005
MAX_RETRY_S: Final = 1.0
#: After the process is gone, for what it had sent before: that is in our socket already.
LAST_WORDS_S: Final = 5.0
#: Of its error output: the message and the warnings around it.
LAST_WORDS_BYTES: Final = 8192


class Pump:
    """See the module. `thread` and `peer` are None until there is a conversation and a connection."""

    def __init__(
        self,
        ctx: Context,
        socket: Path,
        zone: tzinfo | None,
        known: tuple[Thread, str] | None,
        join: str | None,
    ) -> None:
        self.thread: Thread | None = known[0] if known else None
        self.rollout = known[1] if known else ""
        self.peer: Peer | None = None
        self.lock = anyio.Lock()
        self.exited = anyio.Event()
        self._ctx = ctx
        self._socket = socket
        self._zone = zone
        self._join = join
        self._changed = anyio.Event()  # replaced at every change
        self._queued = Submissions()

    async def change(self) -> None:
        """Wait for the next change of thread, connection or process."""
        await self._changed.wait()

    async def run(self) -> None:
        """See `Session.run`."""
        failure: DriverError | None = None
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                nonlocal failure
                try:
                    await self._ctx.holder.wait_exit()
                except HarnessGone as error:  # it is the holder that is lost
                    failure = error
                else:
                    self.exited.set()
                    self._tell()
                    await anyio.sleep(LAST_WORDS_S)
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                await self._connections()
            except DriverError as error:
                failure = error  # raised below: a group would wrap it
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if self.thread is None:
            raise StartFailed(await self._why_not_started())

    async def emit(self, thread: Thread, events: Sequence[Event]) -> None:
        """Commit events with what is known after them. The caller holds the lock."""
        sure = [found for event in events if (found := await self._certain(event)) is not None]
        if sure:
            await self._ctx.emit(*sure, checkpoint=checkpoint.dump(thread, self.rollout))

    # --- inside ----------------------------------------------------------------------------------

    async def _connections(self) -> None:
        """One connection after another while the process lives."""
        delay = FIRST_RETRY_S
        while not self.exited.is_set():
            try:
                async with connect(address(self._socket)) as peer:
                    await self._attach(peer)
                    delay = FIRST_RETRY_S
                    await self._read(peer)
            except (HarnessGone, CallRefused) as error:
                _log.debug("! %s", error, extra={"action": "codex_connection"})
            finally:
                self.peer = None
                self._tell()
            with anyio.move_on_after(delay):
                await self.exited.wait()
            delay = min(delay * 2, MAX_RETRY_S)

    async def _attach(self, peer: Peer) -> None:
        """Begin or rejoin the conversation, tell what was missed, and whether it waits."""
        version = await greet(peer)
        async with self.lock:
            self._queued = Submissions()
            events: list[Event] = []
            thread, fresh = self.thread, False
            if thread is None:
                begun = await self._begin(peer)
                thread, fresh, self.rollout = begun.thread, begun.fresh, begun.rollout
                events.append(SessionReady(thread.conversation, version, begun.model))
            else:
                self.rollout = await rejoin(peer, thread) or self.rollout
            if not fresh:
                events += await self._missed(peer, thread)
            # An answer comes after what codex had to say before it: open requests are here by now.
            backlog = peer.arrived()
            asked = [ask.request_id for message in backlog if (ask := _ask(message))]
            events += thread.asks.only(asked)
            # Once it is said that codex waits, the next message may come at any moment.
            self.thread, self.peer = thread, peer
            await self._commit(peer, thread, [*events, *self._fold(thread, backlog)])
        self._tell()

    async def _begin(self, peer: Peer) -> Begun:
        if self._join is None:
            return await begin(peer, self._ctx.spec, self._zone)
        return await join(peer, self._join, self._ctx.spec.name, self._zone)

    async def _missed(self, peer: Peer, thread: Thread) -> list[Event]:
        turns, entries = await history.missed(peer, thread)
        record = await history.read_rollout(self.rollout) or history.Rollout()
        return thread.catch_up(turns, entries, record.usage, record.total)

    async def _read(self, peer: Peer) -> None:
        """Until the connection ends."""
        while True:
            batch: list[Message] | None = None
            with anyio.move_on_after(self._queued.patience(anyio.current_time())):
                batch = await peer.batch()
            if batch is not None and not batch:
                return
            async with self.lock:
                assert self.thread is not None, "there is a thread once it is attached"
                await self._commit(peer, self.thread, self._fold(self.thread, batch or []))
            self._tell()
            if any(_is_ours(message, self.thread, "thread/closed") for message in batch or []):
                return  # the next connection resumes it

    def _fold(self, thread: Thread, batch: Sequence[Message]) -> list[Event]:
        events: list[Event] = []
        for message in batch:
            if message.rpc_id is not None:
                ask = _ask(message)
                events += thread.request(ask) if ask is not None else []
                continue
            if _is_ours(message, thread, "thread/queue/changed"):
                self._queued.changed = True
            events += thread.observe(message.method, message.params, message.at)
        return events

    async def _commit(self, peer: Peer, thread: Thread, events: list[Event]) -> None:
        """Commit `events`, and that codex waits for input when nothing speaks against it."""
        if self._queued.changed:
            # Told before anything is asked: if the connection is lost now, they must not be.
            await self.emit(thread, events)
            events = []
            queued = await peer.call("thread/queue/list", {"threadId": thread.conversation})
            self._queued.listed(sum(1 for _ in objects(queued, "data")))
        paused = thread.outcome is Outcome.INTERRUPTED
        goes_on = self._queued.goes_on(thread.boundary, paused, anyio.current_time())
        if thread.boundary and not goes_on:
            events = [*events, *thread.say_idle()]
        await self.emit(thread, events)

    async def _certain(self, event: Event) -> Event | None:
        """A refusal only if the record has no trace of the write; else its proof, or nothing."""
        if not isinstance(event, Refused):
            return event
        record = await history.read_rollout(self.rollout, event.write_id)
        if record is None:
            return event
        if record.evidence is not None:
            return Proven(event.write_id, record.evidence)
        return None if record.orphan else event

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _why_not_started(self) -> str:
        """Codex's own words."""
        end = (await self._ctx.holder.status()).offsets.get(Stream.ERR, 0)
        said = bytearray()
        async for chunk in self._ctx.holder.read(Stream.ERR, max(end - LAST_WORDS_BYTES, 0)):
            said += chunk.data
        words = said.decode(errors="replace").strip()
        last = words.splitlines()[-1] if words else "it said nothing"
        return f"codex did not start: {program.last_error(words) or last}"


def _is_ours(message: Message, thread: Thread, method: str) -> bool:
    return message.method == method and text(message.params, "threadId") == thread.conversation


def _ask(message: Message) -> approvals.Ask | None:
    if message.rpc_id is None:
        return None
    return approvals.ask(message.rpc_id, message.method, message.params)


def address(socket: Path) -> str:
    """Where codex really listens: behind the link, at a path that is never too long to connect."""
    return os.path.realpath(socket)


__all__ = ["Pump", "address"]
