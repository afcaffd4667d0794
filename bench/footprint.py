"""Memory and idle CPU of the supervisor with its relay, and of holders, beside bare Python.

python bench/footprint.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

from relay_runtime.testing.fleet import Fleet

SESSIONS = 20
IDLE_S = 20.0
TICKS = os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def bare_mb() -> float:
    command = [sys.executable, "-I", "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        resident = rss_mb(process.pid)
        process.kill()
    return resident


async def main() -> None:
    bare = bare_mb()
    with tempfile.TemporaryDirectory(prefix="rr-") as folder:
        async with Fleet(Path(folder)) as fleet:
            await fleet.up()
            row("supervisor + relay, no session", rss_mb(fleet.pid) / bare, 7, "x bare Python")
            agent = [sys.executable, "-P", "-m", "relay_runtime.testing.scripted_agent"]
            environ = {"PATH": os.environ["PATH"], "TERM": "xterm-256color"}
            for _ in range(SESSIONS):
                await fleet.spawn(
                    "command", argv=agent, environ=environ, options={"prompt": "agent> $"}
                )
            infos = await fleet.sessions()
            holders = [info["holder_pid"] for info in infos]
            row(f"supervisor, {SESSIONS} sessions", rss_mb(fleet.pid), 60, "MB")
            row("holder, the largest", max(map(rss_mb, holders)), 12, "MB")
            began, used = time.monotonic(), sum(map(cpu_s, [fleet.pid, *holders]))
            await anyio.sleep(IDLE_S)
            used = sum(map(cpu_s, [fleet.pid, *holders])) - used
            share = used / (time.monotonic() - began) * 100
            row(f"idle CPU, all of ours, {SESSIONS} sessions", share, 0.5, "% of a core")


def row(what: str, value: float, limit: float, unit: str) -> None:
    verdict = "ok" if value <= limit else "OVER"
    print(f"{what:42s} {value:7.2f} {unit} (limit {limit:g})  {verdict}", flush=True)


if __name__ == "__main__":
    anyio.run(main)
