"""Follow every receipt of a relay, over its restarts, without missing or repeating one.

python examples/watch_deliveries.py [COUNT]
"""

from __future__ import annotations

import os
import sys

import anyio

from relay_client.client import RelayClient


async def main(count: int) -> None:
    url = os.environ.get("AGENT_RELAY_URL", "http://127.0.0.1:4850")
    async with (
        RelayClient(url, os.environ.get("AGENT_RELAY_TOKEN")) as relay,
        relay.events(after=0) as events,
    ):
        async for event in events:
            if event.type == "delivery.receipt":
                print(event.seq, event.message_id, event.data.get("status"), flush=True)
                count -= 1
                if count == 0:
                    return


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else -1)
