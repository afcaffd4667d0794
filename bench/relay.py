"""Durable messages a second: in process and over HTTP, beside raw SQLite doing the same writes.

    python bench/relay.py [ROUNDS]

The anchor writes the same rows into the same schema with the same pragmas, 64 messages a commit,
each commit synced: what the disk and SQLite allow. All three take turns in the same run; medians.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio

from relay_client import RelayClient
from relay_client.types import AgentRegistration, NewMessage
from relay_server import sql
from relay_server.database import connect
from relay_server.server import open_relay
from relay_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


ROUNDS = 7
WAITERS = 64
MESSAGES = WAITERS * 150  #: of one round and kind
BODY = "x" * 400
AGENT = AgentRegistration(id="a", name="a", session_id="s")
IN_PROCESS, OVER_HTTP = 0.6, 0.25  #: of the anchor, at least


def raw(folder: Path) -> float:
    conn = connect(folder / "raw.db", sql.MIGRATIONS)
    try:
        conn.execute("PRAGMA foreign_keys = OFF")  # the agent is a row of another table
        begin = time.perf_counter()
        for first in range(1, MESSAGES + 1, WAITERS):
            now, numbers = time.time(), range(first, first + WAITERS)
            head, tail = ("bench", "a", BODY, None, "queue", "0" * 16, now), (None, None, None)
            conn.execute("BEGIN IMMEDIATE")
            conn.executemany(_one(sql.ADD_MESSAGES), [(n, *head, *tail) for n in numbers])
            conn.executemany(_one(sql.ADD_DELIVERIES), [(n, 0, "a", "s", None) for n in numbers])
            events = [("message.new", now, None, n, None) for n in numbers]
            conn.executemany(_one(sql.ADD_EVENTS), events)
            conn.execute("COMMIT")
        return MESSAGES / (time.perf_counter() - begin)
    finally:
        conn.close()


def _one(insert: sql.Insert) -> str:
    """The statement for one row."""
    return dict(insert.statements)[1]


async def in_process(folder: Path) -> float:
    settings = Settings(db_path=folder / "store.db", port=0)
    async with open_relay(settings) as relay:
        await relay.store.register(AGENT)
        new = NewMessage.model_validate({"from": "bench", "to": "a", "body": BODY})

        async def one() -> None:
            await relay.store.send(new)

        return await rate([one] * WAITERS)


async def over_http(folder: Path) -> float:
    async with served(folder) as (host, port):
        clients = [_Client() for _ in range(WAITERS)]
        loop = asyncio.get_running_loop()
        for client in clients:
            await loop.create_connection(lambda client=client: client, host, port)  # type: ignore[misc]
        try:
            return await rate([client.send for client in clients])
        finally:
            for client in clients:
                client.close()


async def rate(senders: list[Callable[[], Awaitable[None]]]) -> float:
    """Messages a second, with every sender waiting for its own answer."""

    async def repeat(send: Callable[[], Awaitable[None]]) -> None:
        for _ in range(MESSAGES // WAITERS):
            await send()

    begin = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for send in senders:
            tasks.start_soon(repeat, send)
    return MESSAGES / (time.perf_counter() - begin)


class _Client(asyncio.Protocol):
    """As little as a client can do, so that the server is what is measured."""

    def __init__(self) -> None:
        body = f'{{"from":"bench","to":"a","body":"{BODY}"}}'
        self._request = (
            "POST /api/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self._answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # a short answer is one segment on loopback
        assert self._answered is not None
        self._answered.set_result(data)

    async def send(self) -> None:
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        answer = await self._answered
        assert answer.startswith(b"HTTP/1.1 201"), answer

    def close(self) -> None:
        self._transport.close()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """`relay-runtime relay` with an agent registered."""
    command = [sys.executable, "-c", "from relay_runtime.cli import main; main()"]
    command += ["relay", "--json", "--port", "0", "--db", str(folder / "http.db")]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        url = json.loads(await process.stdout.receive())["url"]
        async with RelayClient(url) as client:
            await client.register(AGENT)
        host, _, port = url.removeprefix("http://").rpartition(":")
        yield host, int(port)
        process.terminate()


async def main(rounds: int) -> int:
    found: dict[str, list[float]] = {"raw": [], "in process": [], "http": []}
    for number in range(rounds + 1):  # the first one warms up
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            told = {
                "raw": raw(folder),
                "in process": await in_process(folder),
                "http": await over_http(folder),
            }
        for kind, value in told.items() if number else ():
            found[kind].append(value)
    median = {kind: statistics.median(values) for kind, values in found.items()}
    anchor = median["raw"]
    print(f"{WAITERS} senders that wait for the disk, {len(BODY)} bytes each; medians of {rounds}")
    print(f"{'raw SQLite, 64 messages a commit':36}{anchor:9.0f}/s   1.00")
    late = False
    for kind, title, limit in (
        ("in process", "relay in process", IN_PROCESS),
        ("http", "relay over HTTP", OVER_HTTP),
    ):
        ratio = median[kind] / anchor
        late |= ratio < limit
        word = "ok" if ratio >= limit else "UNDER"
        print(f"{title:36}{median[kind]:9.0f}/s {ratio:6.2f}   (at least {limit})  {word}")
    return int(late)


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    sys.exit(anyio.run(main, rounds, backend_options={"use_uvloop": True}))
