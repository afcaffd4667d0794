"""A relay for a test, in process or on TCP, and the few things that every such test says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import httpx

from relay_client import RelayClient
from relay_client.types import AgentRegistration, Evidence, NewMessage, NewReceipt, ReceiptStatus
from relay_server.server import open_relay
from relay_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from relay_client.types import DeliveryBatch
    from relay_server.server import Relay

# No test waits longer than this for a fact. A busy machine needs tenths of a second.
PATIENCE_S = 20.0
LOCAL = "http://127.0.0.1"


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def relay_in(folder: Path, **changes: object) -> AsyncIterator[Relay]:
    settings = Settings(**({"db_path": folder / "relay.db", "port": 0} | changes))  # type: ignore[arg-type]
    async with open_relay(settings) as relay:
        yield relay


@asynccontextmanager
async def served_in(folder: Path, **changes: object) -> AsyncIterator[tuple[Relay, str]]:
    """The relay and its URL."""
    async with relay_in(folder, **changes) as relay, anyio.create_task_group() as tasks:
        url = await tasks.start(relay.serve)
        yield relay, url
        tasks.cancel_scope.cancel()


def http(relay: Relay) -> httpx.AsyncClient:
    """Plain HTTP to a relay in this process."""
    transport = httpx.ASGITransport(relay.app)
    return httpx.AsyncClient(transport=transport, base_url=f"{LOCAL}/api")


def client(relay: Relay) -> RelayClient:
    """The client to a relay in this process."""
    return RelayClient(LOCAL, relay.settings.token, relay.app)


def agent(agent_id: str, **fields: object) -> AgentRegistration:
    return AgentRegistration.model_validate({"id": agent_id, "name": agent_id} | fields)


def message(to: str, body: str = "text", sender: str = "tester", **fields: object) -> NewMessage:
    return NewMessage.model_validate({"from": sender, "to": to, "body": body} | fields)


def receipt(delivery_id: str, status: str, number: int = 0, **fields: object) -> NewReceipt:
    """A complete report: with a reason or evidence where one belongs."""
    told: dict[str, object] = {
        "receipt_id": f"{delivery_id}/{status}/{number}",
        "delivery_id": delivery_id,
        "status": status,
        "at": 1.0,
    }
    if status == ReceiptStatus.DELIVERED:
        told["evidence"] = Evidence(kind="test", reference="1")
    elif status != ReceiptStatus.ACCEPTED:
        told["reason"] = "because"
    return NewReceipt.model_validate(told | fields)


def bodies(batch: DeliveryBatch) -> list[str]:
    return [delivery.message.body for delivery in batch.deliveries]
