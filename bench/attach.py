"""A person's terminal on a session: echo of a key, output, and the first screen; beside a bare
terminal and tmux in the same run.

python bench/attach.py

Medians of interleaved rounds, so that a busy moment of the machine hits all sides. The sessions that
are attached to are supervised as any other, so that their driver reads the output too.
"""

from __future__ import annotations

import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio
from ptyprocess import PtyProcess

from relay_runtime.attach.connection import watch
from relay_runtime.attach.display import NOTICE_S
from relay_runtime.contract import Io, StartPlan, StopPlan
from relay_runtime.holder_link import launch
from relay_runtime.testing.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from relay_runtime.attach.connection import Screencast

ROUNDS = 7
KEYS = 200  #: a round; the first few warm up
OUTPUT_BYTES = 10_000_000
VISITS = 11
ECHO_MS, FIRST_MS, HOLDER_RATIO = 0.3, 60.0, 0.6

#: Ordinary programs: one that gives back each key, one that writes as fast as it can.
ECHO = "stty raw -echo; printf 'ready$ '; exec cat"
WRITE = (
    f"printf 'ready$ '; while read x; do yes 0123456789 | head -c {OUTPUT_BYTES};"
    " printf 'ready$ '; done"
)
READY = b"ready$"
ENVIRON = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8"}
ATTACH = [sys.executable, "-P", "-c", "from relay_runtime.cli import main; main()", "attach"]
SIZE = (40, 120)


class Arm(Protocol):
    def echo(self) -> float:
        """Milliseconds until a key has come back."""

    def output(self) -> float:
        """MB/s until the last of it is there."""

    def drain(self) -> None:
        """Read what has come so far."""


@dataclass
class Outer:
    """A terminal with a program in it, as the terminal's owner has it."""

    process: PtyProcess

    def until(self, text: bytes) -> None:
        """Read until it was written."""
        said = b""
        while text not in said:
            said = said[-len(text) :] + os.read(self.process.fd, 65_536)

    def drain(self) -> None:
        while select.select([self.process.fd], [], [], 0)[0]:
            os.read(self.process.fd, 65_536)

    def echo(self) -> float:
        began = time.perf_counter()
        os.write(self.process.fd, b"x")
        while b"x" not in os.read(self.process.fd, 65_536):
            pass
        return (time.perf_counter() - began) * 1000

    def output(self) -> float:
        began = time.perf_counter()
        os.write(self.process.fd, b"\r")
        self.until(READY)
        return OUTPUT_BYTES / (time.perf_counter() - began) / 1e6


@dataclass
class Held:
    """The holder's own connection, without a terminal: what attach is built on."""

    cast: Screencast

    def _until(self, text: bytes) -> None:
        said = b""
        while text not in said:
            select.select([self.cast], [], [])
            for output in self.cast.receive():
                said = said[-len(text) :] + output.data

    def drain(self) -> None:
        while select.select([self.cast], [], [], 0)[0]:
            for _ in self.cast.receive():
                pass

    def echo(self) -> float:
        began = time.perf_counter()
        self.cast.type(b"x")
        self._until(b"x")
        return (time.perf_counter() - began) * 1000

    def output(self) -> float:
        began = time.perf_counter()
        self.cast.type(b"\r")
        self._until(READY)
        return OUTPUT_BYTES / (time.perf_counter() - began) / 1e6


@contextmanager
def outer(argv: Sequence[str], environ: Mapping[str, str], ready: bytes) -> Iterator[Outer]:
    process = PtyProcess.spawn(list(argv), env={**ENVIRON, **environ}, dimensions=SIZE)
    try:
        terminal = Outer(process)
        terminal.until(ready)
        yield terminal
    finally:
        process.close(force=True)


@contextmanager
def tmux(folder: Path, script: str) -> Iterator[list[str]]:
    """With the program in it; the command that attaches."""
    base = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux.sock")]
    size = ["-x", str(SIZE[1]), "-y", str(SIZE[0])]
    subprocess.run([*base, "new-session", "-d", *size, "sh", "-c", script], check=True, env=ENVIRON)
    try:
        yield [*base, "attach"]
    finally:
        subprocess.run([*base, "kill-server"], check=False, stderr=subprocess.DEVNULL)


@dataclass
class Place:
    """Supervised sessions by name, each with its program."""

    fleet: Fleet
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        return {"RELAY_RUNTIME_HOME": str(self.fleet.home), "HOME": str(self.folder)}

    async def session(self, name: str, script: str) -> None:
        options = {"prompt": r"ready\$ $"}
        argv = ["sh", "-c", script]
        await self.fleet.spawn("command", name=name, argv=argv, environ=ENVIRON, options=options)

    @contextmanager
    def arms(self, name: str, script: str) -> Iterator[dict[str, Arm]]:
        """The same program: bare, through us, and in tmux where there is one."""
        with ExitStack() as stack:
            found: dict[str, Arm] = {}
            found["bare"] = stack.enter_context(outer(["sh", "-c", script], {}, READY))
            found["attach"] = stack.enter_context(outer([*ATTACH, name], self.environ, READY))
            if shutil.which("tmux"):
                command = stack.enter_context(tmux(self.folder, script))
                found["tmux"] = stack.enter_context(outer(command, {}, READY))
            time.sleep(NOTICE_S + 1)  # the notice goes, and the screen is painted once more
            for terminal in found.values():
                terminal.drain()
            yield found


