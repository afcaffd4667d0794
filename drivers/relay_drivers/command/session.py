"""The shell around `Program`: output in, events out, keystrokes to the holder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from relay_runtime.contract import (
    Capabilities,
    Chunk,
    Entry,
    Handed,
    HarnessGone,
    Mode,
    Receipt,
    Session,
    Settlement,
    StartFailed,
    StopPlan,
    Stream,
    Typed,
    Unsupported,
    Verdict,
)
from relay_runtime.events import clip
from relay_runtime.holder_wire import HolderRefused
from relay_runtime.human_input import human_input

from .keys import Untypable, keys
from .program import Answer, Enter, Phase, Program

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from relay_runtime.contract import Context, Injection
    from relay_runtime.events import Event

    from .keys import Keys
    from .options import Options

CAPABILITIES = Capabilities(
    modes=frozenset({Mode.PTY}),
    boundary="command.prompt",
    evidence="command.echo",
    resume=False,
    settles=False,
)

#: Output chunks read ahead of their judging. The log keeps the rest.
MAX_CHUNKS = 16
#: Enter follows the paste when its echo was seen, or after this. Line editors take an Enter that
#: comes right behind a paste for a part of it.
ECHO_S = 0.15
#: … and so much longer for a large paste: terminals move a few megabytes a second.
ECHO_S_PER_BYTE = 0.5e-6
#: Output without an event is committed as seen this often, so that a restart reads no more again.
CHECKPOINT_BYTES = 1024 * 1024
#: Nothing is written while a person has pressed a key within this time.
PERSON_S = 1.0
#: Where no prompt shows whether a person's draft is still there, it counts as given up when nothing
#: was typed for this long.
DRAFT_S = 30.0
INTERRUPT = b"\x03"


class CommandSession(Session):
    """One run of a program in a terminal."""

    def __init__(self, ctx: Context, options: Options, program: Program) -> None:
        paste = options.paste is not False
        self.capabilities = replace(
            CAPABILITIES,
            boundary="command.prompt" if options.prompt else "command.quiet",
            max_input_bytes=CAPABILITIES.max_input_bytes if paste else options.line_bytes,
        )
        self._ctx = ctx
        self._options = options
        self._program = program
        # Held from a change of `_program` to its commit: what is committed as seen is then never
        # ahead of the events that came of it.
        self._lock = anyio.Lock()
        self._incoming: MemoryObjectSendStream[Chunk] | None = None  # while `run` runs
        self._committed = program.offset
        self._restless = True  # `quiet` has not judged the newest output yet
        self._handing = False
        self._echoed = anyio.Event()  # replaced for each paste
        self._changed = anyio.Event()  # replaced whenever the program's phase may have changed
        self._over = False
        self._paste_at = program.hooks  # of the hooks log, when the pending input was written

    # --- the pump ---------------------------------------------------------------------------------

    async def run(self) -> None:
        failure: StartFailed | None = None
        incoming, chunks = anyio.create_memory_object_stream[Chunk](MAX_CHUNKS)
        self._incoming = incoming
        try:
            async with incoming, chunks, anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, incoming)
                tasks.start_soon(self._watch_people)
                failure = await self._judge(chunks)
                tasks.cancel_scope.cancel()
        finally:
            self._incoming = None
            self._over = True
            self._tell()
        if failure is not None:
            raise failure

    async def _read(self, incoming: MemoryObjectSendStream[Chunk]) -> None:
        async with incoming:
            async for chunk in self._ctx.holder.read(Stream.OUT, self._program.offset):
                await incoming.send(chunk)

    async def _watch_people(self) -> None:
        """Who types what kind of input. A draft of which nothing is heard for long is let go."""
        heard, typed = anyio.create_memory_object_stream[Chunk](MAX_CHUNKS)

        async def read() -> None:
            async with heard:
                async for chunk in self._ctx.holder.read(Stream.HOOKS, self._program.hooks):
                    await heard.send(chunk)

        async with typed, anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            rest = b""
            while True:
                with anyio.move_on_after(DRAFT_S if self._program.drafting else None) as waiting:
                    try:
                        chunk = await typed.receive()
                    except anyio.EndOfStream:
                        return
                    *lines, rest = (rest + chunk.data).split(b"\n")
                    await self._people(lines, chunk.offset + len(chunk.data) - len(rest))
                if waiting.cancelled_caught:
                    self._program.drafting = False
                    self._wake()

    async def _people(self, lines: list[bytes], offset: int) -> None:
        async with self._lock:
            self._program.hooks = offset
            typed = [found for line in lines if (found := human_input(line)) is not None]
            await self._commit(*(event for one in typed for event in self._program.person(one)))
        self._wake()

    async def _judge(self, chunks: MemoryObjectReceiveStream[Chunk]) -> StartFailed | None:
        """Until the end of the output. Returns why the program cannot be used, if so."""
        ready_by = anyio.current_time() + self._options.ready_timeout_s
        while True:
            starting = self._program.phase is Phase.STARTING
            quiet_at = anyio.current_time() + self._options.quiet_s
            until = quiet_at if self._restless else float("inf")
            chunk: Chunk | None = None
            with anyio.CancelScope(deadline=min(until, ready_by) if starting else until) as wait:
                try:
                    chunk = await chunks.receive()
                except anyio.EndOfStream:
                    return await self._end()
            if chunk is not None and (chunk.data or chunk.gap):
                await self._output(chunk)
            elif wait.cancelled_caught and anyio.current_time() >= until:
                await self._quiet()
            starting = self._program.phase is Phase.STARTING
            if starting and anyio.current_time() >= ready_by:
                return self._not_ready()

    async def _output(self, chunk: Chunk) -> None:
        async with self._lock:
            program = self._program
            events = program.feed(chunk.data, chunk.offset, chunk.gap)
            self._restless = True
            if events or program.offset - self._committed >= CHECKPOINT_BYTES:
                await self._commit(*events)
            if program.pending is not None and program.pending.echo.tail_seen:
                self._echoed.set()
        self._tell()

    async def _quiet(self) -> None:
        async with self._lock:
            if self._handing:
                return  # the input is being written: what shows now means nothing yet
            self._restless = False
            events, to_type = self._program.quiet()
            match to_type:
                case Answer(number):
                    # Noted first: an answer that is lost leaves a start that fails, one that is
                    # given twice answers the next question.
                    await self._commit(*events)
                    answer = self._options.startup[number].answer
                    await self._type(answer.encode(self._options.encoding, "replace"))
                case Enter():
                    await self._enter()
                case None if events:
                    await self._commit(*events)
        self._tell()

    async def _end(self) -> StartFailed | None:
        async with self._lock:
            if self._program.phase is Phase.STARTING:
                said = clip(self._program.last_line, 200)
                words = f"its last words: {said}" if said else "it said nothing"
                return StartFailed(f"the program ended before it was ready for input; {words}")
            await self._commit(*self._program.ended())
        return None

    def _not_ready(self) -> StartFailed:
        wanted = self._options.prompt
        shown = clip(self._program.last_line, 200)
        what = f"options.prompt {wanted.pattern!r} did not match" if wanted else "it is never quiet"
        return StartFailed(
            f"the program was not ready within {self._options.ready_timeout_s:g} s: {what}; "
            f"it shows {shown!r}"
        )

    async def _commit(self, *events: Event) -> None:
        self._committed = self._program.offset
        await self._ctx.emit(*events, checkpoint=self._program.dump())

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # --- input ------------------------------------------------------------------------------------

    async def receive_message(self, injection: Injection) -> Receipt:
        if injection.entry is Entry.STEER:
            raise Unsupported("a plain program takes no input in the middle of its work")
        async with self._lock:
            program = self._program
            if not program.accepts:
                return Receipt(Handed.DEFERRED, "the program is not at its prompt")
            try:
                typed = keys(injection.text, self._options, paste=program.pastes)
            except Untypable as error:
                return Receipt(Handed.FAILED, str(error))
            program.begin(injection, typed)
            self._echoed = anyio.Event()
            self._handing = True
            try:
                await self._commit()
            except BaseException:
                self._handing = False
                raise
        try:
            return await self._write(injection, typed)
        finally:
            self._handing = False
            self._wake()

    async def _write(self, injection: Injection, typed: Keys) -> Receipt:
        self._paste_at = self._program.hooks
        text = typed.text.decode("utf-8", "surrogateescape")
        try:
            result = await self._ctx.holder.type(
                [(text, 0)], injection.seq, hooks=self._paste_at, quiet_s=PERSON_S
            )
        except HolderRefused as error:
            return await self._not_taken(str(error))
        except HarnessGone:
            if (await self._ctx.holder.status()).applied_seq < injection.seq:
                return await self._not_taken("the program has ended")
            raise
        if result in (Typed.CHANGED, Typed.HUMAN):
            return await self._not_taken("a person is typing")
        fresh = result is Typed.TYPED
        if self._program.pending is not None:
            self._program.pending.applied = True
        # An input of this number went in before: `quiet` sees whether Enter is still missing.
        if fresh and typed.enter is not None:
            with anyio.move_on_after(ECHO_S + ECHO_S_PER_BYTE * len(typed.text)):
                await self._echoed.wait()
            async with self._lock:
                pending = self._program.pending
                if pending is not None and not pending.echo.submitted:
                    await self._enter()
        return Receipt(Handed.ACCEPTED)

    async def _not_taken(self, reason: str) -> Receipt:
        async with self._lock:
            self._program.withdraw()
            await self._commit()
        return Receipt(Handed.DEFERRED, reason)

    async def _enter(self) -> None:
        """Committed first: Enter may then be missing after a crash, which shows, but never doubled
        without a look at the screen."""
        self._program.entered()
        await self._commit()
        self._restless = True
        # Not when a person has typed behind our text: what stands there is theirs too.
        steps = [(self._options.submit, 0)]
        await self._ctx.holder.type(steps, 0, hooks=self._paste_at, quiet_s=0)

    async def _type(self, data: bytes) -> None:
        self._restless = True
        await self._ctx.holder.write(data, 0)

    def _wake(self) -> None:
        """Have `quiet` look at the screen, also when no output comes."""
        self._restless = True
        if self._incoming is None:
            return
        try:
            self._incoming.send_nowait(Chunk(self._program.offset, b""))
        except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # output is waiting, or there will be none

    async def settle(self, write_id: str) -> Settlement:
        program = self._program
        seq = program.writes.get(write_id)
        applied = (await self._ctx.holder.status()).applied_seq
        pending = program.pending
        if pending is not None and pending.write_id == write_id and seq is not None:
            # Whoever made the write may have been stopped before it saw the answer.
            pending.applied = applied >= seq
            self._wake()
        if seq is not None and applied < seq:
            return Settlement(Verdict.ABSENT, reason="it was never written to the program")
        known = max(program.writes.values(), default=program.first_seq)
        if seq is None and program.first_seq == 0 and applied <= known:
            # Each write is noted before it is made, and nothing was made that is not noted.
            return Settlement(Verdict.ABSENT, reason="it was never written to the program")
        return Settlement(Verdict.UNKNOWN, reason="a plain program keeps no record of its input")

    # --- the rest ---------------------------------------------------------------------------------

    async def interrupt(self) -> None:
        if self._program.active and not self._over:
            self._program.interrupted = True
            try:
                await self._ctx.holder.write(INTERRUPT, 0)
            except HarnessGone:
                pass  # it ended: nothing runs

    async def answer(self, request_id: str, allow: bool, message: str | None = None) -> None:
        raise Unsupported(
            "a plain program has no permission requests; attach to answer it yourself"
        )

    async def drain(self) -> None:
        while self._program.active and not self._over:
            await self._changed.wait()

    async def release(self, stop: StopPlan) -> None:
        await self._ctx.holder.stop(stop)


__all__ = ["CAPABILITIES", "CommandSession"]
