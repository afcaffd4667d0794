"""adopt codex: a session that the user has started by hand gets messages, and stays the user's."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
import anyio.abc
import pexpect
import pytest
from watchfiles import awatch

from relay_runtime.processes import start_ticks
from relay_runtime.screen import exact
from relay_runtime.testing.clis import hermetic_env
from relay_runtime.testing.fleet import Answer, Fleet
from relay_runtime.testing.model_server import ModelServer, run_model_server

from .fleets import Word, identity
from .terminals import Person, attached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from relay_runtime.processes import Process
    from relay_runtime.testing.clis import Cli

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.e2e,
    pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform"),
]


@dataclass(frozen=True, slots=True)
class Desk:
    """A user's own codex: their app-server, and terminals on it."""

    cli: Cli
    model: ModelServer
    environ: dict[str, str]
    work: Path
    fleet: Fleet
    server: anyio.abc.Process

    @asynccontextmanager
    async def codex(self) -> AsyncIterator[Person]:
        """A plain `codex` in a terminal."""
        terminal = pexpect.spawn(
            str(self.cli.path),
            env=cast("os._Environ[str]", self.environ),
            cwd=str(self.work),
            encoding="utf-8",
            dimensions=(40, 120),
        )
        person = Person(terminal)
        try:
            await person.hears("\x1b]7501;state=idle")  # its conversation is open
            yield person
        finally:
            person.close()

    async def adopt(self, *options: str) -> Answer:
        done = await self.fleet.command("adopt", "codex", "--name", "mine", *options)
        assert done.returncode == 0, done.stderr
        return await self.fleet.wait_state("mine", "idle")

    async def refused(self, *options: str) -> tuple[int, str]:
        done = await self.fleet.command("adopt", "codex", *options)
        return done.returncode, done.stderr.decode()

    async def delivered(self, body: str) -> None:
        number = (await self.fleet.send("mine", body))["message_id"]
        receipts = await self.fleet.final(number)
        assert receipts[-1]["status"] == "delivered", receipts
        assert receipts[-1]["evidence"]["kind"] == "codex.user_message"
        await self.model.requests.wait(body)


