"""The supervisor over its whole life, with the scripted agent in a real terminal."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import Stream
from relay_runtime.holder_link import connect
from relay_runtime.testing.fleet import Answer, Fleet, FleetError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from relay_runtime.contract import Json

pytestmark = pytest.mark.anyio

ENVIRON = {
    "PATH": os.environ["PATH"],
    "TERM": "xterm-256color",
    "LANG": "C.UTF-8",
    "SECRET": "s3cr3t",
}
AT_ONCE: Json = {"policy": "on-failure", "backoff": {"initial_s": 0.05, "max_s": 0.1}}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Fleet]:
    async with Fleet(folder) as fleet:
        await fleet.up()
        yield fleet


async def agent(fleet: Fleet, *flags: str, **request: Json) -> Answer:
    log = fleet.home.parent / "taken.jsonl"
    argv = [sys.executable, "-m", "relay_runtime.testing.scripted_agent", "--log", str(log), *flags]
    body: dict[str, Json] = {
        "argv": argv,
        "environ": ENVIRON,
        "options": {"prompt": "agent> $"},
        "restart": AT_ONCE,
        **request,
    }
    return await fleet.spawn("command", **body)


def taken(fleet: Fleet) -> list[int]:
    """Ids of the messages the agent took in, in order, by its own log."""
    log = fleet.home.parent / "taken.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [number for line in lines for number in json.loads(line)["messages"]]


def statuses(receipts: list[Answer]) -> list[str]:
    return [receipt["status"] for receipt in receipts]


async def test_an_agent_that_crashes_is_started_again_and_gets_what_waits(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        first = await agent(fleet)
        busy = await fleet.send(first["name"], "work=30s")
        await fleet.final(busy["message_id"])
        waiting = [(await fleet.send(first["name"], f"m{n}"))["message_id"] for n in range(5)]
        os.kill(first["pid"], signal.SIGKILL)
        for number in waiting:
            assert statuses(await fleet.final(number))[-1] == "delivered"
        assert taken(fleet) == [busy["message_id"], *waiting]
        after = await fleet.session(first["name"])
        assert after["pid"] != first["pid"]
        assert after["restarts"] == 1
        assert after["holder_pid"] == first["holder_pid"]


async def test_a_crash_loop_stops_and_fails_what_waits_with_the_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        policy: Json = {"policy": "on-failure", "max_restarts": 2, "backoff": {"initial_s": 0}}
        one = await agent(fleet, "--crash-on", "BOOM", restart=policy)
        for _ in range(3):
            sent = await fleet.send(one["name"], "BOOM")
            await fleet.final(sent["message_id"])
        ended = await fleet.wait_event(one["session_id"], "session.ended")
        assert "crash loop: 2 restarts in 600 s" in ended["data"]["reason"]
        [info] = await fleet.sessions(ended=True)
        assert info["state"] == "exited"
        assert info["restarts"] == 2


async def test_a_program_that_does_not_exist_is_said_so_and_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        with pytest.raises(FleetError, match="no-such-program") as refused:
            await fleet.spawn("command", argv=["no-such-program"], environ=ENVIRON)
        assert refused.value.code == "start_failed"
        assert await fleet.sessions() == []


async def test_a_released_session_fails_what_waits_and_leaves_no_process(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        one = await agent(fleet)
        busy = await fleet.send(one["name"], "work=30s")
        await fleet.final(busy["message_id"])
        waiting = await fleet.send(one["name"], "never")
        info = await fleet.order(one["name"], "release", force=True, reason="enough for today")
        assert info["state"] == "exited"
        last = (await fleet.final(waiting["message_id"]))[-1]
        assert (last["status"], last["reason"]) == ("failed", "enough for today")
        assert fleet.processes() == []
        with pytest.raises(FleetError) as gone:
            await fleet.send(one["name"], "hello?")
        assert gone.value.status == 404


async def test_a_killed_holder_costs_the_run_but_not_the_session(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        one = await agent(fleet)
        fleet.kill()
        await fleet.up()  # what the next line kills had the only copy of the environment
        await fleet.wait_state(one["name"], "idle")
        os.kill(one["holder_pid"], signal.SIGKILL)
        await fleet.wait_event(one["name"], "session.exited")
        sent = await fleet.send(one["name"], "still there?")
        assert statuses(await fleet.final(sent["message_id"]))[-1] == "delivered"
        after = await fleet.session(one["name"])
        assert after["holder_pid"] != one["holder_pid"]


async def test_a_paused_session_takes_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        one = await agent(fleet)
        assert (await fleet.order(one["name"], "pause"))["state"] == "held"
        sent = await fleet.send(one["name"], "later")
        await fleet.wait_event(one["name"], "receipt", status="deferred", reason="held")
        fleet.kill()
        await fleet.up()
        assert (await fleet.session(one["name"]))["state"] == "held"
        assert taken(fleet) == []
        await fleet.order(one["name"], "resume")
        assert statuses(await fleet.final(sent["message_id"])) == [
            "accepted",
            "deferred",
            "delivered",
        ]


async def test_sessions_outlive_a_supervisor_that_is_told_to_go(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        one = await agent(fleet)
        await fleet.down()
        await fleet.up()
        again = await fleet.session(one["name"])
        assert again["pid"] == one["pid"]
        sent = await fleet.send(one["name"], "good morning")
        assert statuses(await fleet.final(sent["message_id"]))[-1] == "delivered"


async def test_what_happens_while_no_supervisor_runs_is_not_missed(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        one = await agent(fleet)
        sent = await fleet.send(one["name"], "work=0.3s")
        await fleet.final(sent["message_id"])
        fleet.kill()
        await prompted_again(str(fleet.home / "sessions" / one["session_id"]))
        await fleet.up()
        await fleet.wait_state(one["name"], "idle")
        kinds = [event["type"] for event in await fleet.events(one["name"])]
        assert kinds.count("turn.started") == 1
        assert kinds.count("turn.ended") == 1


async def prompted_again(folder: str) -> None:
    """Watch the holder until the agent has said that it is done and prompts."""
    said = b""
    with anyio.fail_after(30):
        async with connect(folder) as holder:
            async for chunk in holder.read(Stream.OUT, 0):
                said += chunk.data
                if b"agent> " in said.partition(b"done.")[2]:
                    return


async def test_a_supervisor_can_use_the_relay_of_another(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as near:
        url = (await near.status())["relay_url"]
        async with Fleet(tmp_path / "b", {"AGENT_RELAY_URL": url}) as far:
            await far.up()
            assert not (await far.status())["relay_embedded"]
            one = await agent(far, name="distant")
            sent = await near.send("distant", "hello over there")
            assert statuses(await near.final(sent["message_id"]))[-1] == "delivered"
            far.kill()
            again = await near.send("distant", "and again")
            await far.up()
            assert statuses(await near.final(again["message_id"]))[-1] == "delivered"
            assert taken(far) == [sent["message_id"], again["message_id"]]
            assert one["name"] == "distant"


async def test_the_environment_of_a_session_is_nowhere_on_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        await agent(fleet)
        files = [path for path in fleet.home.rglob("*") if path.is_file()]
        assert files
        assert [path for path in files if b"s3cr3t" in path.read_bytes()] == []


async def test_a_task_is_given_once_however_often_things_die(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        one = await agent(fleet, task="work=0.1s begin")
        await fleet.wait_event(one["name"], "receipt", status="delivered")
        fleet.kill()
        await fleet.up()
        os.kill(one["pid"], signal.SIGKILL)
        sent = await fleet.send(one["name"], "more")
        await fleet.final(sent["message_id"])
        text = (tmp_path / "taken.jsonl").read_text()
        assert text.count("begin") == 1
