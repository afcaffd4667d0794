"""The supervisor's side of the relay: register agents, take deliveries, report receipts.

The relay may be in this process or far away; there is one way to talk to it. Deliveries come with a
cursor, which is committed after every delivery of a batch is in the journal: a crash between the
two has them offered again, and the journal knows them. Receipts leave the journal's outbox in
order and carry an id, so that a report repeated after a crash changes nothing.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import anyio

from relay_client.errors import Rejected, RelayError, Retryable
from relay_client.types import (
    AgentRegistration,
    AgentStatus,
    Delivery,
    Evidence,
    NewReceipt,
    ReceiptStatus,
)

from ..turn_types import SessionState
from .journal import Journal, ReceiptRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay_client.client import RelayClient

_log = logging.getLogger(__name__)

#: A long poll is answered at once when there is work; this only bounds a dead connection.
POLL_S = 25.0
#: Receipts in one report, deliveries in one poll.
BATCH = 200
#: The relay calls an agent offline after 120 s without a sign of life (STALE_TTL_MS).
HEARTBEAT_S = 40.0
#: States that last less than this are not told: a quick turn needs no two writes in the relay.
STATUS_S = 0.1
#: How far we got is written down this much later, outside of the way of a message. After a crash
#: in between, both sides know what comes a second time.
PLACE_S = 0.5
#: Wait before the relay is tried again, doubled up to the second figure.
BACKOFF_S = (0.2, 5.0)

STATUS = {
    SessionState.STARTING: AgentStatus.ONLINE,
    SessionState.IDLE: AgentStatus.IDLE,
    SessionState.BUSY: AgentStatus.BUSY,
    SessionState.WAITING: AgentStatus.WAITING,
    SessionState.DRAFTING: AgentStatus.BUSY,
    SessionState.HELD: AgentStatus.HELD,
    SessionState.UNSURE: AgentStatus.BUSY,
    SessionState.EXITED: AgentStatus.OFFLINE,
}


class Recipient(Protocol):
    """What takes a delivery: a session's ledger."""

    async def offer(self, delivery: Delivery) -> None: ...


