"""kill -9 of the agent with a message in flight and others waiting."""

from __future__ import annotations

import os
import random
import secrets
import signal
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.processes import alive

from .fleets import RealSession, Word, identity, numbered, real_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from relay_runtime.contract import Json
    from relay_runtime.processes import Process
    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.fleet import Answer

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

RESTART: dict[str, Json] = {
    "policy": "on-failure",
    "max_restarts": 20,
    "backoff": {"initial_s": 0.05, "max_s": 0.2},
}
KILLS = 5


@pytest.mark.parametrize("moment", ["in a tool call", "in an answer"])
async def test_a_killed_agent_goes_on_in_the_same_conversation_with_every_message_once(
    newest_cli: Cli, tmp_path: Path, moment: str
) -> None:
    waiting = numbered("WAIT", 5)
    async with real_session(newest_cli, tmp_path, restart=RESTART) as session:
        await session.fleet.final(await session.send("before FIRST-1"))
        before, old = await session.idle(), await session.agent()
        tools: list[Process] = []
        if moment == "in a tool call":
            word = Word(tmp_path / "word")
            session.model.script({"shell": f"echo $$ > {word.path}; sleep 60"})
            flying = await session.send("in flight FLYING-1")
            tools.append(identity(int((await word.lines())[0])))
        else:
            session.model.script({"chunks": ["now ", "here "], "hang": "start"})
            flying = await session.send("in flight FLYING-1")
            await session.model.requests.wait("FLYING-1")
        numbers = [await session.send(f"waits {marker}") for marker in waiting]
        os.kill(old.pid, signal.SIGKILL)
        every = [await session.fleet.final(number) for number in [flying, *numbers]]
        after = await session.idle()
        assert after["conversation"] == before["conversation"]
        assert (after["restarts"], after["queued"]) == (1, 0)
        assert await session.agent() != old and alive([old, *tools]) == []
        (exited,) = await session.events("session.exited")
        assert exited["data"]["signal"] == signal.SIGKILL
        check_once_or_failed(session, ["FLYING-1", *waiting], every)
        assert all(receipts[-1]["status"] == "delivered" for receipts in every), every
        session.check_in_context(["FIRST-1", "FLYING-1", *waiting])


@pytest.mark.timeout(180)
async def test_kills_at_any_moment_of_a_message_lose_and_repeat_nothing(
    any_cli: Cli, tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)
    markers = numbered("MARK", KILLS * 6)
    script = 'SCRIPT:[{"shell":"sleep 0.1"},{"chunks":["o","k"],"chunk_delay":0.05}]:END'
    async with real_session(any_cli, tmp_path, restart=RESTART) as session:
        numbers: list[int] = []
        for kill in range(KILLS):
            victim = await session.agent()
            for marker in markers[kill * 6 : (kill + 1) * 6]:
                numbers.append(await session.send(f"{marker} {script}"))
            await anyio.sleep(chance.uniform(0, 0.4))
            cursor = (await session.fleet.events(session.name))[-1]["cursor"]
            os.kill(victim.pid, signal.SIGKILL)
            await session.fleet.wait_event(session.name, "session.ready", cursor)
        every = [await session.fleet.final(number) for number in numbers]
        info = await session.idle()
        # A claude in its terminal that is killed before it wrote down the first message has no
        # conversation that could go on.
        begun_anew = info["conversation"] if any_cli.mode == "pty" else None
        check_once_or_failed(session, markers, every, begun_anew)
        assert (info["restarts"], info["queued"]) == (KILLS, 0)


def check_once_or_failed(
    session: RealSession,
    markers: Sequence[str],
    every: Sequence[Sequence[Answer]],
    conversation: str | None = None,
) -> None:
    """What was delivered stands in the conversation once and in order; what failed, never."""
    delivered: list[str] = []
    for marker, receipts in zip(markers, every, strict=True):
        last = receipts[-1]
        if last["status"] == "delivered":
            session.check_delivered(receipts)
            delivered.append(marker)
        else:
            assert last["reason"], receipts
            assert session.model.requests.occurrences(marker) == 0, (marker, receipts)
    session.check_in_context(delivered, conversation)
