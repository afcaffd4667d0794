"""Codex, headless: `codex app-server`, one process to a session, spoken to over its unix socket.

Or a thread of the app-server that the user has started, which a session joins: see `joined`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from relay_runtime.contract import Harness, HarnessGone, Io, Mode, StartFailed, StartPlan

from . import checkpoint, joined, program
from .joined import JoinedSession
from .session import CAPABILITIES, CodexSession

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from relay_runtime.contract import (
        ChildExit,
        Context,
        Holder,
        Probe,
        Running,
        Session,
        SessionSpec,
    )
    from relay_runtime.events import ExitClass


class CodexHarness(Harness):
    """See the module."""

    name = "codex"
    capabilities = CAPABILITIES
    default_mode = Mode.HEADLESS

    async def create(self, spec: SessionSpec, ctx: Context) -> Session:
        if spec.mode not in CAPABILITIES.modes:
            raise StartFailed(f"codex does not run in mode {spec.mode}: use {Mode.HEADLESS}")
        environ = await ctx.holder.environ()
        if (join := joined.read(spec)) is not None:
            await ctx.holder.start(StartPlan(joined.command(join), spec.cwd, Io.PIPES))
            return JoinedSession(ctx, join.socket, _zone(environ), join=join.thread)
        found = program.find(environ, spec.cwd)
        if found is None:
            raise StartFailed(f"codex is not on the session's PATH: {program.INSTALL}")
        program.prepare_home(environ)
        socket = _socket(spec)
        program.forget_socket(socket)  # of an app-server that was killed
        argv = program.command(found, socket, spec)
        await ctx.holder.start(StartPlan(argv, spec.cwd, Io.PIPES))
        return CodexSession(ctx, socket, _zone(environ))

    async def adopt(self, spec: SessionSpec, ctx: Context) -> Session:
        zone = _zone(await ctx.holder.environ())
        known = checkpoint.load(ctx.checkpoint, zone)
        if (join := joined.read(spec)) is not None:
            return JoinedSession(ctx, join.socket, zone, known, join=join.thread)
        return CodexSession(ctx, _socket(spec), zone, known)

    async def probe(self, environ: Mapping[str, str]) -> Probe:
        return await program.probe(environ)

    async def view(self, spec: SessionSpec, holder: Holder) -> StartPlan | None:
        found = program.find(await holder.environ(), spec.cwd)
        if found is None:
            raise StartFailed(f"codex is not on the session's PATH: {program.INSTALL}")
        if (await holder.status()).pid is None:
            raise HarnessGone("codex does not run now")
        argv = program.view_command(found, _socket(spec), spec.conversation or "")
        return StartPlan(argv, spec.cwd, Io.PTY)

    async def running(self, environ: Mapping[str, str], where: str | None) -> list[Running]:
        return await joined.running(environ, where)

    def exit_class(self, exit: ChildExit, last_output: str) -> ExitClass | None:
        return program.exit_class(exit, last_output)


def _socket(spec: SessionSpec) -> Path:
    """Where the app-server of a session listens."""
    join = joined.read(spec)
    return join.socket if join is not None else Path(spec.state_dir) / "codex.sock"


def _zone(environ: Mapping[str, str]) -> tzinfo | None:
    """The zone in which codex names times; None: this machine's."""
    try:
        return ZoneInfo(environ["TZ"].removeprefix(":"))
    except (KeyError, ValueError, OSError, ZoneInfoNotFoundError):
        return None


__all__ = ["CodexHarness"]
