"""Feeding a screen and taking a snapshot, on the recordings of real programs.

    python bench/screen.py [ROUNDS]

Each recording is fed again and again, beside the emulator's own Python package and
pyte where they are installed. All take turns in the same run; medians.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relay_runtime.screen import exact, new_screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay_runtime.screen import Screen

ROUNDS = 5
ROWS, COLS = 40, 120
RECORDINGS = Path(__file__).parents[1] / "tests" / "recordings" / "screens"
#: Of one measurement: enough for a clock, little enough for an emulator that does 1 MB/s.
FED = {"ours": 8_000_000, "pyghostty": 8_000_000, "pyte": 150_000}
PIECE = 4096  #: what a terminal hands out in one read
TAKEN = 20  #: snapshots of one measurement
#: A fifth of the time from `attach` to the first full screen.
SLOWEST_SNAPSHOT_MS = 12.0
#: Of what the same library does through its own package.
LEAST_RATIO = 0.7


@dataclass(frozen=True, slots=True)
class Emulator:
    name: str
    fed: int
    new: Callable[[], Callable[[bytes], object]]


def emulators() -> list[Emulator]:
    found = [Emulator("ours", FED["ours"], lambda: new_screen(ROWS, COLS).feed)]
    for name, new in (("pyghostty", _pyghostty), ("pyte", _pyte)):
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name}: not installed")
        else:
            found.append(Emulator(name, FED[name], new))
    return found


def _pyghostty() -> Callable[[bytes], object]:
    terminal = importlib.import_module("pyghostty").Terminal(COLS, ROWS)
    feed: Callable[[bytes], object] = terminal.feed
    return feed


def _pyte() -> Callable[[bytes], object]:
    pyte = importlib.import_module("pyte")
    feed: Callable[[bytes], object] = pyte.ByteStream(pyte.Screen(COLS, ROWS)).feed
    return feed


def throughput(emulator: Emulator, data: bytes) -> float:
    """MB a second."""
    feed = emulator.new()
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    times = max(1, emulator.fed // len(data))
    begin = time.perf_counter()
    for _ in range(times):
        for piece in pieces:
            feed(piece)
    return times * len(data) / 1e6 / (time.perf_counter() - begin)


def milliseconds(take: Callable[[], object]) -> float:
    begin = time.perf_counter()
    for _ in range(TAKEN):
        take()
    return (time.perf_counter() - begin) * 1000 / TAKEN


def shown(data: bytes) -> Screen:
    screen = new_screen(ROWS, COLS)
    screen.feed(data)
    return screen


def main(rounds: int) -> int:
    if not exact():
        print("no terminal emulator on this platform: screens are plain")
    those, late = emulators(), False
    print(f"{ROWS} rows of {COLS}, pieces of {PIECE} bytes; medians of {rounds}")
    names = "".join(f"{f'{one.name} MB/s':>16}" for one in those)
    print(f"{'':10}{names}{'snapshot ms':>14}{'text ms':>10}{'bytes':>8}")
    for path in sorted(RECORDINGS.glob("*.raw")):
        data = path.read_bytes()
        turns = [[_speed(one, data) for one in those] for _ in range(rounds)]
        speeds = [statistics.median(speeds) for speeds in zip(*turns, strict=True)]
        screen = shown(data)
        snapshot = statistics.median(milliseconds(screen.snapshot) for _ in range(rounds))
        text = statistics.median(milliseconds(screen.text) for _ in range(rounds))
        theirs = dict(zip((one.name for one in those), speeds, strict=True)).get("pyghostty", 0.0)
        slow = snapshot > SLOWEST_SNAPSHOT_MS or speeds[0] < LEAST_RATIO * theirs
        late |= slow
        told = "".join(f"{_told(speed):>16}" for speed in speeds)
        size, word = len(screen.snapshot()), "LATE" if slow else "ok"
        print(f"{path.stem:10}{told}{snapshot:14.2f}{text:10.3f}{size:8}  {word}")
    print(
        f"at least {LEAST_RATIO} of pyghostty's own speed,"
        f" at most {SLOWEST_SNAPSHOT_MS:.0f} ms for a snapshot"
    )
    return int(late and exact())


def _speed(emulator: Emulator, data: bytes) -> float:
    """MB a second; 0: it fails on this recording."""
    try:
        return throughput(emulator, data)
    except (TypeError, ValueError, IndexError):  # of pyte, on output that it does not know
        return 0.0


def _told(speed: float) -> str:
    return f"{speed:.1f}" if speed else "fails"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