class RelayLink:
    """See the module.

    `source` names the relay whose cursor is kept; `recipient(agent id)` is None for an agent that
    has no session here.
    """

    def __init__(
        self,
        client: RelayClient,
        journal: Journal,
        runtime_id: str,
        source: str,
        recipient: Callable[[str], Recipient | None],
    ) -> None:
        self.client = client
        self._journal = journal
        self._runtime_id = runtime_id
        self._cursor_key = f"relay_cursor {source}"
        cursor, _, self._relay_id = (journal.fact(self._cursor_key) or "0").partition(" ")
        self._cursor = int(cursor)  # deliveries up to here were offered
        self._reported = 0  # receipts up to here have reached the relay
        self._moved = anyio.Event()
        self._recipient = recipient
        self._agents: dict[str, AgentRegistration] = {}
        self._status: dict[str, AgentStatus] = {}
        self._receipts = anyio.Event()
        self._news = anyio.Event()
        self._same_relay = False

    # From the sessions.

    async def check(self) -> None:
        """Raises `RelayError` when the relay would refuse this runtime; one that is away does not."""
        with suppress(Retryable):
            await self.client.cursor()

    async def register(self, agent: AgentRegistration) -> None:
        """Make an agent known. If the relay does not take it now, it is done when it does."""
        self._agents[agent.id] = agent
        try:
            await self.client.register(agent)
        except RelayError as error:
            _log.warning("%s is not registered yet: %s", agent.name, error)
        self._news.set()

    async def unregister(self, agent_id: str) -> None:
        """Take an agent off the relay: nobody can be reached under its name any more."""
        self._agents.pop(agent_id, None)
        self._status.pop(agent_id, None)
        try:
            await self.client.remove_agent(agent_id)
        except RelayError as error:
            _log.warning("could not remove %s from the relay: %s", agent_id, error)

    def status(self, agent_id: str, state: SessionState) -> None:
        """Tell the relay how an agent is doing; the newest word wins."""
        status = STATUS[state]
        if agent_id in self._agents and self._status.get(agent_id) is not status:
            self._status[agent_id] = status
            self._news.set()

    def receipts(self) -> None:
        """There are receipts in the journal."""
        self._receipts.set()

    # Its tasks.

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._insist, self._take_deliveries)
            tasks.start_soon(self._insist, self._report_receipts)
            tasks.start_soon(self._insist, self._tell_status)
            tasks.start_soon(self._insist, self._keep_place)

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Repeat `work`; when the relay is away or refuses, wait and try again."""
        first, last = BACKOFF_S
        wait = first
        while True:
            try:
                await work()
                wait = first
            except RelayError as error:
                _log.warning(
                    "relay: %s; trying again in %.1f s",
                    error,
                    wait,
                    extra={"action": "relay_retry"},
                )
                await anyio.sleep(wait)
                wait = min(wait * 2, last)

    async def _take_deliveries(self) -> None:
        # After a break nothing is waited for before it is known that this is still the same relay.
        wait_s, self._same_relay = POLL_S if self._same_relay else 0.0, False
        try:
            batch = await self.client.deliveries(
                self._runtime_id, after=self._cursor, wait_s=wait_s, limit=BATCH
            )
        except Rejected as error:
            if error.code != "unknown_cursor" or self._cursor == 0:
                raise
            self._start_over()
            return
        if self._cursor and batch.relay_id != self._relay_id:  # it has got this far once more
            self._start_over()
            return
        self._same_relay = True
        if not batch.deliveries:
            return
        of_agent: dict[str, list[Delivery]] = {}
        for delivery in batch.deliveries:
            of_agent.setdefault(delivery.agent_id, []).append(delivery)
        async with anyio.create_task_group() as tasks:  # their commits share one sync
            for agent_id, deliveries in of_agent.items():
                tasks.start_soon(self._hand_over, agent_id, deliveries)
        self._cursor, self._relay_id = batch.cursor, batch.relay_id
        self._moved.set()

    def _start_over(self) -> None:
        """The relay has an empty database, or had: it does not know our agents either."""
        _log.warning("the relay has started over", extra={"action": "relay_started_over"})
        self._cursor = 0
        self._moved.set()
        self._news.set()

    async def _hand_over(self, agent_id: str, deliveries: list[Delivery]) -> None:
        recipient = self._recipient(agent_id)
        for delivery in deliveries:
            if recipient is not None:
                await recipient.offer(delivery)
            else:
                await self._refuse(delivery.delivery_id)

    async def _refuse(self, delivery_id: str) -> None:
        reason = "its session has ended"
        now = time.time()
        row = ReceiptRow(uuid4().hex, delivery_id, "failed", reason, None, None, now)
        await self._journal.add_receipt(row)
        self._receipts.set()

    async def _report_receipts(self) -> None:
        self._receipts = anyio.Event()
        rows = self._journal.unreported(self._reported, BATCH)
        if not rows:
            await self._receipts.wait()
            return
        await self.client.report([_receipt(row) for _, row in rows])
        self._reported = rows[-1][0]
        self._moved.set()

    async def _keep_place(self) -> None:
        await self._moved.wait()
        await anyio.sleep(PLACE_S)
        self._moved = anyio.Event()
        place = f"{self._cursor} {self._relay_id}"
        await self._journal.keep_place(self._cursor_key, place, self._reported)

    async def _tell_status(self) -> None:
        await anyio.sleep(STATUS_S)
        self._news = anyio.Event()
        if self._agents:
            known = {a: self._status.get(a, AgentStatus.ONLINE) for a in self._agents}
            for agent_id in await self.client.runtime_heartbeat(self._runtime_id, known):
                if agent_id in self._agents:  # the relay was away, or has lost it
                    await self.client.register(self._agents[agent_id])
        with anyio.move_on_after(HEARTBEAT_S):
            await self._news.wait()


def _receipt(row: ReceiptRow) -> NewReceipt:
    return NewReceipt(
        receipt_id=row.receipt_id,
        delivery_id=row.delivery_id,
        status=ReceiptStatus(row.status),
        reason=row.reason,
        evidence=Evidence.model_validate_json(row.evidence) if row.evidence else None,
        next_attempt_at=row.next_attempt_at,
        at=row.at,
    )
