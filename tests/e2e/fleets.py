"""A session of a real CLI under a real supervisor, with a scripted model of its own."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from relay_runtime.processes import Process, start_ticks
from relay_runtime.testing.clis import Cli, hermetic_env
from relay_runtime.testing.fleet import Answer, Fleet
from relay_runtime.testing.model_server import ModelServer, run_model_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from relay_runtime.contract import Json

#: What proves a message that each CLI took at a boundary. The older claude announces nothing: its
#: record or its replay has it first.
EVIDENCE = {
    ("claude", "2.1.330", "headless"): {"claude.command_lifecycle"},
    ("claude", "2.1.197", "headless"): {"claude.transcript", "claude.replay"},
    ("claude", "2.1.330", "pty"): {"claude.transcript"},
    ("claude", "2.1.197", "pty"): {"claude.transcript"},
    ("codex", "0.169.0", "headless"): {"codex.user_message"},
    ("opencode", "1.18.33", "headless"): {"opencode.message"},
}


@dataclass(frozen=True, slots=True)
class RealSession:
    """`name` is the session; `model` saw nothing but this session's requests."""

    fleet: Fleet
    model: ModelServer
    cli: Cli
    name: str
    work: Path
    environ: dict[str, str]

    async def send(self, body: str) -> int:
        """Send a message to the session; returns its number."""
        sent = await self.fleet.send(self.name, body)
        (delivery,) = sent["deliveries"]
        assert delivery["status"] in ("pending", "accepted", "deferred"), delivery
        number: int = sent["message_id"]
        return number

    async def info(self) -> Answer:
        return await self.fleet.session(self.name)

    async def idle(self) -> Answer:
        return await self.fleet.wait_state(self.name, "idle")

    async def agent(self) -> Process:
        """The agent's process, which no other process will ever equal."""
        return identity((await self.info())["pid"])

    async def events(self, kind: str) -> list[Answer]:
        found = await self.fleet.events(self.name)
        return [event for event in found if event["type"] == kind]

    def check_in_context(self, markers: Sequence[str], conversation: str | None = None) -> None:
        """Each marker stands in the conversation exactly once, and in this order. It is the only
        one, unless it is named."""
        requests = self.model.requests
        if conversation is None:
            assert len(requests.conversations()) == 1, requests.conversations()
        counts = {marker: requests.occurrences(marker, conversation) for marker in markers}
        assert all(count == 1 for count in counts.values()), counts
        assert requests.order(markers, conversation) == list(markers)

    def check_delivered(self, receipts: Sequence[Answer]) -> None:
        """One message's receipts, oldest first: taken once, then proven once, and nothing else."""
        states = [receipt["status"] for receipt in receipts]
        assert states[0] == "accepted" and states[-1] == "delivered", receipts
        assert set(states[1:-1]) <= {"deferred"}, receipts
        assert all(receipt["reason"] for receipt in receipts[1:-1]), receipts
        assert [r["at"] for r in receipts] == sorted(r["at"] for r in receipts)
        proof = receipts[-1]["evidence"]
        assert proof and proof["kind"].startswith(f"{self.cli.name}.") and proof["reference"], proof


@asynccontextmanager
async def fleet_of(folder: Path) -> AsyncIterator[Fleet]:
    """A private supervisor that serves."""
    async with Fleet(folder) as fleet:
        await fleet.up()
        yield fleet


@asynccontextmanager
async def real_session(
    cli: Cli,
    folder: Path,
    more_environ: Mapping[str, str] | None = None,
    unanswered: str | None = None,
    **spawn: Json,
) -> AsyncIterator[RealSession]:
    """A session of `cli` in a fleet of its own; the rest is as in `spawned`."""
    home = folder / "agent"
    async with (
        fleet_of(folder) as fleet,
        spawned(fleet, cli, home, more_environ, unanswered, **spawn) as found,
    ):
        yield found


@asynccontextmanager
async def spawned(
    fleet: Fleet,
    cli: Cli,
    home: Path,
    more_environ: Mapping[str, str] | None = None,
    unanswered: str | None = None,
    **spawn: Json,
) -> AsyncIterator[RealSession]:
    """A session that is ready and idle. `spawn` is laid over what every test wants, and
    `more_environ` over its environment. `unanswered` is what the user of claude has not yet
    answered there: it is then not waited for."""
    async with run_model_server() as model:
        environ = hermetic_env(cli, home, model.url) | dict(more_environ or {})
        if unanswered is not None:
            config = home / ".claude.json"
            answered = json.loads(config.read_text())
            del answered[unanswered]
            config.write_text(json.dumps(answered))
        request: dict[str, Json] = {
            "name": cli.name,
            "mode": cli.mode,
            "cwd": str(home / "work"),
            "environ": environ,
            "approval": "open",
            **spawn,
        }
        info = await fleet.spawn(cli.name, **request)
        session = RealSession(fleet, model, cli, info["name"], home / "work", environ)
        if unanswered is None:
            await session.idle()
        yield session


class Word:
    """What a tool call of the agent tells the test, through a named pipe that `path` names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    async def lines(self, count: int = 1, within_s: float = 30.0) -> list[str]:
        """The first lines that are written to it. Call it once."""
        # Open for writing too: it does not end when a writer goes.
        fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        said = b""
        try:
            with anyio.fail_after(within_s):
                while said.count(b"\n") < count:
                    await anyio.wait_readable(fd)
                    said += os.read(fd, 4096)
        finally:
            os.close(fd)
        return said.decode().splitlines()


def identity(pid: int) -> Process:
    """The process that has this pid now."""
    ticks = start_ticks(pid)
    assert ticks is not None, f"no process {pid}"
    return Process(pid, ticks)


def numbered(prefix: str, count: int) -> list[str]:
    """Markers of which none is part of another."""
    return [f"{prefix}{number:03d}Z" for number in range(1, count + 1)]
