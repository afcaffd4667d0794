"""One run of Claude in its terminal behind the holder: the I/O around `Fold`."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import (
    Context,
    Injection,
    Receipt,
    Session,
    SessionSpec,
    Settlement,
    StartFailed,
    StopPlan,
    Stream,
    Unsupported,
)
from relay_runtime.events import Notice
from relay_runtime.screen import exact

from ..launch import start_error
from ..transcript import Record
from . import hooks, journal, keys, launch
from .capabilities import CAPABILITIES
from .entering import Entering
from .live import Live
from .options import Options, parse
from .settling import Settling
from .starting import DRAWN_S, Starting
from .state import State
from .writes import Writes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from relay_runtime.contract import ChildExit

#: Looks at the record after something has happened, in seconds after the one before: its batches
#: come every 0.1 s, and a turn that leaves no trace there is over when they have not.
LOOKS_S: Final = (0.03, 0.04, 0.05, 0.05, 0.1, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 4.0)
#: Until a turn has ended, or the key was lost: then it is pressed again …
ENDED_S: Final = 1.5
#: … as long as this.
INTERRUPT_S: Final = 6.0
#: Of the terminal's output, to explain a start that failed.
LAST_WORDS: Final = 16_384


class TuiSession(Session):
    """Made by `create` and `adopt`. `adopted`: the process ran before this supervisor did."""

    capabilities = CAPABILITIES

    def __init__(
        self,
        ctx: Context,
        state: State,
        environ: Mapping[str, str],
        options: Options,
        adopted: bool,
    ) -> None:
        self._ctx = ctx
        self._adopted = adopted
        self._live = Live(ctx, state, Writes(ctx.spec.state_dir), options)
        self._entering = Entering(self._live)
        self._starting = Starting(self._live, environ)
        self._settling = Settling(self._live, self._entering)

    # --- run ------------------------------------------------------------------------------------

    async def run(self) -> None:
        failures: list[Exception] = []
        status = await self._ctx.holder.status()
        if self._adopted:
            self._live.behind = status.offsets.get(Stream.HOOKS, 0)
            self._live.state.boundary = False  # that it is idle is said again
        async with anyio.create_task_group() as tasks:

            async def until_over(part: Callable[[], Awaitable[None]]) -> None:
                try:
                    await part()
                except Exception as error:  # noqa: BLE001 - raised below, not inside a group
                    failures.append(error)
                    tasks.cancel_scope.cancel()

            for part in (self._live.view.run, self._look, self._starting.run, self._see_people):
                tasks.start_soon(until_over, part)
            await until_over(self._hear)
            tasks.cancel_scope.cancel()
        if failures:
            raise failures[0]
        await self._live.catch_up()
        if not self._live.state.ready:
            raise await self._start_failure()

    async def _hear(self) -> None:
        """The hooks log, from where it was left to the end of the process."""
        live, rest = self._live, b""
        at = live.state.hooks
        async for chunk in self._ctx.holder.read(Stream.HOOKS, at):
            if chunk.gap:
                rest, at = b"", chunk.offset
                await self._notice("log.gap", f"{chunk.gap} bytes of the hooks' log are lost")
            *lines, rest = (rest + chunk.data).split(b"\n")
            for line in lines:
                end = at + len(line) + 1
                seen = hooks.read(line)
                live.sent += isinstance(seen, hooks.Prompted)
                await live.heard(seen, at, end)
                at = end
        await self._ctx.holder.wait_exit()

    async def _look(self) -> None:
        """At the record, as long as there may be something new."""
        live = self._live
        live.wanted.set()
        while True:
            await live.wanted.wait()
            for wait_s in LOOKS_S:
                live.wanted = anyio.Event()
                await live.catch_up()
                await live.see_answer()
                await live.rest()
                if live.settled:
                    break
                with anyio.move_on_after(wait_s) as nothing_new:
                    await live.wanted.wait()
                if not nothing_new.cancelled_caught:
                    break  # from the start

    async def _notice(self, code: str, message: str) -> None:
        async with self._live.changing:
            await self._live.commit([Notice(code, message)])

    # --- the start ------------------------------------------------------------------------------

    async def _start_failure(self) -> Exception:
        exit_ = await self._ctx.holder.wait_exit()
        end = (await self._ctx.holder.status()).offsets.get(Stream.OUT, 0)
        words = b""
        async for chunk in self._ctx.holder.read(
            Stream.OUT, max(self._live.state.out, end - LAST_WORDS)
        ):
            words = (words + chunk.data)[-LAST_WORDS:]
        return start_error(words.decode("utf-8", "replace"), _how(exit_))

    # --- people ---------------------------------------------------------------------------------

    async def _see_people(self) -> None:
        """Whoever has not typed for a while, and left nothing in the way, no longer drafts."""
        live = self._live
        while True:
            told, shown = live.told, live.shown
            if not live.state.drafting:
                await told.wait()
            elif live.state.blocked and live.state.waiter is not None and not self._in_the_way:
                async with live.changing:
                    await live.commit(live.fold.not_drafting())
            elif not live.quiet():
                away = live.state.typed_at + live.options.quiet_s - time.time()
                with anyio.move_on_after(max(0.0, away)):
                    await told.wait()
            elif not live.drawn():
                with anyio.move_on_after(DRAWN_S):
                    await shown.wait()
            elif self._in_the_way:
                await shown.wait()
            else:
                async with live.changing:
                    await live.commit(live.fold.not_drafting())

    @property
    def _in_the_way(self) -> bool:
        screen = self._live.view.read()
        if screen is None or screen.input == "none":
            return not self._live.state.asks
        # Two drafts, and no way around them.
        return screen.input == "draft" and screen.stashed and self._live.state.waiter is None

    # --- what we do -----------------------------------------------------------------------------

    async def receive_message(self, injection: Injection) -> Receipt:
        receipt = await self._entering.receive(injection)
        self._live.wanted.set()
        return receipt

    async def settle(self, write_id: str) -> Settlement:
        """See `Session.settle`. One thing is not a mere look: a message that stands in the input
        box, where nobody touched it, is sent."""
        return await self._settling.settle(write_id)

    async def interrupt(self) -> None:
        live = self._live
        asks = [ask for ask in live.state.asks.values() if ask.offset is not None]
        if asks:
            decision = _decision(False, "Interrupted by the supervisor.", interrupt=True)
            for ask in asks:
                assert ask.offset is not None
                await self._ctx.holder.answer_hook(ask.offset, decision)
            return
        turn = live.state.turn
        with anyio.move_on_after(INTERRUPT_S):
            while turn is not None and live.state.turn == turn:
                screen, wait_s = live.view.read(), ENDED_S
                if not live.view.rests and screen is not None and screen.dialogue is None:
                    steps = keys.interrupt(empty=screen.input == "empty")
                    live.state.interrupted |= await live.type_quietly(steps)
                else:
                    wait_s = DRAWN_S  # the title is later than the hook
                with anyio.move_on_after(wait_s):
                    while live.state.turn == turn:
                        await live.told.wait()

    async def answer(self, request_id: str, allow: bool, message: str | None = None) -> None:
        live = self._live
        if request_id == live.state.dialogue:
            raise Unsupported(
                "only a person may answer what claude asks at its start: attach to the session,"
                " or put the answer into options.startup of the profile"
            )
        ask = live.state.asks[request_id]
        answered = False
        if ask.offset is not None:
            decision = _decision(allow, message)
            answered = await self._ctx.holder.answer_hook(ask.offset, decision)
        if not answered:
            raise Unsupported("somebody has answered this request in the terminal")
        async with live.changing:
            await live.commit(live.fold.answered(request_id, allow))
        live.wanted.set()  # a tool that was denied is over without a hook

    async def drain(self) -> None:
        self._entering.closed = True
        while self._live.state.turn is not None:
            told = self._live.told
            if await self._live.running() is None:
                return
            await told.wait()

    async def release(self, stop: StopPlan) -> None:
        self._entering.closed = True
        await self._ctx.holder.stop(stop)


def _decision(allow: bool, message: str | None, *, interrupt: bool = False) -> str:
    """What the hook says to Claude's dialogue."""
    decision: dict[str, object] = {"behavior": "allow" if allow else "deny"}
    if not allow:
        decision["message"] = message or "Denied by the supervisor."
    if interrupt:
        decision["interrupt"] = True
    output = {"hookEventName": "PermissionRequest", "decision": decision}
    return json.dumps({"hookSpecificOutput": output})


