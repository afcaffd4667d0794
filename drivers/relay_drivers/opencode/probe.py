"""Finding OpenCode on this machine, without starting a session or using the network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from relay_runtime.contract import Probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import Json

PROGRAM = "opencode"
ADVICE = "install OpenCode: npm install -g opencode-ai"
#: `--version` takes up to 2 s when the program is not in the page cache.
VERSION_S = 20.0
#: Keys that OpenCode itself looks for. With one of them no login is needed.
_KEYS = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_GENERATIVE_AI_API_KEY",
    "GROQ_API_KEY",
    "XAI_API_KEY",
    "OPENCODE_API_KEY",
    "OPENCODE_AUTH_CONTENT",
)


def find(environ: Mapping[str, str]) -> str | None:
    """Path of the program, as the session's own PATH finds it."""
    return shutil.which(PROGRAM, path=environ.get("PATH", os.defpath))


async def probe(environ: Mapping[str, str]) -> Probe:
    program = find(environ)
    if program is None:
        return Probe(None, advice=ADVICE)
    login = await anyio.to_thread.run_sync(_login, environ)
    advice = None if login == "yes" else "if it needs a login: opencode auth login"
    return Probe(program, await _version(program, environ), login, advice)


async def _version(program: str, environ: Mapping[str, str]) -> str | None:
    try:
        with anyio.fail_after(VERSION_S):
            done = await anyio.run_process(
                [program, "--version"],
                env=dict(environ),
                check=False,
                stderr=subprocess.DEVNULL,
            )
    except (OSError, TimeoutError):
        return None
    return done.stdout.decode(errors="replace").strip() or None


def _login(environ: Mapping[str, str]) -> str:
    """Whether there are credentials; never what they are."""
    if any(environ.get(key) for key in _KEYS):
        return "yes"
    home = environ.get("HOME", "")
    data = environ.get("XDG_DATA_HOME") or str(Path(home, ".local", "share"))
    try:
        stored: Json = json.loads(Path(data, "opencode", "auth.json").read_bytes())
    except (OSError, ValueError):
        return "unknown"  # the user's configuration may name a provider that needs none
    return "yes" if stored else "unknown"


__all__ = ["ADVICE", "PROGRAM", "find", "probe"]
