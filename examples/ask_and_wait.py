"""Send a message from any Python program and wait until its receipt is final.

    python examples/ask_and_wait.py backend "please check the migration"

Talks to the relay at AGENT_RELAY_URL, or http://127.0.0.1:4850.
"""

from __future__ import annotations

import os
import sys

import anyio

from relay_client.client import RelayClient
from relay_client.errors import RelayError
from relay_client.types import DeliveryStatus, NewMessage


async def main(to: str, body: str) -> int:
    url = os.environ.get("AGENT_RELAY_URL", "http://127.0.0.1:4850")
    async with RelayClient(url, os.environ.get("AGENT_RELAY_TOKEN")) as relay:
        sent = await relay.send(NewMessage(sender="example", to=to, body=body))
        while True:  # each call waits up to 20 s on the relay's side
            found = await relay.receipts(sent.message_id, until="delivered", wait_s=20)
            for delivery in found.deliveries:
                print(delivery.agent_id, delivery.status, delivery.reason or "")
            final = (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED)
            if all(delivery.status in final for delivery in found.deliveries):
                return int(any(d.status is DeliveryStatus.FAILED for d in found.deliveries))


if __name__ == "__main__":
    try:
        sys.exit(anyio.run(main, sys.argv[1], sys.argv[2]))
    except RelayError as error:
        sys.exit(f"the relay: {error}")
