"""A process that sends as fast as it can and says what was acknowledged, until it is killed.

python relay_victim.py DATABASE FIRST
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from relay_client.types import AgentRegistration, NewMessage
from relay_server.hub import Hub
from relay_server.store import open_store

SENDERS = 48


async def main(path: Path, first: int) -> None:
    async with open_store(path, Hub(), stale_ttl_s=120) as store:
        await store.register(AgentRegistration(id="a", name="a", runtime_id="rt"))
        await store.register(AgentRegistration(id="b", name="b", runtime_id="rt"))

        async def send(offset: int) -> None:
            number = first + offset
            while True:
                key = f"k{number}"
                new = NewMessage(sender="victim", to="broadcast", body=key, idempotency_key=key)
                await store.send(new)
                os.write(1, f"{number}\n".encode())
                number += SENDERS

        async with anyio.create_task_group() as tasks:
            for offset in range(SENDERS):
                tasks.start_soon(send, offset)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
