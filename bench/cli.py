"""What starting the command line costs, over a bare Python: run `python bench/cli.py`.

Rounds are interleaved, because the machine is not quiet; medians are compared within one run.
`ps` is asked of a real supervisor without sessions, in a state folder of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = int(os.environ.get("ROUNDS", "11"))
PROGRAM = str(Path(sys.executable).with_name("relay-runtime"))

#: Name, command, and how many bare starts of Python it may take (None: no limit, for comparison).
CASES: tuple[tuple[str, list[str], float | None], ...] = (
    ("bare python", [sys.executable, "-c", "pass"], None),
    ("--help", [PROGRAM, "--help"], 8.0),
    ("--version", [PROGRAM, "--version"], 8.0),
    ("spawn --help", [PROGRAM, "spawn", "--help"], None),
    ("ps", [PROGRAM, "ps"], 25.0),
    ("ps --json", [PROGRAM, "ps", "--json"], 25.0),
    ("status", [PROGRAM, "status"], None),
)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "PATH": os.environ["PATH"],
            "RELAY_RUNTIME_HOME": folder,
            "AGENT_RELAY_PORT": "0",
        }
        subprocess.run([PROGRAM, "up"], env=environ, check=True)
        try:
            taken = measure(environ)
        finally:
            subprocess.run([PROGRAM, "down", "--all"], env=environ, check=True)
    return report(taken)


def measure(environ: dict[str, str]) -> dict[str, list[float]]:
    """Seconds of each case, one of each a round; the first round warms the disk cache."""
    taken: dict[str, list[float]] = {name: [] for name, _, _ in CASES}
    for number in range(ROUNDS + 1):
        for name, command, _ in CASES:
            before = time.perf_counter()
            subprocess.run(command, env=environ, check=True, capture_output=True)
            if number:
                taken[name].append(time.perf_counter() - before)
    return taken


def report(taken: dict[str, list[float]]) -> int:
    bare = statistics.median(taken["bare python"])
    over = 0
    print(f"{'':<14}{'ms':>8}{'min':>8}{'max':>8}{'x bare':>8}{'limit':>8}")
    for name, _, limit in CASES:
        times = taken[name]
        ratio = statistics.median(times) / bare
        over += limit is not None and ratio > limit
        values = f"{statistics.median(times) * 1e3:>8.1f}{min(times) * 1e3:>8.1f}"
        bound = "" if limit is None else f"{limit:>8.0f}"
        print(f"{name:<14}{values}{max(times) * 1e3:>8.1f}{ratio:>8.1f}{bound}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
