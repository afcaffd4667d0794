"""The examples do what they say, run as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from relay_profiles.lookup import check
from relay_runtime.testing.fleet import Fleet

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run(example: str, *arguments: str, url: str) -> str:
    environ = {"PATH": os.environ["PATH"], "AGENT_RELAY_URL": url}
    done = await anyio.run_process(
        [sys.executable, str(EXAMPLES / example), *arguments], env=environ, stderr=subprocess.STDOUT
    )
    return done.stdout.decode()


async def test_a_message_sent_from_a_program_is_waited_for_and_its_receipts_can_be_followed(
    tmp_path: Path,
) -> None:
    async with Fleet(tmp_path) as fleet:
        await fleet.up()
        agent = [sys.executable, "-P", "-m", "relay_runtime.testing.scripted_agent"]
        environ = {"PATH": os.environ["PATH"], "TERM": "xterm-256color"}
        one = await fleet.spawn(
            "command", argv=agent, environ=environ, options={"prompt": "agent> $"}
        )
        url = (await fleet.status())["relay_url"]
        said = await run("ask_and_wait.py", one["name"], "hello", url=url)
        assert said.split() == [one["agent_id"], "delivered"]
        watched = await run("watch_deliveries.py", "2", url=url)
        assert [line.split()[2] for line in watched.splitlines()] == ["accepted", "delivered"]


def test_the_example_profiles_are_valid() -> None:
    assert check(EXAMPLES / "profiles.json") == []
