"""Writing receipts. Runs in the writer's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay_client.types import (
    FINAL,
    DeliveryStatus,
    NewReceipt,
    ReceiptOutcome,
    ReceiptResult,
    ReceiptStatus,
)

from . import rows, sql
from .hub import EVENTS, message_topic
from .receipts import judge
from .rows import DeliveryRow

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from pydantic import JsonValue

    from .book import Book, Change

# One sweep must not keep everybody's commit waiting; the next one follows at once.
MAX_EXPIRED = 500

_ACCEPTABLE = frozenset({ReceiptOutcome.RECORDED, ReceiptOutcome.REPEATED})


def report(
    conn: sqlite3.Connection, book: Book, reports: Sequence[NewReceipt]
) -> Change[list[ReceiptResult]]:
    """Record each report that may be; the others are refused one by one, never the batch."""
    results = []
    topics: list[str] = []
    for one in reports:
        outcome, status = _report_one(conn, book, one, topics)
        results.append(
            ReceiptResult(
                receipt_id=one.receipt_id,
                ok=outcome in _ACCEPTABLE,
                outcome=outcome,
                status=status,
            )
        )
    return results, topics


def _report_one(
    conn: sqlite3.Connection, book: Book, one: NewReceipt, topics: list[str]
) -> tuple[ReceiptOutcome, DeliveryStatus | None]:
    key = rows.parse_delivery_id(book.relay_id, one.delivery_id)
    found = None if key is None else conn.execute(sql.DELIVERY, key).fetchone()
    if found is None:
        return ReceiptOutcome.UNKNOWN_DELIVERY, None
    delivery = DeliveryRow(*found)
    current = DeliveryStatus(delivery.status)
    known = conn.execute(sql.RECEIPT_BY_ID, (one.receipt_id,)).fetchone()
    if known is not None:
        evidence = rows.dump_evidence(one.evidence)
        same = known == (*(key or ()), one.status.value, one.reason, evidence)
        return ReceiptOutcome.REPEATED if same else ReceiptOutcome.RECEIPT_CONFLICT, current
    outcome = judge(current, one)
    if outcome is not ReceiptOutcome.RECORDED:
        return outcome, current
    topics += _record(conn, book, delivery, one)
    return outcome, DeliveryStatus(one.status.value)


def fail(
    conn: sqlite3.Connection, book: Book, deliveries: Iterable[DeliveryRow], reason: str
) -> list[str]:
    """The relay itself gives up on deliveries that no runtime has taken. Returns the topics."""
    now = book.clock()
    topics: list[str] = []
    for delivery in deliveries:
        name = rows.delivery_id(book.relay_id, delivery.message_id, delivery.n)
        receipt = NewReceipt(
            receipt_id=f"relay.{reason}.{name}",
            delivery_id=name,
            status=ReceiptStatus.FAILED,
            reason=reason,
            at=now,
        )
        topics += _record(conn, book, delivery, receipt)
    return topics


def expire(conn: sqlite3.Connection, book: Book) -> list[str]:
    """Fail what was not taken in time. Returns the topics."""
    overdue = conn.execute(sql.EXPIRED, (book.clock(), MAX_EXPIRED)).fetchall()
    return fail(conn, book, (DeliveryRow(*row) for row in overdue), "expired")


def _record(
    conn: sqlite3.Connection, book: Book, delivery: DeliveryRow, one: NewReceipt
) -> list[str]:
    status = DeliveryStatus(one.status.value)
    session_id = one.session_id or delivery.session_id
    evidence = rows.dump_evidence(one.evidence)
    conn.execute(
        sql.ADD_RECEIPT,
        (
            one.receipt_id,
            delivery.message_id,
            delivery.n,
            one.status.value,
            session_id,
            one.reason,
            evidence,
            one.next_attempt_at,
            one.at,
        ),
    )
    conn.execute(
        sql.SET_DELIVERY,
        (status.value, status not in FINAL, session_id, one.reason, evidence, delivery.seq),
    )
    data: dict[str, JsonValue] = {
        "delivery_id": one.delivery_id,
        "status": one.status.value,
        "session_id": session_id,
        "reason": one.reason,
        "evidence": None if one.evidence is None else one.evidence.model_dump(),
        "next_attempt_at": one.next_attempt_at,
    }
    rows.insert(
        conn,
        sql.ADD_EVENTS,
        ["delivery.receipt", book.clock(), delivery.agent_id, delivery.message_id, rows.dump(data)],
    )
    return [EVENTS, message_topic(delivery.message_id)]
