"""Who plays in the demonstration: the real agents of this machine, else scripted stand-ins."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..testing.clis import Cli, CliName, find_cli, hermetic_env

if TYPE_CHECKING:
    from ..contract import Json
    from ..testing.model_server import ModelServer

#: At least this many sessions, so that there is somebody to talk to.
LEAST = 2
REAL: tuple[CliName, ...] = ("claude", "codex", "opencode")


@dataclass(frozen=True, slots=True)
class Player:
    """One session of the demonstration. `log` is the stand-in's own record of what it took."""

    name: str
    harness: str
    real: bool
    request: dict[str, Json]
    log: Path | None = None

    def work(self, seconds: float) -> str:
        """Text of a message that keeps it busy for that long."""
        if not self.real:
            return f"work={seconds:g}s"
        steps = [{"shell": f"sleep {seconds:g}"}, {"text": "done"}]
        return f"SCRIPT:{json.dumps(steps)}:END"

    def times_taken(self, marker: str, model: ModelServer) -> int:
        """How often the agent has had `marker` in front of it, by its own or its model's record."""
        if self.log is None:
            return model.requests.occurrences(marker)
        text = self.log.read_text("utf-8") if self.log.exists() else ""
        return sum(marker in json.loads(line)["text"] for line in text.splitlines())


def cast(folder: Path, model_url: str) -> list[Player]:
    """Every real CLI that is installed, and stand-ins up to `LEAST`."""
    players = [_real(cli, folder, model_url) for name in REAL if (cli := _installed(name))]
    for number in range(max(0, LEAST - len(players))):
        players.append(_stand_in(number + 1, folder))
    return players


def _installed(name: CliName) -> Cli | None:
    path: Literal[""] | str | None = shutil.which(name)
    return Cli(name, "on PATH", Path(path).resolve()) if path else find_cli(name)


def _real(cli: Cli, folder: Path, model_url: str) -> Player:
    home = folder / cli.name
    home.mkdir()
    environ = hermetic_env(cli, home, model_url)
    request: dict[str, Json] = {
        "environ": environ,
        "cwd": str(home / "work"),
        "approval": "open",
    }
    return Player(f"{cli.name}-agent", cli.name, True, request)


def _stand_in(number: int, folder: Path) -> Player:
    log = folder / f"stand-in-{number}.jsonl"
    program = [sys.executable, "-P", "-m", "relay_runtime.testing.scripted_agent"]
    request: dict[str, Json] = {
        "environ": {"PATH": os.environ.get("PATH", os.defpath), "TERM": "xterm-256color"},
        "cwd": str(folder),
        "argv": [*program, "--log", str(log)],
        "options": {"prompt": "agent> $"},
    }
    return Player(f"stand-in-{number}", "command", False, request, log)
