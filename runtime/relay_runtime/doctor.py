"""What could keep relay-runtime from working on this machine, and what to do about it.

Looks only: nothing is created, started or sent, and no supervisor is needed.
"""

from __future__ import annotations

import os
import platform
import stat
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from . import __version__, paths, registry
from .control_client import ControlClient, ControlError, NotRunning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .contract import Probe
    from .control_answers import Status

#: For one harness: they start their own program to ask for its version.
PROBE_S = 20.0


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"  #: works, or is not needed; worth knowing
    BROKEN = "broken"  #: something will fail until this is mended


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is what was looked at, `advice` one line on what to do about it."""

    subject: str
    verdict: Verdict
    detail: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class HarnessFinding:
    """One harness here; `login` is yes, no or unknown."""

    name: str
    verdict: Verdict
    path: str | None = None
    version: str | None = None
    login: str = "unknown"
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    findings: tuple[Finding, ...]
    harnesses: tuple[HarnessFinding, ...]

    @property
    def broken(self) -> int:
        """How many findings need mending."""
        verdicts = [one.verdict for one in self.findings]
        verdicts += [one.verdict for one in self.harnesses]
        return verdicts.count(Verdict.BROKEN)


async def examine(environ: Mapping[str, str], cwd: Path) -> Report:
    """Look at everything."""
    harnesses = await _harnesses(environ)
    return Report((*_machine(), *_state(environ), *_profiles(cwd, environ)), harnesses)


def _machine() -> list[Finding]:
    version = platform.python_version()
    python = Finding("python", Verdict.OK, f"{version} ({sys.executable})")
    if sys.platform == "linux":
        return [python, Finding("platform", Verdict.OK, platform.platform())]
    advice = "sessions need Linux: their holders use its process and file interfaces"
    return [python, Finding("platform", Verdict.BROKEN, platform.platform(), advice)]


def _state(environ: Mapping[str, str]) -> list[Finding]:
    try:
        home = paths.locate(environ)
    except paths.StateHomeError as error:
        return [Finding("state folder", Verdict.BROKEN, str(error))]
    folder = _folder(home)
    if folder.verdict is Verdict.BROKEN or not home.exists():
        return [folder, _relay(None, environ)]
    status, supervisor = _supervisor(home)
    return [folder, _socket(home), supervisor, _relay(status, environ)]


def _folder(home: Path) -> Finding:
    subject = "state folder"
    try:
        info = home.stat()
        mode = stat.S_IMODE(info.st_mode)
        if not stat.S_ISDIR(info.st_mode):
            return Finding(subject, Verdict.BROKEN, f"{home} is not a folder", "move it away")
        if info.st_uid != os.geteuid():
            advice = f"set {paths.HOME_VARIABLE} to a folder of your own"
            return Finding(subject, Verdict.BROKEN, f"{home} is user {info.st_uid}'s", advice)
        if mode & 0o077 and any(home.iterdir()):
            detail = f"{home} is open to other users (mode {mode:o})"
            return Finding(subject, Verdict.BROKEN, detail, f"chmod 700 {home}")
    except FileNotFoundError:
        return Finding(subject, Verdict.OK, f"{home} (made at the first start)")
    except OSError as error:
        advice = f"set {paths.HOME_VARIABLE} to a folder of your own"
        return Finding(subject, Verdict.BROKEN, f"{home}: {error.strerror}", advice)
    return Finding(subject, Verdict.OK, f"{home} (mode {mode:o})")


def _socket(home: Path) -> Finding:
    path = paths.control_socket(home)
    try:
        address = paths.socket_address(path)
    except paths.StateHomeError as error:
        return Finding("socket", Verdict.BROKEN, str(error))
    if address == str(path):
        return Finding("socket", Verdict.OK, f"{path} ({len(os.fsencode(path))} bytes)")
    detail = f"{path} is long and is reached through {address}"
    return Finding("socket", Verdict.NOTE, detail)


def _supervisor(home: Path) -> tuple[Status | None, Finding]:
    subject = "supervisor"
    try:
        status = ControlClient(paths.control_socket(home)).status()
    except NotRunning:
        return None, _absent(home)
    except (ControlError, paths.StateHomeError) as error:
        advice = f"see {paths.supervisor_log(home)}"
        return None, Finding(subject, Verdict.BROKEN, str(error), advice)
    detail = f"running, pid {status['pid']}, version {status['version']}"
    if status["version"] == __version__:
        return status, Finding(subject, Verdict.OK, detail)
    advice = f"this is {__version__}: relay-runtime down, then up; sessions live on"
    return status, Finding(subject, Verdict.NOTE, detail, advice)


def _absent(home: Path) -> Finding:
    """Whether it is really gone: its lock names the process that has or had it."""
    subject = "supervisor"
    try:
        pid = int(paths.lock_path(home).read_text())
        is_ours = b"relay_runtime.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        is_ours = False
    if not is_ours:
        return Finding(subject, Verdict.OK, "not running (the first spawn starts it)")
    advice = f"wait if it has just been started; else see {paths.supervisor_log(home)}"
    return Finding(subject, Verdict.BROKEN, f"pid {pid} runs but does not listen", advice)


def _relay(status: Status | None, environ: Mapping[str, str]) -> Finding:
    from relay_server.server import BindError, bind
    from relay_server.settings import Settings, SettingsError

    from .supervisor.process import EMBEDDED_VARIABLE

    subject = "relay"
    if status is not None:
        whose = "the supervisor's own" if status["relay_embedded"] else "a remote one"
        return Finding(subject, Verdict.OK, f"{status['relay_url']}, {whose}")
    if EMBEDDED_VARIABLE not in environ and (remote := environ.get("AGENT_RELAY_URL")):
        return Finding(subject, Verdict.OK, f"{remote} (AGENT_RELAY_URL)")
    ours = {name: value for name, value in environ.items() if name.startswith("AGENT_RELAY_")}
    where = {name: environ.get(f"AGENT_RELAY_{name}", "") for name in ("HOST", "PORT")}
    try:
        settings = Settings.from_environ(ours | where)
        bind(settings.host, settings.port).close()
    except SettingsError as error:
        return Finding(subject, Verdict.BROKEN, str(error))
    except BindError as error:
        who = listener(error.port)
        detail = f"port {error.port} on {error.host} is taken" + (f" by {who}" if who else "")
        advice = "stop that program, or set AGENT_RELAY_PORT to a free port"
        return Finding(subject, Verdict.BROKEN, detail, advice)
    return Finding(subject, Verdict.OK, f"{settings.host}:{settings.port} is free")


def listener(port: int) -> str | None:
    """Command and pid of the process that listens on a TCP port here; None when it cannot be told.

    Only processes of this user can be told, unless we are root.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(handle) in sockets for handle in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()}, pid {process.name}"
        except OSError:  # gone meanwhile, or another user's
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            # local address as HEX:PORT, state (0A is LISTEN), and the socket's inode
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _profiles(cwd: Path, environ: Mapping[str, str]) -> list[Finding]:
    from relay_profiles.lookup import listing

    found = listing(cwd, environ)
    broken = [Finding("profiles", Verdict.BROKEN, str(problem)) for problem in found.problems]
    return broken or [Finding("profiles", Verdict.OK, f"{len(found.profiles)} usable")]


