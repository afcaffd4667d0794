"""One headless run of Claude behind the holder: the I/O around `Protocol`."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import (
    Context,
    Handed,
    HarnessGone,
    Injection,
    Receipt,
    Session,
    Settlement,
    StartFailed,
    StopPlan,
    Stream,
)
from relay_runtime.events import Event, Idle, Notice, TurnEnded

from . import commands
from .capabilities import CAPABILITIES
from .checkpoint import Checkpoint
from .launch import start_error
from .lines import MAX_LINE, Lines, TooLong
from .lookup import Lookup
from .observations import Observation, Responded
from .protocol import Protocol
from .reading import observe
from .settling import Settling
from .text import neutralise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from relay_runtime.contract import ChildExit, Chunk

#: From exec to the answer to `initialize`: 0.4 to 1.2 s, many times that on a machine under load.
START_S: Final = 120.0
#: Looks at the record while Claude is silent after a claim: the batch, then a machine under load.
LOOKS_S: Final = (0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
#: A control request is answered in milliseconds, also while a turn runs.
ANSWER_S: Final = 5.0
#: Of stderr, to explain a start that failed.
LAST_WORDS: Final = 8192


class ClaudeSession(Session):
    """Made by `ClaudeHarness`. `adopted`: the process ran before this supervisor did."""

    capabilities = CAPABILITIES

    def __init__(
        self, ctx: Context, start: Checkpoint, environ: Mapping[str, str], *, adopted: bool
    ) -> None:
        self._ctx = ctx
        self._adopted = adopted
        self._err_offset = start.err_offset
        self._protocol = Protocol(start.state)
        self._lines = Lines(start.offset, skipping=start.skipping)
        self._lookup = Lookup(environ, start.state.conversation)
        self._marks: dict[str, int] = {}  # where in the record to look for a write
        self._busy = anyio.Lock()  # state and commit move together
        self._claimed = anyio.Event()
        self._ready = anyio.Event()
        self._idle_said = False  # in this life
        self._waiting: dict[str, _Reply] = {}
        self._settling = Settling(
            start.state, self._protocol.writes, self._lookup, ctx.holder, self._busy, self._ask
        )

    # --- run ------------------------------------------------------------------------------------

    async def run(self) -> None:
        failures: list[Exception] = []
        async with anyio.create_task_group() as tasks:

            async def until_over(part: Callable[[], Awaitable[None]]) -> None:
                try:
                    await part()
                except Exception as error:  # noqa: BLE001 - raised below, not inside a group
                    failures.append(error)
                    tasks.cancel_scope.cancel()

            tasks.start_soon(until_over, self._look_again)
            tasks.start_soon(until_over, self._bound_start)
            await until_over(self._pump)
            tasks.cancel_scope.cancel()
        if failures:
            raise failures[0]
        if not self._protocol.state.ready:
            raise await self._start_failure()

    async def _pump(self) -> None:
        status = await self._ctx.holder.status()
        if self._protocol.state.ready:
            self._ready.set()
        elif status.exit is None:
            await self._write_quietly(commands.greeting())
        # What was said before this moment is news to us only; after it, we are up to date.
        behind = status.offsets.get(Stream.OUT, 0) if self._adopted else None
        offset = self._lines.offset
        if behind is not None and offset >= behind:
            await self._say_idle()
            behind = None
        async for chunk in self._ctx.holder.read(Stream.OUT, offset):
            await self._take(chunk)
            if behind is not None and chunk.offset + len(chunk.data) >= behind:
                await self._say_idle()
                behind = None
        await self._ctx.holder.wait_exit()

    async def _say_idle(self) -> None:
        """After an adoption: that it is idle is said again, unless what was missed said so."""
        async with self._busy:
            if self._protocol.state.boundary and not self._idle_said:
                await self._commit([Idle()])

    async def _bound_start(self) -> None:
        with anyio.move_on_after(START_S):
            await self._ready.wait()
            return
        raise StartFailed(
            f"claude did not answer within {START_S:.0f} s of its start; see its log and try again"
        )

    async def _start_failure(self) -> Exception:
        exit_ = await self._ctx.holder.wait_exit()
        words = b""
        async for chunk in self._ctx.holder.read(Stream.ERR, self._err_offset):
            words = (words + chunk.data)[-LAST_WORDS:]
        return start_error(words.decode("utf-8", "replace"), _how(exit_))

    # --- what Claude says -----------------------------------------------------------------------

    async def _take(self, chunk: Chunk) -> None:
        """Consume a piece of stdout; commit its events and the place after it together."""
        async with self._busy:
            events: list[Event] = []
            if chunk.gap:
                self._lines.resync(chunk.offset)
                message = f"{chunk.gap} bytes of claude's output are lost; events may be missing"
                events.append(Notice("log.gap", message))
                self._protocol.outbox.append(commands.greeting())  # says what is the case now
            responses: list[Responded] = []
            for line in self._lines.feed(chunk.data):
                if isinstance(line, TooLong):
                    message = f"claude printed a line of more than {MAX_LINE} bytes; it is skipped"
                    events.append(Notice("claude.stdout", message))
                elif (seen := observe(line)) is not None:
                    events += await self._see(seen)
                    if isinstance(seen, Responded):
                        responses.append(seen)
            await self._commit(events)
            for response in responses:
                if (reply := self._waiting.pop(response.request_id, None)) is not None:
                    reply.set(response)
        await self._flush_outbox()

    async def _see(self, seen: Observation) -> list[Event]:
        events = self._protocol.see(seen, time.time())
        proofs = await self._weigh()
        if not proofs:
            return events
        # What a turn did to its write belongs before its end.
        cut = next(
            (i for i, e in enumerate(events) if isinstance(e, TurnEnded | Idle)), len(events)
        )
        return [*events[:cut], *proofs, *events[cut:]]

    async def _commit(self, events: list[Event]) -> None:
        if events:
            await self._ctx.emit(*events, checkpoint=self._checkpoint().to_json())
            self._idle_said |= any(isinstance(event, Idle) for event in events)
        if self._protocol.state.ready:
            self._ready.set()
        if self._protocol.writes.claims:
            self._claimed.set()

    def _checkpoint(self) -> Checkpoint:
        lines = self._lines
        return Checkpoint(lines.offset, self._err_offset, self._protocol.state, lines.skipping)

    async def _flush_outbox(self) -> None:
        outbox = self._protocol.outbox
        while outbox:
            await self._write_quietly(outbox.pop(0))

    async def _write_quietly(self, data: bytes) -> None:
        """For what may be repeated, and is pointless once the process is gone: that is seen soon."""
        try:
            await self._ctx.holder.write(data, 0)
        except HarnessGone:
            return

    # --- proof ----------------------------------------------------------------------------------

    async def _weigh(self) -> list[Event]:
        """Look up in the record what Claude claims, and decide what is overdue."""
        writes = self._protocol.writes
        events: list[Event] = []
        self._lookup.follow(self._protocol.state.conversation)
        for harness_id in writes.claims:
            if await self._recorded(harness_id):
                events += writes.confirmed(harness_id)
        for harness_id in writes.overdue:
            events += await self._decide(harness_id)
        for harness_id in self._marks.keys() - self._protocol.state.writes.keys():
            del self._marks[harness_id]
        return events

    async def _recorded(self, harness_id: str) -> bool:
        """Whether the record has it by now. Unreadable is as good as not there yet."""
        try:
            found = await self._lookup.find((harness_id,), self._marks.get(harness_id, 0))
        except OSError:
            return False
        return found is not None

    async def _decide(self, harness_id: str) -> list[Event]:
        writes = self._protocol.writes
        try:
            if await self._lookup.find_patiently((harness_id,)) is not None:
                return writes.confirmed(harness_id)
            if await self._lookup.exists():
                return writes.missing(harness_id)
        except OSError:
            return []  # it stays open; `settle` will say that it cannot be read
        return writes.unrecorded(harness_id)

    async def _look_again(self) -> None:
        """Confirms a claim while Claude says nothing that would make us look."""
        while True:
            await self._claimed.wait()
            for wait_s in LOOKS_S:
                await anyio.sleep(wait_s)
                async with self._busy:
                    await self._commit(await self._weigh())
                if not self._protocol.writes.claims:
                    break
            self._claimed = anyio.Event()

    # --- what we do -----------------------------------------------------------------------------

    async def receive_message(self, injection: Injection) -> Receipt:
        limit = self.capabilities.max_input_bytes
        if len(injection.text.encode("utf-8", "replace")) > limit:
            return Receipt(Handed.FAILED, f"the message is longer than {limit} bytes")
        writes = self._protocol.writes
        if writes.other_seen(injection.write_id):
            return Receipt(Handed.DEFERRED, "claude still holds the message before this one")
        text = neutralise(injection.text)
        harness_id = writes.hand(injection.write_id, text)
        self._marks.setdefault(harness_id, self._lookup.newest)
        message = commands.user_message(harness_id, text, injection.entry)
        await self._ctx.holder.write(message, injection.seq)
        return Receipt(Handed.ACCEPTED)

    async def settle(self, write_id: str) -> Settlement:
        """See `Session.settle`. One thing is not a mere look: a write that has waited in Claude's
        queue for too long is taken back, and is absent then."""
        return await self._settling.settle(write_id)

    async def interrupt(self) -> None:
        await self._write_quietly(commands.request(_new_id(), "interrupt"))

    async def answer(self, request_id: str, allow: bool, message: str | None = None) -> None:
        tool_use_id = self._protocol.state.requests[request_id]
        await self._ctx.holder.write(commands.answer(request_id, tool_use_id, allow, message), 0)

    async def drain(self) -> None:
        await self._ctx.holder.close_input()

    async def release(self, stop: StopPlan) -> None:
        await self._ctx.holder.stop(stop)

    async def _ask(self, subtype: str, **arguments: str) -> Responded | None:
        """The answer to a control request, or None when there is none in time."""
        request_id = _new_id()
        reply = self._waiting[request_id] = _Reply()
        try:
            await self._ctx.holder.write(commands.request(request_id, subtype, **arguments), 0)
            with anyio.move_on_after(ANSWER_S):
                return await reply.wait()
            return None
        finally:
            self._waiting.pop(request_id, None)


class _Reply:
    def __init__(self) -> None:
        self._event = anyio.Event()
        self._value: Responded | None = None

    def set(self, value: Responded) -> None:
        self._value = value
        self._event.set()

    async def wait(self) -> Responded | None:
        await self._event.wait()
        return self._value


def _new_id() -> str:
    return f"relay-{uuid.uuid4()}"


def _how(exit_: ChildExit) -> str:
    if exit_.signal is not None:
        return f"killed by signal {exit_.signal}"
    return f"exit status {exit_.code}"


__all__ = ["ClaudeSession"]
