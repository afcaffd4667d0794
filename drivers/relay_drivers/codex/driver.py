"""Codex, headless: `codex app-server`, one process to a session, spoken to over its unix socket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from relay_runtime.contract import Harness, Io, Mode, StartFailed, StartPlan

from . import checkpoint, program
from .session import CAPABILITIES, CodexSession

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from relay_runtime.contract import ChildExit, Context, Probe, Session, SessionSpec
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
        return CodexSession(ctx, _socket(spec), zone, checkpoint.load(ctx.checkpoint, zone))

    async def probe(self, environ: Mapping[str, str]) -> Probe:
        return await program.probe(environ)

    def exit_class(self, exit: ChildExit, last_output: str) -> ExitClass | None:
        return program.exit_class(exit, last_output)


def _socket(spec: SessionSpec) -> Path:
    return Path(spec.state_dir) / "codex.sock"


def _zone(environ: Mapping[str, str]) -> tzinfo | None:
    """The zone in which codex names times; None: this machine's."""
    try:
        return ZoneInfo(environ["TZ"].removeprefix(":"))
    except (KeyError, ValueError, OSError, ZoneInfoNotFoundError):
        return None


__all__ = ["CodexHarness"]
