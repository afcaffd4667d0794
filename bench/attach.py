"""A person's terminal on a session: echo of a key, output, and the first screen; beside a bare
terminal and tmux in the same run.

python bench/attach.py
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
from typing import TYPE_CHECKING

import anyio
from ptyprocess import PtyProcess

from relay_runtime.attach.client import NOTICE_S
from relay_runtime.testing.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROUNDS = 5
KEYS = 200  #: a round; the first few warm up
OUTPUT_BYTES = 10_000_000
VISITS = 11
ECHO_MS, FIRST_MS = 0.3, 60.0

#: Ordinary programs: one that gives back each key, one that writes as fast as it can.
ECHO = "stty raw -echo; printf 'ready$ '; exec cat"
WRITE = (
    f"printf 'ready$ '; while read x; do yes 0123456789 | head -c {OUTPUT_BYTES};"
    " printf 'ready$ '; done"
)
ENVIRON = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8"}
ATTACH = [sys.executable, "-P", "-c", "from relay_runtime.cli import main; main()", "attach"]
SIZE = (40, 120)


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
        """Read what has come so far."""
        while select.select([self.process.fd], [], [], 0)[0]:
            os.read(self.process.fd, 65_536)

    def echo(self) -> float:
        """Milliseconds until a key has come back."""
        began = time.perf_counter()
        os.write(self.process.fd, b"x")
        while b"x" not in os.read(self.process.fd, 65_536):
            pass
        return (time.perf_counter() - began) * 1000

    def output(self) -> float:
        """MB/s until the last of it is on the screen."""
        began = time.perf_counter()
        os.write(self.process.fd, b"\r")
        self.until(b"ready$")
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
def tmux(folder: Path, script: str) -> Iterator[Outer]:
    name = str(folder / "tmux.sock")
    base = ["tmux", "-f", "/dev/null", "-S", name]
    try:
        with outer([*base, "new-session", "sh", "-c", script], {}, b"ready$") as terminal:
            yield terminal
    finally:
        subprocess.run([*base, "kill-server"], check=False, stderr=subprocess.DEVNULL)


async def session(fleet: Fleet, name: str, script: str) -> None:
    options = {"prompt": r"ready\$ $"}
    argv = ["sh", "-c", script]
    await fleet.spawn("command", name=name, argv=argv, environ=ENVIRON, options=options)


@contextmanager
def arms(fleet: Fleet, folder: Path, name: str, script: str) -> Iterator[dict[str, Outer]]:
    """The same program: bare, through us, and in tmux where there is one."""
    with ExitStack() as stack:
        found = {"bare": stack.enter_context(outer(["sh", "-c", script], {}, b"ready$"))}
        home = {"RELAY_RUNTIME_HOME": str(fleet.home), "HOME": str(folder)}
        found["attach"] = stack.enter_context(outer([*ATTACH, name], home, b"ready$"))
        if shutil.which("tmux"):
            found["tmux"] = stack.enter_context(tmux(folder, script))
        time.sleep(NOTICE_S + 1)  # the notice goes, and the screen is painted once more
        for terminal in found.values():
            terminal.drain()
        yield found


def echo_row(found: Mapping[str, Outer]) -> str:
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, terminal in found.items():
            times[name] += [terminal.echo() for _ in range(KEYS)][10:]
    medians = {name: statistics.median(values) for name, values in times.items()}
    added = medians["attach"] - medians["bare"]
    beside = f"   tmux {medians['tmux'] - medians['bare']:6.3f}" if "tmux" in medians else ""
    verdict = "ok" if added <= ECHO_MS else "OVER"
    return (
        f"echo of a key   bare {medians['bare']:6.3f} ms   attach adds {added:6.3f} ms{beside}"
        f"   (limit {ECHO_MS:g})  {verdict}"
    )


def output_row(found: Mapping[str, Outer]) -> str:
    rates: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, terminal in found.items():
            rates[name].append(terminal.output())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    shown = "   ".join(f"{name} {rate:6.1f} MB/s" for name, rate in medians.items())
    slow = "tmux" in medians and medians["attach"] < medians["tmux"]
    return f"output          {shown}   (limit: tmux)  {'OVER' if slow else 'ok'}"


def first_row(fleet: Fleet, folder: Path, name: str) -> str:
    """From the command to the screen, less what any command of ours takes to start."""
    home = {"RELAY_RUNTIME_HOME": str(fleet.home), "HOME": str(folder)}
    whole, start = [], []
    for _ in range(VISITS):
        began = time.perf_counter()
        with outer([*ATTACH, name], home, b"ready$"):
            whole.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        with outer([*ATTACH[:-1], "--version"], home, b"relay-runtime"):
            start.append((time.perf_counter() - began) * 1000)
    took, floor = statistics.median(whole), statistics.median(start)
    verdict = "ok" if took - floor <= FIRST_MS else "OVER"
    return (
        f"first screen    {took:6.1f} ms, of which {floor:.1f} any command of ours takes"
        f"   (limit {FIRST_MS:g} over it)  {verdict}"
    )


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rr-") as name:
        folder = Path(name)
        async with Fleet(folder / "f") as fleet:
            await fleet.up()
            await session(fleet, "echo", ECHO)
            await session(fleet, "write", WRITE)
            with arms(fleet, folder, "echo", ECHO) as found:
                print(echo_row(found), flush=True)
            print(first_row(fleet, folder, "echo"), flush=True)
            with arms(fleet, folder, "write", WRITE) as found:
                print(output_row(found), flush=True)


if __name__ == "__main__":
    anyio.run(main)
