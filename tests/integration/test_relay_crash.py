"""kill -9 of the process that writes, under load: what was acknowledged is there, once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relay_server.hub import Hub
from relay_server.store import open_store

from .relays import message

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

ROUNDS = 6
#: Acknowledgements to wait for before the kill: each round dies at another point of its work.
ACKNOWLEDGED = (1, 50, 200, 400, 777, 1500)


def killed_after(path: Path, first: int, wanted: int) -> set[int]:
    """Run the victim, kill it after `wanted` acknowledgements, and return all that it had said."""
    program = [sys.executable, str(Path(__file__).with_name("relay_victim.py")), str(path)]
    with subprocess.Popen([*program, str(first)], stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        said = [victim.stdout.readline() for _ in range(wanted)]
        victim.send_signal(signal.SIGKILL)
        said += victim.stdout.readlines()
    assert victim.returncode == -signal.SIGKILL
    return {int(line) for line in said if line.endswith(b"\n")}


def column(path: Path, query: str) -> Iterator[object]:
    conn = sqlite3.connect(path)
    try:
        yield from (value for (value,) in conn.execute(query).fetchall())
    finally:
        conn.close()


async def test_every_acknowledged_message_survives_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    acknowledged: set[int] = set()
    for number in range(ROUNDS):
        acknowledged |= killed_after(path, number * 1_000_000, ACKNOWLEDGED[number])
        assert list(column(path, "PRAGMA integrity_check")) == ["ok"]
        assert list(column(path, "PRAGMA foreign_key_check")) == []
        found = list(column(path, "SELECT body FROM messages"))
        assert len(found) == len(set(found))
        assert {f"k{number}" for number in acknowledged} <= set(found)
        # A message that was not acknowledged may be there, but only whole.
        counts = (
            "SELECT (SELECT count(*) FROM deliveries WHERE message_id = messages.id) FROM messages"
        )
        assert set(column(path, counts)) == {2}
        events = column(path, "SELECT message_id FROM events WHERE type = 'message.new'")
        assert sorted(events, key=str) == sorted(column(path, "SELECT id FROM messages"), key=str)

    async with open_store(path, Hub(), stale_ttl_s=120) as store:
        # The sender that never heard back asks again with its key: no message is made twice.
        before = store.cursor()
        for name in sorted(acknowledged)[-20:]:
            new = message("broadcast", f"k{name}", sender="victim", idempotency_key=f"k{name}")
            assert (await store.send(new)).earlier is not None
        assert store.cursor() == before
