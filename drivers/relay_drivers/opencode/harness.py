"""The harness: what OpenCode can do, and how its server is started."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import anyio

from relay_runtime.contract import (
    Capabilities,
    Context,
    Harness,
    HarnessGone,
    Holder,
    Io,
    Mode,
    Probe,
    SessionSpec,
    StartFailed,
    StartPlan,
    Stream,
)

from . import probe as probing
from .config import VARIABLE, overlay
from .server import MEMO_OFFSET, MEMO_PASSWORD, address
from .session import OpencodeSession

if TYPE_CHECKING:
    from collections.abc import Mapping

CAPABILITIES = Capabilities(
    modes=frozenset({Mode.HEADLESS}),
    boundary="opencode.session_status",
    evidence="opencode.message",
    steer=True,
    permissions=True,
)


class OpencodeHarness(Harness):
    name = "opencode"
    capabilities = CAPABILITIES
    default_mode = Mode.HEADLESS

    async def create(self, spec: SessionSpec, ctx: Context) -> OpencodeSession:
        if spec.mode is not Mode.HEADLESS:
            raise StartFailed(f"opencode has no {spec.mode} mode here; use --mode headless")
        environ = await ctx.holder.environ()
        program = probing.find(environ)
        if program is None:
            raise StartFailed(f"opencode is not on PATH; {probing.ADVICE}")
        instructions = await _write_instructions(spec)
        password = secrets.token_urlsafe(32)
        plan = StartPlan(
            argv=(program, "serve", "--port", "0", "--hostname", "127.0.0.1", *spec.args),
            cwd=spec.cwd,
            io=Io.PIPES,
            env=_environment(spec, environ, password, instructions),
        )
        # Before the start, so that whoever adopts the process has them however early we die.
        offset = (await ctx.holder.status()).offsets.get(Stream.OUT, 0)
        await ctx.holder.remember({MEMO_PASSWORD: password, MEMO_OFFSET: str(offset)})
        await ctx.holder.start(plan)
        return OpencodeSession(spec, ctx, CAPABILITIES)

    async def adopt(self, spec: SessionSpec, ctx: Context) -> OpencodeSession:
        return OpencodeSession(spec, ctx, CAPABILITIES, past=ctx.checkpoint)

    async def view(self, spec: SessionSpec, holder: Holder) -> StartPlan | None:
        program = probing.find(await holder.environ())
        if program is None:
            raise StartFailed(f"opencode is not on PATH; {probing.ADVICE}")
        status = await holder.status()
        url = await address(holder) if status.pid is not None else None
        if url is None:
            raise HarnessGone("opencode does not run now")
        argv = (program, "attach", url, "--session", spec.conversation or "")
        env = _access(status.memo.get(MEMO_PASSWORD, ""))
        return StartPlan(argv, spec.cwd, Io.PTY, env)

    async def probe(self, environ: Mapping[str, str]) -> Probe:
        return await probing.probe(environ)


def _environment(
    spec: SessionSpec, environ: Mapping[str, str], password: str, instructions: str | None
) -> dict[str, str | None]:
    env: dict[str, str | None] = {
        VARIABLE: overlay(spec, environ.get(VARIABLE), instructions),
        **_access(password),
    }
    if spec.approval is not None:
        env["OPENCODE_PERMISSION"] = None  # it would win over ours
    return env


def _access(password: str) -> dict[str, str | None]:
    """For the server and for whoever connects to it: never on a command line."""
    return {
        "OPENCODE_SERVER_PASSWORD": password,
        "OPENCODE_SERVER_USERNAME": None,
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
    }


async def _write_instructions(spec: SessionSpec) -> str | None:
    """A file, because it reaches every prompt, also those of people, and every subagent."""
    if spec.instructions is None:
        return None
    path = anyio.Path(spec.state_dir, "instructions.md")
    await path.write_text(spec.instructions, "utf-8")
    await path.chmod(0o600)
    return os.fspath(path)


__all__ = ["CAPABILITIES", "OpencodeHarness"]
