"""What comes from the relay reaches the sessions, whatever happens to the relay meanwhile."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.supervisor.journal import MIGRATIONS, Journal
from relay_runtime.supervisor.relay_link import RelayLink
from relay_server.writer import Writer

from .relays import PATIENCE_S, agent, client, message, relay_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from relay_client.types import Delivery
    from relay_server.server import Relay

pytestmark = pytest.mark.anyio


@dataclass
class Mailbox:
    """A session's end of the link: keeps what it is offered, each delivery once."""

    bodies: dict[str, str] = field(default_factory=dict)
    changed: anyio.Event = field(default_factory=anyio.Event)

    async def offer(self, delivery: Delivery) -> None:
        self.bodies.setdefault(delivery.delivery_id, delivery.message.body)
        self.changed.set()
        self.changed = anyio.Event()

    async def holds(self, *wanted: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            while list(self.bodies.values())[-len(wanted) :] != list(wanted):
                await self.changed.wait()


@asynccontextmanager
async def linked(relay: Relay, journal: Journal, mailbox: Mailbox) -> AsyncIterator[None]:
    """The link of a runtime with one agent, `a`."""
    async with client(relay) as relay_client, anyio.create_task_group() as tasks:
        link = RelayLink(relay_client, journal, "rt", "embedded", {"a": mailbox}.get)
        await link.register(agent("a", runtime_id="rt"))
        tasks.start_soon(link.run)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def journal_in(folder: Path) -> AsyncIterator[Journal]:
    path = folder / "journal.db"
    journal = Journal(await Writer.open(path, MIGRATIONS), path)
    try:
        yield journal
    finally:
        await journal.aclose()


@pytest.mark.parametrize("sent_before", [1, 5], ids=["fewer than before", "more than before"])
async def test_a_relay_that_started_over_is_taken_from_its_beginning(
    tmp_path: Path, sent_before: int
) -> None:
    mailbox = Mailbox()
    async with journal_in(tmp_path) as journal:
        async with relay_in(tmp_path / "old") as relay, linked(relay, journal, mailbox):
            for body in ("one", "two", "three"):
                await relay.store.send(message("a", body))
            await mailbox.holds("one", "two", "three")
        async with relay_in(tmp_path / "new") as relay:
            await relay.store.register(agent("a", runtime_id="rt"))
            bodies = [f"new {number}" for number in range(sent_before)]
            for body in bodies:
                await relay.store.send(message("a", body))
            async with linked(relay, journal, mailbox):
                await mailbox.holds("three", *bodies)


async def test_the_next_runtime_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    mailbox = Mailbox()
    async with journal_in(tmp_path) as journal, relay_in(tmp_path) as relay:
        async with linked(relay, journal, mailbox):
            await relay.store.send(message("a", "one"))
            await mailbox.holds("one")
        await relay.store.send(message("a", "two"))
        async with linked(relay, journal, mailbox):
            await mailbox.holds("one", "two")
