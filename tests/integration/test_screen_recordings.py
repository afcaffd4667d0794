"""Recordings of real programs: shown as tmux shows them, and restored as they were.

`tests/recordings/screens/record.py` makes the recordings.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relay_runtime.screen import LARGEST_SIDE, Cursor, Screen, exact, new_screen

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDINGS = Path(__file__).parents[1] / "recordings" / "screens"
TMUX = shutil.which("tmux")
#: For tmux to read some hundred KB; it takes far less.
SOON = 15.0
MODES = (1, 7, 12, 25, 1000, 1002, 1003, 1004, 1006, 1049, 2004, 2031)

needs_emulator = pytest.mark.skipif(not exact(), reason="pyghostty has no wheel for this platform")


def recordings() -> Iterator[tuple[str, int]]:
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            if cut := json.loads(line).get("bytes"):
                yield path.stem, cut


every_cut = pytest.mark.parametrize(("name", "cut"), list(recordings()))


def played(name: str, cut: int | None = None) -> Screen:
    with (RECORDINGS / f"{name}.jsonl").open(encoding="utf-8") as sizes:
        size = json.loads(sizes.readline())
    screen = new_screen(size["rows"], size["cols"])
    screen.feed((RECORDINGS / f"{name}.raw").read_bytes()[:cut])
    return screen


def seen(screen: Screen) -> dict[str, object]:
    return {
        "text": screen.text(),
        "ansi": screen.ansi(),
        "cursor": screen.cursor,
        "title": screen.title,
        "alternate": screen.alternate,
        "modes": [number for number in MODES if screen.mode(number)],
    }


@needs_emulator
@every_cut
def test_a_restored_screen_is_the_recorded_one(name: str, cut: int) -> None:
    screen = played(name, cut)
    copy = new_screen(screen.rows, screen.cols)
    copy.feed(screen.snapshot())
    assert seen(copy) == seen(screen)
    rest = (RECORDINGS / f"{name}.raw").read_bytes()[cut:]
    screen.feed(rest)
    copy.feed(rest)
    assert seen(copy) == seen(screen)


@needs_emulator
@pytest.mark.skipif(TMUX is None, reason="tmux is not installed, with which screens are compared")
@every_cut
def test_the_screen_is_as_in_tmux(name: str, cut: int, tmp_path: Path) -> None:
    screen = played(name, cut)
    data = tmp_path / "data"
    data.write_bytes((RECORDINGS / f"{name}.raw").read_bytes()[:cut])
    with tmux(tmp_path, data, screen.rows, screen.cols) as run:
        until = time.monotonic() + SOON
        found = shown_by(run, screen)
        while found != (screen.text(), screen.cursor) and time.monotonic() < until:
            found = shown_by(run, screen)
        assert found == (screen.text(), screen.cursor)


class Tmux:
    """A server of our own, with one window that shows a file."""

    def __init__(self, folder: Path) -> None:
        assert TMUX is not None
        self._command = [TMUX, "-u", "-S", str(folder / "socket"), "-f", "/dev/null"]
        self._env = {"PATH": os.defpath, "LANG": "C.UTF-8", "TERM": "xterm", "HOME": str(folder)}

    def __call__(self, *words: str) -> str:
        run = subprocess.run(
            [*self._command, *words], env=self._env, capture_output=True, check=True, timeout=SOON
        )
        return run.stdout.decode("utf-8", "replace")


@contextmanager
def tmux(folder: Path, data: Path, rows: int, cols: int) -> Iterator[Tmux]:
    run = Tmux(folder)
    size = ["-x", str(cols), "-y", str(rows)]
    show = f"stty raw -echo; cat '{data}'; exec sleep 600"
    # No client is there to say the size, and the line with the windows would take a row.
    run("set", "-g", "status", "off", ";", "new-session", "-d", *size, show)
    try:
        yield run
    finally:
        run("kill-server")


def shown_by(run: Tmux, screen: Screen) -> tuple[list[str], Cursor]:
    lines = [line.rstrip(" ") for line in run("capture-pane", "-p").split("\n")][: screen.rows]
    told = run("display-message", "-p", "#{cursor_y} #{cursor_x} #{cursor_flag}")
    row, col, visible = (int(word) for word in told.split())
    return lines, Cursor(row, min(col, screen.cols - 1), bool(visible))


@needs_emulator
@pytest.mark.parametrize("name", sorted({name for name, _ in recordings()}))
def test_a_storm_of_sizes_loses_no_row_and_no_column(name: str) -> None:
    screen = played(name)
    data = (RECORDINGS / f"{name}.raw").read_bytes()
    sizes = [(60, 200), (5, 10), (1, 1), (40, 120), (10, 5), (LARGEST_SIDE, 2), (2, LARGEST_SIDE)]
    for number in range(60):
        rows, cols = sizes[number % len(sizes)]
        screen.resize(rows, cols)
        screen.feed(data[number * 100 : number * 100 + 300])
        assert len(screen.text()) == len(screen.ansi()) == rows
        copy = new_screen(rows, cols)
        copy.feed(screen.snapshot())
        assert (copy.ansi(), copy.cursor) == (screen.ansi(), screen.cursor)
