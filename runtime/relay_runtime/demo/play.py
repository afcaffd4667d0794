"""The demonstration itself: messages to idle and to busy agents, a kill -9 in the middle, the proof."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx

from ..testing.fleet import Fleet
from ..testing.model_server import run_model_server
from .board import Board
from .cast import cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..testing.fleet import Answer
    from ..testing.model_server import ModelServer
    from .cast import Player

#: Long enough to send to everybody, and to kill and restart the supervisor, inside of one turn.
WORK_S = 5.0
#: Messages to each busy agent before and after the supervisor is killed.
BEFORE, AFTER = 3, 2
#: Until everything has arrived; a cold OpenCode on a loaded machine takes the longest.
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What was shown. `lost` and `twice` are message ids and must be empty."""

    agents: list[str]
    messages: int
    delivered: int
    deferred: int
    lost: list[int]
    twice: list[int]
    same_processes: bool
    recovery_s: float
    processes_left: int = 0

    @property
    def holds(self) -> bool:
        complete = self.delivered == self.messages and not self.lost and not self.twice
        return complete and self.same_processes and self.processes_left == 0


async def play(show: Callable[[Board], None]) -> Proof:
    """Run it. `show` is called whenever the board has changed."""
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as name:
        folder = Path(name)
        async with run_model_server() as model:
            stage = Stage(Fleet(folder), model, show)
            async with stage.fleet:
                proof = await stage.run(cast(folder, model.url))
                stage.say("ending every session")
            return replace(proof, processes_left=len(stage.fleet.processes()))


class Stage:
    """One performance."""

    def __init__(self, fleet: Fleet, model: ModelServer, show: Callable[[Board], None]) -> None:
        self.fleet = fleet
        self._model = model
        self._show = show
        self._board = Board()
        self._markers: dict[int, tuple[Player, str]] = {}

    def say(self, note: str) -> None:
        self._board.note = note
        self._show(self._board)

    async def run(self, players: list[Player]) -> Proof:
        self.say("starting a private supervisor")
        await self.fleet.up()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            before = await self._spawn(players)
            await self._while_idle(players)
            await self._while_busy(players)
            recovery_s = await self._kill_supervisor()
            for player in players:
                for number in range(AFTER):
                    await self._send(player, f"after the crash, {number + 1}", "after kill -9")
            self.say("waiting until everything has arrived")
            with anyio.fail_after(PATIENCE_S):
                for message_id in self._markers:
                    await self.fleet.final(message_id, PATIENCE_S)
            after = {info["name"]: info["pid"] for info in await self.fleet.sessions()}
            tasks.cancel_scope.cancel()
        return self._proof(players, before == after, recovery_s)

    async def _spawn(self, players: list[Player]) -> dict[str, int]:
        names = ", ".join(player.name for player in players)
        self.say(f"spawning {names}")
        pids: dict[str, int] = {}
        async with anyio.create_task_group() as tasks:
            for player in players:
                tasks.start_soon(self._spawn_one, player, pids)
        return pids

    async def _spawn_one(self, player: Player, pids: dict[str, int]) -> None:
        info = await self.fleet.spawn(player.harness, name=player.name, **player.request)
        pids[player.name] = info["pid"]

    async def _while_idle(self, players: list[Player]) -> None:
        self.say("a message to each idle agent")
        for player in players:
            sent = await self._send(player, "hello while you are idle", "idle")
            await self.fleet.final(sent["message_id"], PATIENCE_S)

    async def _while_busy(self, players: list[Player]) -> None:
        self.say(f"every agent gets {WORK_S:g} s of work, and messages meanwhile")
        for player in players:
            sent = await self._send(player, player.work(WORK_S), "starts work")
            await self.fleet.final(sent["message_id"], PATIENCE_S)
        for player in players:
            for number in range(BEFORE):
                await self._send(player, f"while you are busy, {number + 1}", "busy")

    async def _kill_supervisor(self) -> float:
        self.say(
            f"kill -9 of the supervisor (pid {self.fleet.pid}), agents and all their mail in it"
        )
        began = time.monotonic()
        self.fleet.kill()
        await self.fleet.up()
        took = time.monotonic() - began
        self.say(f"a new supervisor (pid {self.fleet.pid}) has taken over after {took:.2f} s")
        return took

    async def _send(self, player: Player, text: str, when: str) -> Answer:
        marker = f"demo-{len(self._markers) + 1:02d}"
        sent = await self.fleet.send(player.name, f"{marker}: {text}", sender="demo")
        self._markers[sent["message_id"]] = (player, marker)
        self._board.sent(sent["message_id"], player.name, when)
        self._show(self._board)
        return sent

    async def _watch(self) -> None:
        """Follow the event log, over the death of the supervisor."""
        while True:
            try:
                async for event in self.fleet.follow(since=self._board.cursor):
                    self._board.take(event)
                    self._show(self._board)
            except (httpx.HTTPError, RuntimeError):  # the client of the old supervisor is closed
                pass
            await self.fleet.serving()

    def _proof(self, players: list[Player], same_processes: bool, recovery_s: float) -> Proof:
        taken = {
            number: player.times_taken(marker, self._model)
            for number, (player, marker) in self._markers.items()
        }
        rows = self._board.rows.values()
        return Proof(
            agents=[player.name for player in players],
            messages=len(taken),
            delivered=sum("delivered" in row.receipts for row in rows),
            deferred=sum(any(r.startswith("deferred") for r in row.receipts) for row in rows),
            lost=[number for number, times in taken.items() if times == 0],
            twice=[number for number, times in taken.items() if times > 1],
            same_processes=same_processes,
            recovery_s=round(recovery_s, 3),
        )
