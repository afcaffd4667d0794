"""The harness `claude`: Claude Code in its terminal, or headless over stream-json."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from relay_runtime.contract import Harness, Mode, StartFailed, Stream

from . import launch, tui
from .capabilities import CAPABILITIES
from .checkpoint import Checkpoint
from .session import ClaudeSession
from .state import State
from .transcript import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import ChildExit, Context, Probe, Session, SessionSpec
    from relay_runtime.events import ExitClass


class ClaudeHarness(Harness):
    name = "claude"
    capabilities = replace(CAPABILITIES, modes=frozenset(Mode))
    default_mode = Mode.PTY

    async def create(self, spec: SessionSpec, ctx: Context) -> Session:
        if spec.mode is Mode.PTY:
            return await tui.create(spec, ctx)
        environ = await ctx.holder.environ()
        conversation = spec.conversation or str(uuid.uuid4())
        resume = await self._resumable(environ, conversation) if spec.conversation else False
        plan = launch.plan(spec, environ, conversation, resume=resume)
        before = await ctx.holder.status()
        begin = Checkpoint(
            before.offsets.get(Stream.OUT, 0),
            before.offsets.get(Stream.ERR, 0),
            State(conversation, model=spec.model),
        )
        # Before the start: whoever adopts the process knows where its output begins.
        await ctx.emit(checkpoint=begin.to_json())
        await ctx.holder.start(plan)
        return ClaudeSession(ctx, begin, environ, adopted=False)

    async def adopt(self, spec: SessionSpec, ctx: Context) -> Session:
        if spec.mode is Mode.PTY:
            return await tui.adopt(spec, ctx)
        try:
            last = Checkpoint.from_json(ctx.checkpoint)
        except ValueError as error:
            raise StartFailed(f"{error}; release the session and start it again") from error
        return ClaudeSession(ctx, last, await ctx.holder.environ(), adopted=True)

    async def probe(self, environ: Mapping[str, str]) -> Probe:
        return await launch.probe(environ)

    def exit_class(self, exit: ChildExit, last_output: str) -> ExitClass | None:
        if exit.signal is not None:
            return None  # killed: what it said before, or another before it, is not why
        return launch.exit_class(last_output)

    async def _resumable(self, environ: Mapping[str, str], conversation: str) -> bool:
        """Whether Claude has a record of it: it makes one with the first message, not before.

        Without a record `--resume` is refused, and with one `--session-id` is.
        """
        try:
            return await anyio.to_thread.run_sync(Record(environ, conversation).exists)
        except OSError as error:
            raise StartFailed(
                f"claude's records cannot be read: {error}; check its folder"
            ) from error
