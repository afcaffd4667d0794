"""A person at a terminal of their own, with `relay-runtime attach` in it, on a session with a shell."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pexpect

from relay_runtime.screen import new_screen

from .cli_program import PROGRAM, SOON, Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DETACH = b"\x1c\x04"
#: What a terminal gets last: the old screen comes back.
RESTORED = b"\x1b[?1049l\x1b[23;0t"


@contextmanager
def shell_session(folder: Path) -> Iterator[Program]:
    """With a session `sh`: an ordinary shell in a terminal of 40 by 120."""
    program = Program(folder)
    argv = ["env", "-i", "PS1=ready$ ", f"PATH={os.environ['PATH']}", "TERM=xterm", "sh"]
    profile = {"harness": "command", "argv": argv, "options": {"prompt": r"ready\$ $"}}
    path = program.folder / "shell.json"
    path.write_text(json.dumps(profile))
    try:
        program.json("spawn", "--profile", str(path), "--name", "sh")
        yield program
    finally:
        program.run("down", "--all", "--force")


class Outer:
    """A person's terminal: what `attach` writes to it, on a screen of its own."""

    def __init__(self, program: Program, *arguments: str, rows: int = 40, cols: int = 120) -> None:
        self.said = b""
        self.screen = new_screen(rows, cols)
        self.terminal = cast(
            "pexpect.spawn[bytes]",
            pexpect.spawn(
                PROGRAM,
                ["attach", *arguments],
                env=cast("os._Environ[str]", program.environ),
                cwd=str(program.work),
                timeout=SOON,
                dimensions=(rows, cols),
            ),
        )
        self.terminal.delaybeforesend = None

    def read(self) -> None:
        """What has come, waiting a little for something to come."""
        try:
            data = self.terminal.read_nonblocking(65_536, timeout=0.2)
        except pexpect.TIMEOUT:
            return
        self.said += data
        self.screen.feed(data)

    def until(self, pattern: str) -> str:
        """Wait until the screen shows it; the screen then."""
        deadline = time.monotonic() + SOON
        while not re.search(pattern, shown := "\n".join(self.screen.text())):
            assert time.monotonic() < deadline, f"{pattern!r} was never shown:\n{shown}"
            self.read()
        return shown

    def type(self, data: bytes) -> None:
        self.terminal.send(data)

    def enter(self, line: bytes) -> None:
        self.type(line + b"\r")

    def end(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + SOON
        try:
            while time.monotonic() < deadline:
                self.read()
        except pexpect.EOF:
            self.terminal.close()
        status = self.terminal.exitstatus
        assert status is not None, "a signal ended it"
        return status

    def detach(self) -> None:
        self.type(DETACH)
        assert self.end() == 0
        assert b"which goes on" in self.said.partition(RESTORED)[2]


@contextmanager
def attached(program: Program, *arguments: str, rows: int = 40, cols: int = 120) -> Iterator[Outer]:
    outer = Outer(program, *(arguments or ("sh",)), rows=rows, cols=cols)
    try:
        outer.until("detaches")
        yield outer
    finally:
        outer.terminal.close(force=True)


def snapshot(program: Program) -> dict[str, object]:
    return program.json("snapshot", "sh")


def settled(program: Program, outer: Outer) -> None:
    """Wait until the notice is gone and the terminal shows what the session shows."""
    deadline = time.monotonic() + SOON
    while outer.screen.text() != (wanted := snapshot(program)["text"]):
        assert time.monotonic() < deadline, ("\n".join(outer.screen.text()), wanted)
        outer.read()
    cursor = snapshot(program)["cursor"]
    mine = outer.screen.cursor
    assert cursor == {"row": mine.row, "col": mine.col, "visible": mine.visible}
