"""What the tests of the codex driver share."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from relay_drivers.codex import harness
from relay_runtime.contract import Verdict
from relay_runtime.events import Idle, SessionReady
from relay_runtime.processes import Process, descendants_of
from relay_runtime.testing.clis import Cli, hermetic_env
from relay_runtime.testing.driver_bench import DriverBench

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay_runtime.contract import SessionSpec
    from relay_runtime.testing.model_server import ModelServer

E = TypeVar("E")


@dataclass
class Rig:
    """A home for codex, and the scripted model that is all it can reach."""

    cli: Cli
    home: Path
    model: ModelServer
    environ: dict[str, str]

    @property
    def config(self) -> Path:
        return self.home / ".codex" / "config.toml"

    def bench(self, **changes: object) -> DriverBench:
        """`changes` are of the spec."""
        change: Callable[[SessionSpec], SessionSpec] = lambda spec: replace(spec, **changes)  # type: ignore[arg-type]
        return DriverBench(harness, self.environ, change)


def make_rig(cli: Cli, home: Path, model: ModelServer) -> Rig:
    return Rig(cli, home, model, hermetic_env(cli, home, model.url))


def of(bench: DriverBench, kind: type[E]) -> list[E]:
    return [event for event in bench.events if isinstance(event, kind)]


async def ready(bench: DriverBench) -> SessionReady:
    """Start codex; what it said when it was ready."""
    await bench.create()
    await bench.wait_for(Idle)
    (event,) = of(bench, SessionReady)
    return event


async def decided(bench: DriverBench, write_id: str) -> Verdict:
    """What `settle` says once codex has put away the turn whose end it has told."""
    with anyio.fail_after(10):
        found = await bench.session.settle(write_id)
        while found.verdict is Verdict.UNKNOWN:
            await anyio.sleep(0.02)
            found = await bench.session.settle(write_id)
    return found.verdict


def working_file(bench: DriverBench, name: str) -> str | None:
    """What a file in the agent's folder holds; None when it is not there."""
    try:
        return Path(bench.spec.cwd, name).read_text("utf-8")
    except OSError:
        return None


def running(command: str, bench: DriverBench) -> list[Process]:
    """The session's processes whose command line holds `command`."""
    found = descendants_of(bench.link.holder_pid)
    return [process for process in found if command in _command_line(process)]


def program_of(pid: int | None) -> str:
    return os.readlink(f"/proc/{pid}/exe")


def _command_line(process: Process) -> str:
    try:
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return line.replace(b"\0", b" ").decode()
