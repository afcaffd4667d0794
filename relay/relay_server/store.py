"""The relay's data. Every write is one durable transaction; every read is short and inline.

Writes go through the writer (`writer.py`) to the functions in `sending`, `reporting` and `presence`;
reads use a read-only connection on the event loop: they take microseconds, a thread would cost more.
All SQL is in `sql.py`.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from relay_client.types import (
    MAX_BODY_BYTES,
    Delivery,
    DeliveryBatch,
    Inbox,
    Receipts,
    Stats,
)
from relay_client.version import VERSION

from . import presence, reporting, rows, sending, sql
from .book import Book
from .database import connect_readonly
from .errors import Busy, Conflict, NotFound, TooLarge
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from relay_client.types import (
        Agent,
        AgentRegistration,
        AgentStatus,
        DeliveryState,
        Message,
        NewMessage,
        NewReceipt,
        ReceiptResult,
        RelayEvent,
    )

    from .book import Change
    from .hub import Hub
    from .sending import Sent

T = TypeVar("T")

# Bodies in one answer. With the JSON around them it stays a size that every client takes at once.
MAX_ANSWER_BYTES = 4 * 1024 * 1024

logger = logging.getLogger(__name__)


class Store:
    """Durable agents, messages, deliveries, receipts and events. Made by `open_store`."""

    def __init__(self, writer: Writer, book: Book, hub: Hub) -> None:
        self._writer = writer
        self._book = book
        self._hub = hub
        self._reader = writer.reader()
        # One object: the writer joins calls of the same function.
        self._send = partial(sending.send, book=book)

    @property
    def relay_id(self) -> str:
        """Names this database; another one never has the same."""
        return self._book.relay_id

    @property
    def busy(self) -> bool:
        """True when so much waits for the disk that new work should be refused."""
        return self._writer.full

    # Writes.

    async def send(self, new: NewMessage) -> Sent:
        """Write a message and its deliveries; wakes the runtimes that will take them.

        Raises `TooLarge` (body_too_large), `NotFound` (no_recipients, unknown_thread), `Conflict`
        (ambiguous_target, idempotency_conflict), `Unprocessable` (invalid_target), `Busy`.
        """
        # A character is at most four bytes, so most bodies need not be encoded to be measured.
        if len(new.body) * 4 > MAX_BODY_BYTES and len(new.body.encode()) > MAX_BODY_BYTES:
            raise TooLarge(
                "body_too_large",
                f"the body is {len(new.body.encode())} bytes, at most {MAX_BODY_BYTES} are taken: "
                "put it into a file and send its path",
            )
        try:
            sent, _ = await self._writer.run_together(self._send, new, self._announce)
        except sqlite3.OperationalError as exc:
            raise _storage_unavailable(exc) from exc
        return sent

    async def report(self, reports: Sequence[NewReceipt]) -> list[ReceiptResult]:
        """Judge and record each report; wakes whoever waits for receipts of these messages."""
        return await self._write(lambda conn: reporting.report(conn, self._book, reports))

    async def register(self, new: AgentRegistration) -> Agent:
        return await self._write(lambda conn: presence.register(conn, self._book, new))

    async def heartbeat(self, agent_id: str, status: AgentStatus | None) -> Agent:
        """Raises `NotFound` (unknown_agent)."""
        return await self._write(
            lambda conn: presence.heartbeat(conn, self._book, agent_id, status)
        )

    async def heartbeat_runtime(
        self, runtime_id: str, agents: Mapping[str, AgentStatus]
    ) -> list[str]:
        """Returns the agents that are not registered as the runtime's."""
        return await self._write(
            lambda conn: presence.heartbeat_runtime(conn, self._book, runtime_id, agents)
        )

    async def set_label(self, agent_id: str, label: str | None) -> Agent:
        """Raises `NotFound` (unknown_agent)."""
        return await self._write(lambda conn: presence.set_label(conn, self._book, agent_id, label))

    async def remove_agent(self, agent_id: str) -> None:
        """Raises `NotFound` (unknown_agent)."""
        await self._write(lambda conn: presence.remove(conn, self._book, agent_id))

    async def sweep(self) -> float | None:
        """Do what is due; returns when to call it again. For the deadline task."""
        return await self._write(lambda conn: presence.sweep(conn, self._book))

    async def _write(self, fn: Callable[[sqlite3.Connection], Change[T]]) -> T:
        try:
            result, _ = await self._writer.run(fn, then=self._announce)
        except sqlite3.OperationalError as exc:
            raise _storage_unavailable(exc) from exc
        return result

    def _announce(self, change: Change[object]) -> None:
        self._hub.wake(change[1])

    # Reads.

    def agents(self, **filters: str | None) -> list[Agent]:
        """Those that match every filter given: tag, capability, machine, status, label, runtime."""
        known = ("tag", "capability", "machine", "status", "label", "runtime")
        values = {name: filters.get(name) for name in known}
        return [rows.agent(row) for row in self._reader.execute(sql.FIND_AGENTS, values)]

    def agent(self, agent_id: str) -> Agent:
        """Raises `NotFound` (unknown_agent)."""
        row = self._reader.execute(sql.AGENT, (agent_id,)).fetchone()
        if row is None:
            raise presence.unknown_agent(agent_id)
        return rows.agent(row)

    def message(self, message_id: int) -> Message:
        """Raises `NotFound` (unknown_message)."""
        row = self._reader.execute(sql.MESSAGE, (message_id,)).fetchone()
        if row is None:
            raise NotFound("unknown_message", f"there is no message {message_id}")
        return rows.message(row)

    def thread(self, message_id: int, after: int, limit: int) -> list[Message]:
        """The whole thread that the message is in, oldest first, after message `after`.

        Raises `NotFound` (unknown_message). This and the next two stop at `MAX_ANSWER_BYTES`.
        """
        first = self.message(message_id).thread_id or message_id
        values = {"id": first, "after": after, "limit": limit}
        found = self._reader.execute(sql.THREAD, values).fetchall()
        return [message for message, _ in self._fitting((one, None) for (one,) in found)]

    def inbox(self, agent_id: str, unread: bool, after: int, limit: int) -> Inbox:
        """Messages for an agent. Raises `NotFound` (unknown_agent), `Conflict` (unknown_cursor)."""
        self.agent(agent_id)
        query = sql.UNREAD_INBOX if unread else sql.INBOX
        values = {"agent": agent_id, "after": after, "limit": limit, "now": self._book.clock()}
        found = self._reader.execute(query, values).fetchall()
        cursor, messages = self._known_cursor(after) if not found else after, []
        for message, (seq, n, status) in self._fitting((row[3], row[:3]) for row in found):
            cursor = seq
            messages.append(rows.inbox_message(self.relay_id, n, status, message))
        return Inbox(messages=messages, cursor=cursor)

    def deliveries(self, runtime_id: str, after: int, limit: int) -> DeliveryBatch:
        """Work for a runtime after its cursor. Raises `Conflict` (unknown_cursor)."""
        values = {
            "runtime": runtime_id,
            "after": after,
            "limit": limit,
            "now": self._book.clock(),
        }
        found = self._reader.execute(sql.RUNTIME_DELIVERIES, values).fetchall()
        cursor, batch = self._known_cursor(after) if not found else after, []
        for message, (seq, n, agent_id) in self._fitting((row[3], row[:3]) for row in found):
            cursor = seq
            name = rows.delivery_id(self.relay_id, message.id, n)
            batch.append(Delivery(delivery_id=name, seq=seq, agent_id=agent_id, message=message))
        return DeliveryBatch(deliveries=batch, cursor=cursor, relay_id=self.relay_id)

    def _fitting(self, found: Iterable[tuple[int, T]]) -> Iterator[tuple[Message, T]]:
        """The messages of the ids found, until an answer is large enough; always the first."""
        size = 0
        for message_id, columns in found:
            if size > MAX_ANSWER_BYTES:
                return
            message = self.message(message_id)
            size += len(message.body)
            yield message, columns

    def cursor(self) -> int:
        """The newest delivery: the cursor of one who wants only what comes next."""
        return self._number(sql.LAST_DELIVERY)

    def receipts(self, message_id: int) -> Receipts:
        """Raises `NotFound` (unknown_message)."""
        self._reader.execute("BEGIN")  # both lists from one snapshot
        try:
            self.message(message_id)
            found = self._reader.execute(sql.RECEIPTS, (message_id,)).fetchall()
            deliveries = self._states(message_id)
        finally:
            self._reader.execute("COMMIT")
        return Receipts(
            message_id=message_id,
            receipts=[rows.receipt(self.relay_id, row) for row in found],
            deliveries=deliveries,
        )

    def events(self, after: int, limit: int) -> list[RelayEvent]:
        """The event log after a cursor."""
        return [rows.event(row) for row in self._reader.execute(sql.EVENTS, (after, limit))]

    def last_event(self) -> int:
        """The newest entry of the event log, 0 when it is empty."""
        return self._number(sql.LAST_EVENT)

    async def stats(self) -> Stats:
        """Counts. Reads a whole index, so it does not run on the event loop."""
        return await anyio.to_thread.run_sync(_stats, self._writer.path, self.relay_id)

    async def aclose(self) -> None:
        """Commit everything that was handed in, then close. Idempotent."""
        await self._writer.aclose()
        self._reader.close()

    def _states(self, message_id: int) -> list[DeliveryState]:
        found = self._reader.execute(sql.DELIVERY_STATES, (message_id,))
        return [rows.delivery_state(self.relay_id, row) for row in found]

    def _known_cursor(self, after: int) -> int:
        last = self.cursor()
        if after > last:
            raise Conflict(
                "unknown_cursor",
                f"this relay has not made {after} deliveries, its newest is {last}: the cursor is "
                "another relay's, start from 0",
            )
        return after

    def _number(self, query: str) -> int:
        number: int = self._reader.execute(query).fetchone()[0]
        return number


