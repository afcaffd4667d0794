"""Takes what the terminal interface of claude shows, in many states and sizes.

    python -m tests.recordings.screens.record_claude FOLDER [VERSION]

Each `FOLDER/VERSION-STATE[-ROWSxCOLS].ansi` is what `Screen.snapshot` gave in a terminal of 40 by
120, or of that size. Those of `claude-tui` were made so; its `seen.jsonl` says what a person sees on
each, and was written by looking at them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import pexpect

from relay_runtime.screen import new_screen
from relay_runtime.testing.clis import find_cli, hermetic_env
from relay_runtime.testing.model_server import run_model_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.model_server import ModelServer, StepLike

ROWS, COLS = 40, 120
SIZES: Final = ((24, 80), (10, 40), (12, 30), (5, 10), (60, 200))
#: Nothing is drawn any more, or only a spinner turns.
SETTLED_S: Final = 1.0
START_S: Final = 3.0
ESCAPE, CTRL_R, CTRL_O, CTRL_S, CTRL_U = "\x1b", "\x12", "\x0f", "\x13", "\x15"
LONG_PASTE: Final = "\x1b[200~" + "\n".join(f"line {n} with text" for n in range(30)) + "\x1b[201~"
OPTIONS: Final = [
    {"label": "Red", "description": "a warm one"},
    {"label": "Blue", "description": "a cold one"},
]
QUESTION: Final = {
    "question": "Which colour do you want?",
    "header": "Colour",
    "multiSelect": False,
    "options": OPTIONS,
}
SECOND: Final = {**QUESTION, "question": "Which sizes?", "header": "Sizes", "multiSelect": True}


@dataclass(frozen=True)
class State:
    """How a screen comes about. `missing` is what the user has not yet said in ~/.claude.json."""

    keys: tuple[str, ...] = ()
    script: tuple[StepLike, ...] = ()
    arguments: tuple[str, ...] = ()
    missing: str | None = None


def _asks(step: StepLike, mode: str = "default") -> State:
    return State(("go", "\r"), (step, "done"), ("--permission-mode", mode))


_LINES: Final = ("first", "\\", "\r", "second", "\\", "\r", "\\", "\r", "fourth")
_PLAN: Final = {"tool": "ExitPlanMode", "args": {"plan": "# Plan\n1. do it"}}
_BUSY: Final = ({"delay": 30, "text": "x"},)
STATES: Final = {
    "empty": State(),
    "named": State(arguments=("--name", "my agent")),
    "draft": State(("draft one",)),
    "multi": State(_LINES),
    "wrapped": State(("x" * 400,)),
    "pasted": State((LONG_PASTE,)),
    "stash": State(("draft one", CTRL_S)),
    "stash-and-draft": State(("draft one", CTRL_S, "second")),
    "stash-beside-a-note": State(("draft one", CTRL_S, "second", CTRL_U)),
    "slash": State(("/",)),
    "at": State(("@",)),
    "bashmode": State(("!", "ls")),
    "shortcuts": State(("?",)),
    "history": State((CTRL_R,)),
    "transcript": State((CTRL_O,)),
    "model": State(("/model", "\r")),
    "config": State(("/config", "\r")),
    "rewind": State((ESCAPE, ESCAPE)),
    "busy-wait": State(("go", "\r"), _BUSY),
    "queued": State(("go", "\r", "a queued one", "\r"), _BUSY),
    "busy-stashed": State(("go", "\r", "busy draft", CTRL_S), _BUSY),
    "dlg-bash": _asks({"shell": "touch made-by-bash && echo done"}),
    "dlg-write": _asks({"write": {"path": "new.txt", "content": "hello\n"}}),
    "dlg-fetch": _asks({"tool": "WebFetch", "args": {"url": "http://127.0.0.1:1/", "prompt": "x"}}),
    "dlg-ask": _asks({"tool": "AskUserQuestion", "args": {"questions": [QUESTION]}}),
    "dlg-ask2": _asks({"tool": "AskUserQuestion", "args": {"questions": [QUESTION, SECOND]}}),
    "dlg-plan": _asks(_PLAN, "plan"),
    "start-trust": State(missing="projects"),
    "start-apikey": State(missing="customApiKeyResponses"),
    "start-bypass": State(
        missing="bypassPermissionsModeAccepted", arguments=("--dangerously-skip-permissions",)
    ),
    "start-onboarding": State(missing="hasCompletedOnboarding"),
}


class Terminal:
    """Claude in a terminal; what it draws is taken at once, in a thread."""

    def __init__(self, child: pexpect.spawn[bytes]) -> None:
        self.child = child
        self._screen = new_screen(ROWS, COLS)
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = self.child.read_nonblocking(65_536, timeout=None)
            except (pexpect.EOF, OSError, ValueError):
                return
            with self._lock:
                self._screen.feed(data)

    def resize(self, rows: int, cols: int) -> None:
        with self._lock:
            self._screen.resize(rows, cols)
            self.child.setwinsize(rows, cols)

    def save(self, path: Path) -> None:
        time.sleep(SETTLED_S)
        with self._lock:
            path.write_bytes(self._screen.snapshot())


@contextmanager
def terminal(cli: Cli, home: Path, model: ModelServer, state: State) -> Iterator[Terminal]:
    env = hermetic_env(cli, home, model.url)
    if state.missing is not None:
        config = home / ".claude.json"
        said = json.loads(config.read_text("utf-8"))
        del said[state.missing]
        config.write_text(json.dumps(said), "utf-8")
    child: pexpect.spawn[bytes] = pexpect.spawn(
        str(cli.path),
        list(state.arguments),
        env=env,
        cwd=str(home / "work"),
        dimensions=(ROWS, COLS),
        encoding=None,
    )
    try:
        yield Terminal(child)
    finally:
        child.close(force=True)


def record(cli: Cli, model: ModelServer, name: str, folder: Path) -> None:
    state = STATES[name]
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
        terminal(cli, Path(home), model, state) as claude,
    ):
        time.sleep(START_S)
        for key in state.keys:
            claude.child.send(key)
            time.sleep(SETTLED_S / 2)
        claude.save(folder / f"{cli.version}-{name}.ansi")
        for rows, cols in SIZES:
            claude.resize(rows, cols)
            claude.save(folder / f"{cli.version}-{name}-{rows}x{cols}.ansi")


async def main(folder: str, version: str | None) -> None:
    cli = find_cli("claude", version)
    if cli is None:
        raise SystemExit("claude is not installed: run scripts/install_clis.py")
    for name, state in STATES.items():
        async with run_model_server() as model:
            model.script(*state.script)
            await anyio.to_thread.run_sync(record, cli, model, name, Path(folder))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