def echo_row(found: Mapping[str, Arm]) -> str:
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, terminal in found.items():
            times[name] += [terminal.echo() for _ in range(KEYS)][10:]
    medians = {name: statistics.median(values) for name, values in times.items()}
    added = {name: median - medians["bare"] for name, median in medians.items()}
    beside = f"   tmux adds {added['tmux']:6.3f}" if "tmux" in added else ""
    within = added["attach"] <= ECHO_MS and added["attach"] <= added.get("tmux", ECHO_MS)
    return (
        f"echo of a key   bare {medians['bare']:6.3f} ms   attach adds {added['attach']:6.3f}"
        f"{beside}   (limits {ECHO_MS:g}, tmux)  {_verdict(within)}"
    )


def output_row(found: Mapping[str, Arm]) -> str:
    medians = _rates(found)
    shown = "   ".join(f"{name} {rate:6.1f} MB/s" for name, rate in medians.items())
    fast = medians["attach"] >= medians.get("tmux", 0.0)
    return f"output          {shown}   (limit: tmux)  {_verdict(fast)}"


def holder_row(folder: str, script: str) -> str:
    """The same output of a session of its own, beside a blocking read of a terminal."""
    with outer(["sh", "-c", script], {}, READY) as bare, watch(folder, read_only=False) as cast:
        cast.live = True
        medians = _rates({"bare": bare, "holder": Held(cast)})
    ratio = medians["holder"] / medians["bare"]
    return (
        f"  of the holder {medians['holder']:6.1f} MB/s, {ratio:.2f} of a blocking read of"
        f" {medians['bare']:.1f}   (limit {HOLDER_RATIO:g})  {_verdict(ratio >= HOLDER_RATIO)}"
    )


def _rates(found: Mapping[str, Arm]) -> dict[str, float]:
    """Medians in MB/s."""
    rates: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, arm in found.items():
            rates[name].append(arm.output())
    return {name: statistics.median(values) for name, values in rates.items()}


def first_row(place: Place, name: str, script: str) -> str:
    """From the command to the screen, beside what any command of ours takes to start."""
    times: dict[str, list[float]] = {}

    def visit(which: str, argv: Sequence[str], environ: Mapping[str, str], ready: bytes) -> None:
        began = time.perf_counter()
        with outer(argv, environ, ready):
            times.setdefault(which, []).append((time.perf_counter() - began) * 1000)

    with ExitStack() as stack:
        command = None
        if shutil.which("tmux"):
            command = stack.enter_context(tmux(place.folder, script))
        for _ in range(VISITS):
            visit("attach", [*ATTACH, name], place.environ, READY)
            visit("ours", [*ATTACH[:-1], "--version"], place.environ, b"relay-runtime")
            visit("bare", [sys.executable, "-I", "-c", "print('up')"], {}, b"up")
            if command is not None:
                visit("tmux", command, {}, READY)
    medians = {which: statistics.median(values) for which, values in times.items()}
    beside = f", tmux {medians['tmux']:.1f}" if "tmux" in medians else ""
    over = medians["attach"] - medians["ours"]
    return (
        f"first screen    {medians['attach']:6.1f} ms; any command of ours takes"
        f" {medians['ours']:.1f}, bare Python {medians['bare']:.1f}{beside}"
        f"   (limit {FIRST_MS:g} over ours)  {_verdict(over <= FIRST_MS)}"
    )


def _verdict(within: bool) -> str:
    return "ok" if within else "OVER"


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rr-") as name:
        async with Fleet(Path(name) / "f") as fleet:
            await fleet.up()
            place = Place(fleet, Path(name))
            await place.session("echo", ECHO)
            with place.arms("echo", ECHO) as found:
                print(echo_row(found), flush=True)
            print(first_row(place, "echo", ECHO), flush=True)
            await place.session("write", WRITE)
            with place.arms("write", WRITE) as found:
                print(output_row(found), flush=True)
        async with launch(f"{name}/h", "bench", ENVIRON) as link:
            await link.start(StartPlan(("sh", "-c", WRITE), "/", Io.PTY))
            print(holder_row(link.session_dir, WRITE), flush=True)
            await link.stop(StopPlan(0, 0, 0))
            await link.quit()


if __name__ == "__main__":
    anyio.run(main)
