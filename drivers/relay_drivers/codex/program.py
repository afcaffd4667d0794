"""The codex program: where it is, how it is started, whether it is logged in, why it ended."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import Approval, Json, Probe, StartFailed
from relay_runtime.events import ExitClass

from .read import Obj, obj, sub, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import ChildExit, SessionSpec

#: What users do when there is none.
INSTALL: Final = "install it with `npm install -g @openai/codex`, or put it on PATH"
LOGIN: Final = "run `codex login`, or `codex login --with-api-key`"
#: `codex --version` reads nothing but itself.
VERSION_S: Final = 10.0

# Programs of the npm package by what `platform` says of the machine.
_PACKAGES: Final = {
    ("Linux", "x86_64"): ("codex-linux-x64", "x86_64-unknown-linux-musl"),
    ("Linux", "aarch64"): ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
    ("Darwin", "x86_64"): ("codex-darwin-x64", "x86_64-apple-darwin"),
    ("Darwin", "arm64"): ("codex-darwin-arm64", "aarch64-apple-darwin"),
}
_ERROR: Final = re.compile(r"(?m)^(?:Error|error): (.+(?:\n(?!\n|\S*\d{4}-).+)*)")

#: Approval as codex spells it. A person reviews, whatever the user's configuration says.
APPROVALS: Final[Mapping[Approval, Mapping[str, Json]]] = {
    Approval.OPEN: {"approvalPolicy": "never", "sandbox": "danger-full-access"},
    Approval.GUARDED: {
        "approvalPolicy": "untrusted",
        "sandbox": "workspace-write",
        "approvalsReviewer": "user",
    },
    Approval.READ_ONLY: {"approvalPolicy": "never", "sandbox": "read-only"},
}


def find(environ: Mapping[str, str], cwd: str) -> str | None:
    """The program that the session's PATH leads to; of npm's launcher, the program behind it."""
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(os.path.join(cwd, folder) for folder in folders)
    found = shutil.which("codex", path=path)
    return native(found) if found is not None else None


def native(found: str) -> str:
    """The native program when `found` is npm's launcher: a process less, and no need of node."""
    launcher = Path(found).resolve()
    names = _PACKAGES.get((platform.system(), platform.machine()))
    if launcher.name != "codex.js" or names is None:
        return found
    package, target = names
    for modules in launcher.parents[1:5]:
        for folder in (modules / package, modules / "node_modules" / "@openai" / package):
            program = folder / "vendor" / target / "bin" / "codex"
            if os.access(program, os.X_OK):
                return str(program)
    return found


def command(program: str, socket: Path, spec: SessionSpec) -> tuple[str, ...]:
    """The command line of a session's app-server."""
    # Last, so that it counts: with it a steer would throw away what the model is just saying.
    setting = ("-c", "features.instant_interrupt=false")
    return (program, "app-server", "--listen", f"unix://{socket}", *spec.args, *setting)


def view_command(program: str, socket: Path, conversation: str) -> tuple[str, ...]:
    """The command line of the terminal interface, on the thread of a running app-server.

    It finds the app-server again when that is started anew: the place behind the link stays.
    """
    return (program, "resume", conversation, "--remote", f"unix://{os.path.realpath(socket)}")


def thread_settings(spec: SessionSpec, instructions: str | None) -> dict[str, Json]:
    """Parameters of `thread/start` and `thread/resume`; what the spec leaves open is the user's."""
    settings: dict[str, Json] = {"cwd": spec.cwd}
    if spec.model is not None:
        settings["model"] = spec.model
    if spec.approval is not None:
        settings |= APPROVALS[spec.approval]
    if instructions is not None:
        settings["developerInstructions"] = instructions
    return settings


def codex_home(environ: Mapping[str, str]) -> Path | None:
    if chosen := environ.get("CODEX_HOME"):
        return Path(chosen)
    home = environ.get("HOME")
    return Path(home) / ".codex" if home else None


def prepare_home(environ: Mapping[str, str]) -> None:
    """Make `~/.codex`, as codex does itself at its first start, except when it listens on a socket.

    A `CODEX_HOME` of the user's choice must exist; codex says so. Raises `StartFailed`.
    """
    folder = codex_home(environ)
    if folder is None or environ.get("CODEX_HOME"):
        return
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartFailed(
            f"codex keeps its state in {folder}, which cannot be made: {error}"
        ) from None


def forget_socket(socket: Path) -> None:
    """Remove what a killed app-server left: the link at `socket`, and the socket and lock behind it.

    Only when its process is gone. Codex listens in a folder of its own below /tmp.
    """
    try:
        target = Path(os.readlink(socket))
    except OSError:
        target = None
    socket.unlink(missing_ok=True)
    if target is None or target.parent.name != f"codex-daemon-{os.geteuid()}":
        return
    for path in (target, target.with_name(target.name + ".lock")):
        path.unlink(missing_ok=True)


# --- what went wrong ----------------------------------------------------------------------------------


def last_error(output: str) -> str | None:
    """Codex's own last words on why it could not start, on one line."""
    found = _ERROR.findall(output)
    return " ".join(str(found[-1]).split()) if found else None


def exit_class(exit: ChildExit, last_output: str) -> ExitClass | None:
    """Codex ends with an error of its own only while it starts; 2 is a wrong argument."""
    if exit.code in (1, 2) and last_error(last_output) is not None:
        return ExitClass.START_FAILED
    return None


# --- doctor -------------------------------------------------------------------------------------------


async def probe(environ: Mapping[str, str]) -> Probe:
    """See `Harness.probe`."""
    program = find(environ, "/")
    if program is None:
        return Probe(None, advice=f"codex is not installed: {INSTALL}")
    version = await _version(program, environ)
    if version is None:
        return Probe(program, advice=f"{program} does not run: {INSTALL}")
    login, advice = _login(environ)
    return Probe(program, version, login, advice)


async def _version(program: str, environ: Mapping[str, str]) -> str | None:
    try:
        with anyio.fail_after(VERSION_S):
            done = await anyio.run_process(
                [program, "--version"], env=dict(environ), stderr=subprocess.DEVNULL
            )
    except (OSError, TimeoutError, subprocess.CalledProcessError):
        return None
    words = done.stdout.decode(errors="replace").split()
    return words[-1] if words else None


def _login(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Whether codex has what its model provider asks for, and what to do about it."""
    folder = codex_home(environ)
    if folder is None:
        return "unknown", "set HOME"
    config = _config(folder / "config.toml")
    provider = sub(sub(config, "model_providers"), text(config, "model_provider"))
    if provider and provider.get("requires_openai_auth") is not True:
        key = text(provider, "env_key")
        if not key or environ.get(key):
            return "yes", None
        return "no", f"set {key}: the model provider in {folder / 'config.toml'} needs it"
    if (folder / "auth.json").exists():
        return "yes", None
    if text(config, "cli_auth_credentials_store") in ("keyring", "auto"):
        return "unknown", None
    return "no", LOGIN


def _config(path: Path) -> Obj:
    try:
        return obj(tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


__all__ = [
    "INSTALL",
    "LOGIN",
    "codex_home",
    "command",
    "exit_class",
    "find",
    "forget_socket",
    "last_error",
    "prepare_home",
    "probe",
    "thread_settings",
]
