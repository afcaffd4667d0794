"""What a holder costs, beside the same thing done without one, in the same run.

    python bench/holder.py [ROUNDS]

Prints medians; each figure is a ratio to its anchor. Rounds are interleaved, so that a busy moment
of the machine hits both sides. Linux only.
"""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

from relay_runtime.contract import Io, StartPlan, StopPlan, Stream
from relay_runtime.holder_link import HolderLink, launch

ROUNDS = 7
ECHOES = 200
FLOOD_MB = 24
_ECHO = "import os, tty; tty.setraw(0); os.write(1, b'up')\nwhile d := os.read(0, 65536): os.write(1, d)"
_FLOOD = f"import os\nd = b'x' * 65536\nfor _ in range({FLOOD_MB * 16}): os.write(1, d)"
ENVIRON = {"PATH": os.environ["PATH"]}


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", text)


def bare_python() -> float:
    begin = time.perf_counter()
    subprocess.run(program("pass"), env={}, check=True)
    return time.perf_counter() - begin


def bare_rss() -> float:
    wait = program("print('up', flush=True)\ninput()")
    with subprocess.Popen(wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        resident = rss_mb(process.pid)
        process.kill()
    return resident


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def direct_echo() -> float:
    """Median round trip to a program in a raw terminal of our own."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, program(_ECHO))
    try:
        read_until(master, b"up")
        times = []
        for _ in range(ECHOES):
            begin = time.perf_counter()
            os.write(master, b"x")
            os.read(master, 100)
            times.append(time.perf_counter() - begin)
        return statistics.median(times)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(master)


def read_until(fd: int, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        seen += os.read(fd, 100)


def direct_flood() -> float:
    """MB/s from a program through a pipe to a file, as the holder does it."""
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(program(_FLOOD), stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        begin = time.perf_counter()
        while data := os.read(process.stdout.fileno(), 65536):
            os.write(log.fileno(), data)
        return FLOOD_MB / (time.perf_counter() - begin)


async def held_echo(link: HolderLink) -> float:
    status = await link.start(StartPlan(program(_ECHO), "/", Io.PTY))
    reader = link.read(Stream.OUT, status.offsets[Stream.OUT])
    seen = b""
    while b"up" not in seen:
        seen += (await anext(reader)).data
    times = []
    for _ in range(ECHOES):
        begin = time.perf_counter()
        await link.write(b"x", 0)
        await anext(reader)
        times.append(time.perf_counter() - begin)
    await reader.aclose()  # type: ignore[attr-defined] # an async generator is what it is
    await link.stop(StopPlan(0, 0, 0))
    return statistics.median(times)


async def held_flood(link: HolderLink) -> float:
    begin = time.perf_counter()
    status = await link.start(StartPlan(program(_FLOOD), "/", Io.PIPES))
    size = 0
    async for chunk in link.read(Stream.OUT, status.offsets[Stream.OUT]):
        size += len(chunk.data)
    return size / (1 << 20) / (time.perf_counter() - begin)


async def one_round(found: dict[str, list[float]]) -> None:
    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    note("bare start", bare_python() * 1000)
    note("bare rss", bare_rss())
    note("direct echo", direct_echo() * 1000)
    note("direct flood", direct_flood())
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        async with launch(folder + "/s", "bench", ENVIRON) as link:
            note("start", (time.perf_counter() - begin) * 1000)
            note("rss", rss_mb(link.holder_pid))
            note("echo", await held_echo(link) * 1000)
            note("flood", await held_flood(link))
            note("rss after", rss_mb(link.holder_pid))
            await link.quit()


ROWS = [
    ("spawn to ready and connected, ms", "start", "bare python start", "bare start"),
    ("RSS when ready, MB", "rss", "bare python", "bare rss"),
    ("RSS after 24 MB of output, MB", "rss after", "bare python", "bare rss"),
    ("echo round trip in a PTY, ms", "echo", "direct PTY", "direct echo"),
    ("output to a reader, MB/s", "flood", "pipe to a file", "direct flood"),
]


async def main(rounds: int) -> None:
    found: dict[str, list[float]] = {}
    await one_round({})  # warm caches and byte code
    for _ in range(rounds):
        await one_round(found)
    median = {name: statistics.median(values) for name, values in found.items()}
    print(f"{'':36}{'holder':>9}{'anchor':>9}{'ratio':>7}  anchor is (medians of {rounds})")
    for title, name, anchor, other in ROWS:
        ratio = median[name] / median[other]
        print(f"{title:36}{median[name]:9.2f}{median[other]:9.2f}{ratio:7.2f}  {anchor}")


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