@pytest.fixture
async def desk(codex_cli: Cli, tmp_path: Path) -> AsyncIterator[Desk]:
    async with run_model_server() as model:
        home = tmp_path / "user"
        environ = hermetic_env(codex_cli, home, model.url)
        config = home / ".codex" / "config.toml"
        own_server = "daemon_auto_start = false"
        config.write_text(config.read_text().replace(own_server, "daemon_auto_start = true"))
        socket = home / ".codex" / "app-server-control" / "app-server-control.sock"
        async with await anyio.open_process(
            [codex_cli.path, "app-server", "--listen", "unix://"],
            env=environ,
            cwd=home / "work",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                await appears(socket)
                async with Fleet(tmp_path, environ) as fleet:
                    await fleet.up()
                    yield Desk(codex_cli, model, environ, home / "work", fleet, server)
            finally:
                with suppress(ProcessLookupError):
                    server.terminate()


async def appears(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with anyio.fail_after(30):
        async for _ in awatch(path.parent, rust_timeout=100, yield_on_timeout=True):
            if await anyio.Path(path).exists():
                return


def alive(process: Process) -> bool:
    return start_ticks(process.pid) == process.start_ticks


async def test_messages_and_the_user_meet_in_the_users_own_codex(
    desk: Desk, tmp_path: Path
) -> None:
    async with desk.codex() as person:
        await desk.adopt()
        person.types("half a draft")
        await person.sees("half a draft")
        await desk.delivered("HELLO-1")
        await person.sees("relay msg 1 from tester", "HELLO-1", "half a draft")
        await desk.fleet.wait_state("mine", "idle")

        # While the user's own turn runs, a message waits for its end.
        hold = Word(tmp_path / "hold")
        desk.model.script({"shell": f"cat {hold.path}"}, "the user's answer", "the other answer")
        person.types(" is DONE-2")
        await person.sees("half a draft is DONE-2")
        person.types("\r")
        await desk.fleet.wait_state("mine", "busy")
        await desk.fleet.wait_event("mine", "tool.started")
        number = (await desk.fleet.send("mine", "LATER-3"))["message_id"]
        await anyio.Path(hold.path).write_text("go\n")
        receipts = await desk.fleet.final(number)
        assert [r["status"] for r in receipts] == ["accepted", "deferred", "delivered"]
        await person.sees("the user's answer", "LATER-3", "the other answer")
        found = desk.model.requests.order(["HELLO-1", "DONE-2", "LATER-3"])
        assert found == ["HELLO-1", "DONE-2", "LATER-3"]
        said = [
            e["data"]["text"] for e in await desk.fleet.events("mine") if e["type"] == "transcript"
        ]
        assert "half a draft is DONE-2" in said


async def test_release_only_leaves_and_it_can_be_joined_again(desk: Desk, tmp_path: Path) -> None:
    async with desk.codex() as person:
        before = await desk.adopt()
        await desk.delivered("FIRST-1")
        server = identity(desk.server.pid)
        begun = Word(tmp_path / "begun")
        hold = Word(tmp_path / "hold")
        desk.model.script({"shell": f"echo x > {begun.path}; cat {hold.path}"}, "undisturbed")
        person.types("go on")
        await person.sees("go on")
        person.types("\r")
        await begun.lines()
        await desk.fleet.order("mine", "release")
        assert alive(server) and person.runs
        await anyio.Path(hold.path).write_text("go\n")
        await person.sees("undisturbed")
        again = await desk.adopt()
        assert again["conversation"] == before["conversation"]
        await desk.delivered("SECOND-2")
        await person.sees("SECOND-2")
        events = [e for e in await desk.fleet.events("mine") if e["data"].get("text") == "go on"]
        assert len(events) <= 1, "what was before is not told again"
        code, said = await desk.refused()
        assert code == 6 and "the session mine already" in said


async def test_it_is_taken_up_again_when_the_supervisor_was_killed(desk: Desk) -> None:
    async with desk.codex() as person:
        joined = await desk.adopt()
        desk.fleet.kill()
        person.types("while it was gone: ALONE-1")
        await person.sees("ALONE-1")
        person.types("\r")
        await desk.model.requests.wait("ALONE-1")
        await desk.fleet.up()
        await desk.delivered("BACK-2")
        await person.sees("BACK-2")
        assert (await desk.fleet.session("mine"))["pid"] == joined["pid"]
        async with attached(desk.fleet, "mine") as other:
            await other.sees("ALONE-1", "BACK-2")
            other.types("from elsewhere: THIRD-3")
            await other.sees("THIRD-3")
            other.types("\r")
            await person.sees("from elsewhere: THIRD-3")
            await other.leaves()
        assert desk.model.requests.order(["ALONE-1", "BACK-2"]) == ["ALONE-1", "BACK-2"]
        said = [e["data"].get("text") for e in await desk.fleet.events("mine")]
        assert said.count("while it was gone: ALONE-1") == 1


async def test_our_own_part_of_it_may_be_killed_and_nobody_notices(desk: Desk) -> None:
    async with desk.codex() as person:
        joined = await desk.adopt()
        await desk.delivered("FIRST-1")
        server = identity(desk.server.pid)
        os.kill(joined["pid"], signal.SIGKILL)
        await desk.fleet.wait_event("mine", "session.exited")
        await desk.delivered("SECOND-2")
        await person.sees("FIRST-1", "SECOND-2")
        assert alive(server) and person.runs
        order = ["FIRST-1", "SECOND-2"]
        assert desk.model.requests.order(order) == order
        assert all(desk.model.requests.occurrences(marker) == 1 for marker in order)


async def test_it_ends_with_the_users_codex_and_says_so(desk: Desk) -> None:
    async with desk.codex() as person:
        await desk.adopt()
        await desk.fleet.order("mine", "pause")
        number = (await desk.fleet.send("mine", "TOO-LATE"))["message_id"]
        person.close()
        desk.server.terminate()
        await desk.server.wait()
        await desk.fleet.wait_event("mine", "session.ended")
        receipts = await desk.fleet.final(number)
        assert receipts[-1]["status"] == "failed"
        (info,) = await desk.fleet.sessions(ended=True)
        assert "the codex that the user had started has ended" in info["reason"]
        code, said = await desk.refused()
        assert code == 3 and "no codex listens" in said and "--listen unix://" in said


async def test_of_several_one_has_to_be_named(desk: Desk) -> None:
    code, said = await desk.refused()
    assert code == 3 and "no conversation is open" in said
    async with desk.codex() as one, desk.codex() as two:
        two.types("the second one")
        await two.sees("the second one")
        two.types("\r")
        await desk.model.requests.wait("the second one")
        await two.sees("• ok")
        code, said = await desk.refused()
        lines = said.splitlines()
        assert code == 3 and "choose by --thread" in lines[-1]
        (thread,) = [line.split()[0] for line in lines[:-1] if "nothing said" not in line]
        joined = await desk.adopt("--thread", thread[:-4])
        assert joined["conversation"] == thread
        await desk.delivered("ONLY-2")
        await two.sees("ONLY-2")
        assert "ONLY-2" not in one.shown
        code, said = await desk.refused("--thread", "nothing")
        assert code == 3 and "no conversation nothing" in said