def _how(exit_: ChildExit) -> str:
    if exit_.signal is not None:
        return f"killed by signal {exit_.signal}"
    return f"exit status {exit_.code}"


async def create(spec: SessionSpec, ctx: Context) -> Session:
    """See `Harness.create`."""
    if not exact():
        raise StartFailed(
            "there is no terminal emulator for this platform, and without one claude's terminal"
            " cannot be supervised: spawn it with --mode headless"
        )
    environ = await ctx.holder.environ()
    options = parse(spec.options)
    conversation = spec.conversation or str(uuid.uuid4())
    record = Record(environ, conversation)
    try:
        path = await anyio.to_thread.run_sync(record.path)
        if path is not None and not await anyio.to_thread.run_sync(journal.has_begun, str(path)):
            conversation, path = str(uuid.uuid4()), None
    except OSError as error:
        raise StartFailed(f"claude's records cannot be read: {error}; check its folder") from error
    resume = path is not None and spec.conversation is not None
    plan = launch.plan(spec, environ, conversation, resume=resume)
    before = await ctx.holder.status()
    hooks_at, out = (before.offsets.get(stream, 0) for stream in (Stream.HOOKS, Stream.OUT))
    state = State(conversation, hooks_at, out, model=spec.model)
    if path is not None:
        state.record, state.at = str(path), path.stat().st_size
    # Before the start: whoever adopts the process knows where its hooks begin.
    await ctx.emit(checkpoint=state.to_json())
    await ctx.holder.start(plan)
    return TuiSession(ctx, state, environ, options, adopted=False)


async def adopt(spec: SessionSpec, ctx: Context) -> Session:
    """See `Harness.adopt`."""
    try:
        state = State.from_json(ctx.checkpoint)
    except ValueError as error:
        raise StartFailed(f"{error}; release the session and start it again") from error
    return TuiSession(ctx, state, await ctx.holder.environ(), parse(spec.options), adopted=True)


__all__ = ["TuiSession", "adopt", "create"]
