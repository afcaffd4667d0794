"""Writing messages with their deliveries. Runs in the writer's thread, in one transaction."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic_core import to_json

from relay_client.types import SendResult

from . import rows, sql
from .errors import ApiError, Conflict, NotFound
from .hub import EVENTS, runtime_topic

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from relay_client.types import NewMessage

    from .book import Book, Change
    from .targets import Addressee


@dataclass(slots=True)
class Sent:
    """A message that was sent, with the agents it went to."""

    relay_id: str
    message_id: int
    recipients: list[Addressee]
    #: The idempotency key was used before, and this is what became of that message.
    earlier: SendResult | None = None

    def answer(self) -> bytes:
        """What the sender is told: a `SendResult` as JSON, written without making one."""
        if self.earlier is not None:
            return self.earlier.model_dump_json().encode()
        deliveries = [
            {
                "delivery_id": rows.delivery_id(self.relay_id, self.message_id, n),
                "session_id": agent.session_id,
                "agent_id": agent.id,
                "status": "pending",
                "reason": None,
                "evidence": None,
            }
            for n, agent in enumerate(self.recipients)
        ]
        return to_json({"message_id": self.message_id, "deliveries": deliveries})


def send(
    conn: sqlite3.Connection, messages: Sequence[NewMessage], book: Book
) -> list[Change[Sent] | Exception]:
    """Write each message with one delivery for each agent it addresses, and the event.

    An outcome is an exception when nothing was written for that message: what `Directory.resolve`
    raises, `NotFound` (unknown_thread) or `Conflict` (idempotency_conflict).
    """
    batch = _Batch(conn, book)
    outcomes: list[Change[Sent] | Exception] = []
    for new in messages:
        try:
            outcomes.append(batch.add(new))
        except ApiError as refusal:
            outcomes.append(refusal)
    batch.flush()
    return outcomes


class _Batch:
    """Rows of several messages on their way into the database."""

    def __init__(self, conn: sqlite3.Connection, book: Book) -> None:
        self._conn = conn
        self._book = book
        self._clear()

    def _clear(self) -> None:
        self._first_id = self._book.last_message_id + 1
        self._keys: set[tuple[str, str]] = set()
        self._messages: list[object] = []
        self._deliveries: list[object] = []
        self._events: list[object] = []

    def flush(self) -> None:
        """Write what was added; afterwards queries find it."""
        rows.insert(self._conn, sql.ADD_MESSAGES, self._messages)
        rows.insert(self._conn, sql.ADD_DELIVERIES, self._deliveries)
        rows.insert(self._conn, sql.ADD_EVENTS, self._events)
        self._clear()

    def add(self, new: NewMessage) -> Change[Sent]:
        book = self._book
        if new.idempotency_key is not None:
            earlier = self._sent_before(new, new.idempotency_key)
            if earlier is not None:
                return Sent(book.relay_id, earlier.message_id, [], earlier), []
        agents = book.directory.resolve(new.to, new.sender)
        thread_id = None if new.thread_id is None else self._thread(new.thread_id)
        now = book.clock()
        expires_at = None if new.ttl_s is None else now + new.ttl_s
        message_id = book.last_message_id = book.last_message_id + 1
        self._messages += (
            message_id,
            new.sender,
            new.to,
            new.body,
            thread_id,
            new.mode.value,
            new.trace_id or f"{random.getrandbits(64):016x}",
            now,
            expires_at,
            new.idempotency_key,
            rows.dump(new.meta) if new.meta else None,
        )
        topics = [EVENTS]
        for n, agent in enumerate(agents):
            self._deliveries += (message_id, n, agent.id, agent.session_id, expires_at)
            if agent.runtime_id is not None:
                topics.append(runtime_topic(agent.runtime_id))
        self._events += ("message.new", now, None, message_id, None)
        if expires_at is not None:
            topics += book.deadline_topics(expires_at)
        return Sent(book.relay_id, message_id, agents), topics

    def _sent_before(self, new: NewMessage, key: str) -> SendResult | None:
        if (new.sender, key) in self._keys:
            self.flush()
        row = self._conn.execute(sql.MESSAGE_BY_KEY, (new.sender, key)).fetchone()
        if row is None:
            self._keys.add((new.sender, key))
            return None
        first = rows.message(row)
        thread_id = None if new.thread_id is None else self._thread(new.thread_id)
        told = (new.to, new.body, thread_id, new.mode)
        if (first.to, first.body, first.thread_id, first.mode) != told:
            raise Conflict(
                "idempotency_conflict",
                f"this idempotency key was used for message {first.id}, which is different: "
                "use a new key for a new message",
            )
        states = self._conn.execute(sql.DELIVERY_STATES, (first.id,))
        deliveries = [rows.delivery_state(self._book.relay_id, state) for state in states]
        return SendResult(message_id=first.id, deliveries=deliveries)

    def _thread(self, message_id: int) -> int:
        """The first message of the thread that `message_id` is in."""
        if message_id >= self._first_id:
            self.flush()
        row = self._conn.execute(sql.THREAD_OF, (message_id,)).fetchone()
        if row is None:
            raise NotFound("unknown_thread", f"there is no message {message_id} to continue")
        first: int = row[0]
        return first