async def _harnesses(environ: Mapping[str, str]) -> tuple[HarnessFinding, ...]:
    found: dict[str, HarnessFinding] = {}

    async def look(name: str) -> None:
        found[name] = await _harness(name, environ)

    names = registry.names()
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(look, name)
    return tuple(found[name] for name in names)


async def _harness(name: str, environ: Mapping[str, str]) -> HarnessFinding:
    try:
        harness = registry.load(name)
        with anyio.fail_after(PROBE_S):
            probe = await harness.probe(environ)
    except registry.RegistryError as error:
        return HarnessFinding(name, Verdict.BROKEN, advice=str(error))
    except TimeoutError:
        advice = f"its program does not answer within {PROBE_S:g} s: run it yourself"
        return HarnessFinding(name, Verdict.BROKEN, advice=advice)
    except Exception as error:  # noqa: BLE001 - somebody else's driver must not end the report
        return HarnessFinding(name, Verdict.BROKEN, advice=f"its driver failed: {error!r}")
    return _probed(name, probe)


def _probed(name: str, probe: Probe) -> HarnessFinding:
    # A harness that nobody installed, or logged in to, is no fault of this machine.
    verdict = Verdict.NOTE if probe.advice else Verdict.OK
    return HarnessFinding(name, verdict, probe.found, probe.version, probe.login, probe.advice)


__all__ = ["Finding", "HarnessFinding", "Report", "Verdict", "examine", "listener"]
