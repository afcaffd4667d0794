"""kill -9 of the supervisor, at any moment, under a stream of messages."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from relay_runtime.processes import alive

from .fleets import RealSession, identity, numbered, real_session

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.fleet import Fleet

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

KILLS = 20
#: Sent around each kill; a hundred in all.
BURST = 5
#: A kill comes this long after the first message of its burst: before it is sent, while it is
#: written, in its turn, after it.
LATEST_KILL_S = 0.6
#: Turns with a tool call and a slow answer, so that kills hit every part of a turn.
TURN = 'SCRIPT:[{"shell":"sleep 0.1"},{"chunks":["o","k"],"chunk_delay":0.05}]:END'


@pytest.mark.timeout(240)
async def test_no_kill_of_the_supervisor_loses_or_repeats_a_message(
    any_cli: Cli, tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)
    markers = numbered("MARK", KILLS * BURST)
    async with real_session(any_cli, tmp_path) as session:
        agent, holder = await session.agent(), identity((await session.info())["holder_pid"])
        numbers: list[int] = []
        for kill in range(KILLS):
            async with anyio.create_task_group() as tasks:
                burst = markers[kill * BURST : (kill + 1) * BURST]
                tasks.start_soon(send_burst, session, burst, numbers)
                await anyio.sleep(chance.uniform(0, LATEST_KILL_S))
                session.fleet.kill()
                await session.fleet.up()
        every = [await session.fleet.final(number) for number in numbers]
        await session.idle()
        session.check_in_context(markers)
        for receipts in every:
            session.check_delivered(receipts)
        assert alive([agent, holder]) == [agent, holder]
        info = await session.info()
        assert (info["pid"], info["holder_pid"]) == (agent.pid, holder.pid)
        assert (info["restarts"], info["queued"]) == (0, 0)
        await check_events(session)


async def send_burst(session: RealSession, markers: list[str], numbers: list[int]) -> None:
    for marker in markers:
        numbers.append(await send_until_taken(session.fleet, session.name, marker))


async def send_until_taken(fleet: Fleet, name: str, marker: str) -> int:
    """As a careful sender does: the same key again until somebody answers."""
    while True:
        try:
            sent = await fleet.send(name, f"{marker} {TURN}", idempotency_key=marker)
        except httpx.TransportError:
            await fleet.serving()
        else:
            number: int = sent["message_id"]
            return number


async def check_events(session: RealSession) -> None:
    """No event is lost or told twice: each turn, tool call and answer stands there once."""
    events = await session.fleet.events(session.name)
    cursors = [event["cursor"] for event in events]
    assert cursors == sorted(set(cursors))
    kinds = Counter(event["type"] for event in events)
    assert kinds["turn.started"] == kinds["turn.ended"] >= kinds["write.proven"], kinds
    for kind, key in [("turn.started", "turn_id"), ("turn.ended", "turn_id")]:
        ids = [event["data"][key] for event in events if event["type"] == kind]
        assert len(ids) == len(set(ids)), kind
    answers = [r for r in session.model.requests.main() if r.outcome == "answered"]
    assert kinds["tool.started"] == kinds["tool.ended"] == len(answers) / 2, kinds
    said = [e for e in events if e["type"] == "transcript" and e["data"]["role"] == "assistant"]
    assert len(said) == len(answers) / 2, kinds
    assert kinds["session.exited"] == 0 and kinds["session.ready"] == 1, kinds
