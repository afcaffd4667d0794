"""After `release` and `down --all` no process of a session is left, whatever its tools started."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from relay_runtime.processes import Process, alive, descendants_of, marked

from .fleets import RealSession, Word, fleet_of, identity, real_session, spawned

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.contract import Json
    from relay_runtime.testing.clis import Cli

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

#: A tool call runs for minutes; nobody wants to wait for it to be drained.
STOP: dict[str, Json] = {"drain_s": 0.5, "interrupt_s": 0.5, "term_s": 0.5}
#: Started by a tool call: in the background, in a session of its own, that and without the
#: environment by which we know our processes, that and with nobody who is its parent. The last one
#: keeps the tool call waiting.
STRAYS = (
    "{} &",
    "setsid {} &",
    "env -i setsid {} &",
    "(env -i setsid {} &)",
    "{}",
)


def start_strays(word: Word) -> str:
    """A shell command that starts every stray; each says which one it is, and its pid."""
    stray = "sh -c 'echo {} $$ > {}; exec sleep 300' >/dev/null 2>&1 </dev/null"
    return "\n".join(s.format(stray.format(n, word.path)) for n, s in enumerate(STRAYS))


@pytest.mark.parametrize("turn", ["over", "running"])
async def test_a_released_session_leaves_no_process(
    newest_cli: Cli, tmp_path: Path, turn: str
) -> None:
    word = Word(tmp_path / "word")
    async with real_session(newest_cli, tmp_path, stop=STOP) as session:
        session.model.script({"shell": start_strays(word)})
        first = await session.send("leave something behind")
        strays = await started(word)
        everything = await processes_of(session, strays)
        if turn == "over":
            os.kill(strays[-1].pid, signal.SIGKILL)
            await session.idle()
            assert alive(strays[1:-1]) == strays[1:-1], "those that called setsid live on"
        waits = await session.send("for later") if turn == "running" else None
        info = await session.fleet.order(session.name, "release")
        assert (info["state"], info["pid"]) == ("exited", None)
        assert alive(everything) == []
        assert marked(info["session_id"]) == []
        assert (await session.fleet.final(first))[-1]["status"] == "delivered"
        if waits is not None:
            last = (await session.fleet.final(waits))[-1]
            assert (last["status"], last["reason"]) == ("failed", "the session was released")


async def test_down_all_leaves_no_process_of_any_session(
    newest_clis: list[Cli], tmp_path: Path
) -> None:
    async with fleet_of(tmp_path) as fleet, AsyncExitStack() as stack:
        everything: list[Process] = []
        for cli in newest_clis:
            home = tmp_path / cli.name
            session = await stack.enter_async_context(spawned(fleet, cli, home, stop=STOP))
            word = Word(home / "word")
            session.model.script({"shell": start_strays(word)})
            await session.send("leave something behind")
            everything += await processes_of(session, await started(word))
        said = await fleet.command("down", "--all")
        assert said.returncode == 0, said.stderr
        await fleet.gone()
        assert alive(everything) == []


async def started(word: Word) -> list[Process]:
    """The strays, in the order of `STRAYS`."""
    said = sorted(line.split() for line in await word.lines(len(STRAYS)))
    return [identity(int(pid)) for _, pid in said]


async def processes_of(session: RealSession, strays: list[Process]) -> list[Process]:
    """Holder, agent, what is below them, what carries the session's mark, and the strays."""
    info = await session.info()
    holder = identity(info["holder_pid"])
    known = {holder, *descendants_of(holder.pid), *marked(info["session_id"]), *strays}
    assert await session.agent() in known
    return list(known)
