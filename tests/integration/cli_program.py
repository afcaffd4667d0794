"""The installed `relay-runtime` as a user runs it, in a state folder and an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pexpect

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A bound for facts that take milliseconds, on a machine that is busy with other tests.
SOON = 60.0
PROGRAM = str(Path(sys.executable).with_name("relay-runtime"))

#: What a command printed; tests read it freely.
Json = dict[str, Any]


class Program:
    """`run` waits for the program, `start` does not, `terminal` runs it in a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "state"
        self.work = folder / "work"
        self.work.mkdir()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "RELAY_RUNTIME_HOME": str(self.home),
            "AGENT_RELAY_PORT": "0",
        }

    def run(
        self,
        *arguments: str | bytes,
        stdin: bytes = b"",
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROGRAM, *arguments],
            input=stdin,
            capture_output=True,
            env=self.environ | dict(environ or {}),
            cwd=cwd or self.work,
            timeout=SOON,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def json(self, *arguments: str, code: int = 0) -> Json:
        """What a command with `--json` prints when it ends with `code`."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        return cast("Json", json.loads(done.stdout))

    def rows(self, *arguments: str) -> list[Json]:
        return cast("list[Json]", self.json(*arguments))

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """A script of the shell, where `relay-runtime` is the installed one."""
        path = f"{Path(PROGRAM).parent}:{self.environ['PATH']}"
        return subprocess.run(
            ["/bin/sh", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environ | {"PATH": path},
            cwd=self.work,
            timeout=SOON,
            check=False,
        )

    def until(self, kind: str, **data: object) -> Json:
        """The first event of this type with these data, of now or of the next seconds."""
        with self.start("events", "--follow", "--json") as follower:
            assert follower.stdout is not None
            try:
                for line in follower.stdout:
                    event: Json = json.loads(line)
                    if event["type"] == kind and data.items() <= event["data"].items():
                        return event
            finally:
                follower.kill()
        raise AssertionError(f"no {kind} came")

    def start(
        self, *arguments: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environ | dict(environ or {}),
            cwd=self.work,
        )

    def terminal(self, *arguments: str, **environ: str) -> pexpect.spawn[str]:
        # The generic parameter exists for type checkers only.
        return pexpect.spawn(
            PROGRAM,
            list(arguments),
            env=cast("os._Environ[str]", self.environ | environ),
            cwd=str(self.work),
            encoding="utf-8",
            timeout=SOON,
            dimensions=(40, 200),
        )

    def agent(self, **fields: object) -> str:
        """A profile file for the scripted agent; returns its path."""
        argv = [sys.executable, "-m", "relay_runtime.testing.scripted_agent"]
        profile: Json = {
            "harness": "command",
            "argv": [*argv, "--log", str(self.folder / "taken.jsonl")],
            "options": {"prompt": "agent> $"},
            "stop": {"drain_s": 5},
            **fields,
        }
        path = self.folder / "agent.json"
        path.write_text(json.dumps(profile))
        return str(path)

    def spawn(self, name: str, *arguments: str) -> Json:
        return self.json("spawn", "--profile", self.agent(), "--name", name, *arguments)

    def taken(self) -> list[str]:
        """What the scripted agents took as input, in order."""
        log = self.folder / "taken.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [str(json.loads(line)["text"]) for line in lines]