@asynccontextmanager
async def open_store(
    path: Path,
    hub: Hub,
    *,
    stale_ttl_s: float,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Store]:
    """Open the database, creating it when there is none. Raises `database.DatabaseError`."""
    book = Book(stale_ttl_s=stale_ttl_s, clock=clock, opened_at=clock())
    async with await Writer.open(path, sql.MIGRATIONS, book.reload) as writer:
        book.relay_id = await writer.run(_relay_id)
        store = Store(writer, book, hub)
        try:
            yield store
        finally:
            await store.aclose()


def _relay_id(conn: sqlite3.Connection) -> str:
    conn.execute(sql.NAME_RELAY, (secrets.token_hex(4),))
    relay_id: str = conn.execute(sql.RELAY_ID).fetchone()[0]
    return relay_id


def _storage_unavailable(exc: sqlite3.OperationalError) -> Busy:
    """Disk full, I/O error, or locked by a backup."""
    logger.error("! write failed: %s", exc, extra={"action": "write_failed"})
    return Busy("storage_unavailable", f"the relay cannot write: {exc}", retry_after=5)


def _stats(path: Path, relay_id: str) -> Stats:
    conn = connect_readonly(path)
    try:
        return Stats(
            version=VERSION,
            relay_id=relay_id,
            agents=dict(conn.execute(sql.COUNT_AGENTS).fetchall()),
            messages=conn.execute(sql.COUNT_MESSAGES).fetchone()[0],
            deliveries=dict(conn.execute(sql.COUNT_DELIVERIES).fetchall()),
            last_event_seq=conn.execute(sql.LAST_EVENT).fetchone()[0],
        )
    finally:
        conn.close()


__all__ = ["MAX_ANSWER_BYTES", "Store", "open_store"]
