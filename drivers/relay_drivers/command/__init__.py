"""The command harness: any program in a terminal, judged by its output.

The weakest of the drivers, and it says so: the boundary is a prompt pattern and quietness, the
proof of delivery is the program's echo and a prompt that is gone. A plain program keeps no record
of its input, so a write in doubt stays in doubt. Programs with a structured channel deserve a
driver of their own. What a profile can set is in `options`.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from relay_runtime.contract import (
    Approval,
    Capabilities,
    Context,
    Harness,
    Io,
    Mode,
    Probe,
    Session,
    SessionSpec,
    StartFailed,
    StartPlan,
    Stream,
)
from relay_runtime.events import Notice

from .options import parse
from .program import Program
from .session import CAPABILITIES, CommandSession

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.events import Event

ROWS, COLS = 40, 120


class CommandHarness(Harness):
    """`spec.argv` and `spec.args` are the program; `spec.options` is for `options.parse`."""

    name = "command"
    capabilities: Capabilities = CAPABILITIES
    default_mode = Mode.PTY

    async def create(self, spec: SessionSpec, ctx: Context) -> Session:
        argv = (*spec.argv, *spec.args)
        if not argv or not argv[0]:
            raise StartFailed(
                "no program to run: name it after --, or in the profile's argv, such as "
                "relay-runtime spawn command -- python3 -i"
            )
        if spec.mode is not Mode.PTY:
            raise StartFailed("command runs a program in a terminal only: use mode pty")
        if spec.approval not in (None, Approval.OPEN):
            raise StartFailed(
                f"command cannot hold a program to approval {spec.approval.value}: "
                "leave approval out, or use a harness that knows it"
            )
        options = parse(spec.options)
        before = await ctx.holder.status()
        # Line editors offer bracketed paste to terminals they know; sizes are the terminal's.
        env = {"TERM": "xterm-256color", "COLUMNS": None, "LINES": None}
        plan = StartPlan(argv, spec.cwd, Io.PTY, env, rows=ROWS, cols=COLS)
        status = await ctx.holder.start(plan)
        # A program that is started again knows nothing of before: each run is a conversation.
        conversation = f"{spec.session_id}.{status.run}"
        program = Program(options, status.run, conversation, before.applied_seq)
        program.offset = before.offsets.get(Stream.OUT, 0)
        program.hooks = before.offsets.get(Stream.HOOKS, 0)
        await ctx.emit(*_ignored(spec), checkpoint=program.dump())
        return CommandSession(ctx, options, program)

    async def adopt(self, spec: SessionSpec, ctx: Context) -> Session:
        options = parse(spec.options)
        status = await ctx.holder.status()
        try:
            program = Program.load(options, ctx.checkpoint)
        except ValueError:
            program = None
        if program is None or program.run != status.run:
            # The supervisor died before the first commit of this run: read it from the start.
            before = (program.offset, program.hooks) if program else (0, 0)
            program = Program(options, status.run, f"{spec.session_id}.{status.run}", -1)
            program.offset, program.hooks = before
        program.announce = True
        if program.pending is not None:
            seq = program.writes[program.pending.write_id]
            program.pending.applied = status.applied_seq >= seq
            if not program.pending.applied:
                program.withdraw()
        return CommandSession(ctx, options, program)

    async def probe(self, environ: Mapping[str, str]) -> Probe:
        # Any program will do; a shell stands for them all.
        shell = shutil.which("sh", path=environ.get("PATH", os.defpath))
        if shell is None:
            return Probe(found=None, advice="PATH has no programs: correct it")
        return Probe(found=shell, advice="relay-runtime spawn command -- PROGRAM [ARGUMENTS]")


def _ignored(spec: SessionSpec) -> list[Event]:
    """Settings that mean nothing to a plain program are told, not swallowed."""
    given = {"model": spec.model, "instructions": spec.instructions}
    names = [name for name, value in given.items() if value]
    if not names:
        return []
    problem = f"a plain program has no {' and no '.join(names)}: not passed on"
    return [Notice("command.ignored", problem)]


harness = CommandHarness()

__all__ = ["CommandHarness", "harness"]
