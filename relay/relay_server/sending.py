"""Writing a message with its deliveries. Runs in the writer's thread, in one transaction."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic_core import to_json

from relay_client.types import SendResult

from . import rows, sql
from .errors import Conflict, NotFound
from .hub import EVENTS, runtime_topic

if TYPE_CHECKING:
    import sqlite3

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


def send(conn: sqlite3.Connection, book: Book, new: NewMessage) -> Change[Sent]:
    """Write the message, one delivery for each agent it addresses, and the event.

    Raises what `Directory.resolve` raises, `NotFound` (unknown_thread) or `Conflict`
    (idempotency_conflict). Nothing is written then.
    """
    if new.idempotency_key is not None:
        earlier = _sent_before(conn, book, new)
        if earlier is not None:
            return Sent(book.relay_id, earlier.message_id, [], earlier), []
    agents = book.directory.resolve(new.to, new.sender)
    thread_id = None if new.thread_id is None else _thread(conn, new.thread_id)
    now = book.clock()
    expires_at = None if new.ttl_s is None else now + new.ttl_s
    message_id = conn.execute(
        sql.ADD_MESSAGE,
        (
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
        ),
    ).lastrowid
    assert message_id is not None  # an INSERT that did not raise made a row
    topics = [EVENTS]
    for n, agent in enumerate(agents):
        conn.execute(sql.ADD_DELIVERY, (message_id, n, agent.id, agent.session_id, expires_at))
        if agent.runtime_id is not None:
            topics.append(runtime_topic(agent.runtime_id))
    conn.execute(sql.ADD_EVENT, ("message.new", now, None, message_id, None))
    if expires_at is not None:
        topics += book.deadline_topics(expires_at)
    return Sent(book.relay_id, message_id, agents), topics


def _sent_before(conn: sqlite3.Connection, book: Book, new: NewMessage) -> SendResult | None:
    row = conn.execute(sql.MESSAGE_BY_KEY, (new.sender, new.idempotency_key)).fetchone()
    if row is None:
        return None
    first = rows.message(row)
    thread_id = None if new.thread_id is None else _thread(conn, new.thread_id)
    if (first.to, first.body, first.thread_id, first.mode) != (
        new.to,
        new.body,
        thread_id,
        new.mode,
    ):
        raise Conflict(
            "idempotency_conflict",
            f"this idempotency key was used for message {first.id}, which is different: "
            "use a new key for a new message",
        )
    states = conn.execute(sql.DELIVERY_STATES, (first.id,))
    deliveries = [rows.delivery_state(book.relay_id, state) for state in states]
    return SendResult(message_id=first.id, deliveries=deliveries)


def _thread(conn: sqlite3.Connection, message_id: int) -> int:
    """The first message of the thread that `message_id` is in."""
    row = conn.execute(sql.THREAD_OF, (message_id,)).fetchone()
    if row is None:
        raise NotFound("unknown_thread", f"there is no message {message_id} to continue")
    first: int = row[0]
    return first
