"""Records what real programs write to a terminal of 120 by 40, for the tests of the screen.

    python -m tests.recordings.screens.record [NAME…]

`NAME.raw` is what the program wrote, cut at LONGEST; `NAME.jsonl` says the size and, for each cut at
which screens are compared, how many bytes were written then. The agents talk to the scripted model.
Needs vim and htop, and the CLIs of `scripts/install_clis.py`.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pexpect

from relay_runtime.testing.clis import find_cli, hermetic_env
from relay_runtime.testing.model_server import run_model_server

if TYPE_CHECKING:
    from relay_runtime.testing.clis import CliName

HERE = Path(__file__).parent
ROWS, COLS = 40, 120
LONGEST = 200_000
CUTS = 5
PROGRAMS = ("vim", "htop")
AGENTS: tuple[CliName, ...] = ("claude", "codex", "opencode")
START_S, QUIET_S = 20.0, 1.5
# What the terminal answers, so that the programs do not wait: its kind, its colours, its cursor.
ANSWERS = (
    (re.compile(rb"\x1b\[0?c"), b"\x1b[?62;22c"),
    (re.compile(rb"\x1b\[6n"), b"\x1b[1;1R"),
    (re.compile(rb"\x1b\[\?u"), b"\x1b[?0u"),
    (re.compile(rb"\x1b\]1[01];\?(?:\x07|\x1b\\)"), b"\x1b]11;rgb:0000/0000/0000\x1b\\"),
)
TEXT = "".join(f"line {number}: ünïcode 中文 and plain text\n" for number in range(200))
SCRIPT = [
    {"text": "# A heading\n\nSome *words* and a table:\n\n| a | b |\n|---|---|\n| 1 | 中文 |\n"},
]


@dataclass
class Terminal:
    """A program in a terminal, with all that it wrote."""

    child: pexpect.spawn[bytes]
    written: bytearray = field(default_factory=bytearray)

    def until_quiet(self, wait: float = QUIET_S) -> None:
        """Reads until nothing came for that many seconds."""
        while True:
            try:
                data = self.child.read_nonblocking(65536, timeout=wait)
            except (pexpect.TIMEOUT, pexpect.EOF):
                return
            self.written += data
            for asked, answer in ANSWERS:
                for _ in asked.findall(data):
                    self.child.send(answer)
            if len(self.written) > LONGEST:
                return

    def say(self, *keys: str, wait: float = QUIET_S) -> None:
        for key in keys:
            self.child.send(key)
            self.until_quiet(wait)


Act = Callable[[Terminal], None]


def vim(terminal: Terminal) -> None:
    terminal.say(":set number hlsearch\r", "/plain\r", "\x06", "\x06", ":syntax on\r")
    terminal.say("ihello 中文 \x1b", ":vsplit\r", "G", "dd", "u", wait=0.4)


def htop(terminal: Terminal) -> None:
    terminal.say("t", "\x1b[B", "\x1b[B", "H", "\x1bOR", "\x1b", wait=0.5)


def agent(terminal: Terminal) -> None:
    terminal.say("hello there", "\r", wait=2.0)
    terminal.say("a second line that says more", "\r", wait=2.0)
    terminal.say("/", "m", "\x1b", "\x15", wait=0.6)


async def record_program(name: str, folder: Path) -> None:
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
    env["TERM"] = "xterm-256color"
    (folder / "text").write_text(TEXT, "utf-8")
    command = {
        "vim": ["/usr/bin/vim", "-u", "NONE", "--not-a-term", "text"],
        # It shows itself alone: what else runs here is nobody's business.
        "htop": ["/bin/sh", "-c", "exec /usr/bin/htop --delay 30 --pid $$"],
    }[name]
    act = {"vim": vim, "htop": htop}[name]
    await anyio.to_thread.run_sync(record, name, command, env, folder, act)


async def record_agent(name: CliName, folder: Path) -> None:
    cli = find_cli(name)
    if cli is None:
        raise SystemExit(f"{name} is not installed: run scripts/install_clis.py")
    async with run_model_server() as model:
        model.script(*SCRIPT, "and that is all")
        env = hermetic_env(cli, folder, model.url)
        await anyio.to_thread.run_sync(record, name, [str(cli.path)], env, folder / "work", agent)


def record(name: str, command: list[str], env: dict[str, str], folder: Path, act: Act) -> None:
    child: pexpect.spawn[bytes] = pexpect.spawn(
        command[0], command[1:], env=env, cwd=str(folder), dimensions=(ROWS, COLS), encoding=None
    )
    terminal = Terminal(child)
    try:
        terminal.until_quiet(3.0)
        act(terminal)
    finally:
        child.close(force=True)
    data = bytes(terminal.written[:LONGEST])
    (HERE / f"{name}.raw").write_bytes(data)
    cuts = [len(data) * number // CUTS for number in range(1, CUTS + 1)]
    sizes = [{"rows": ROWS, "cols": COLS}, *({"bytes": cut} for cut in cuts)]
    lines = "".join(json.dumps(size) + "\n" for size in sizes)
    (HERE / f"{name}.jsonl").write_text(lines, "utf-8")


async def main(names: list[str]) -> None:
    for program in PROGRAMS:
        if not names or program in names:
            with tempfile.TemporaryDirectory() as folder:
                await record_program(program, Path(folder))
    for cli in AGENTS:
        if not names or cli in names:
            with tempfile.TemporaryDirectory() as folder:
                await record_agent(cli, Path(folder))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
