"""Database rows <-> the models that cross the wire, and the names of deliveries."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay_client.types import (
    Agent,
    DeliveryState,
    DeliveryStatus,
    Evidence,
    InboxMessage,
    Message,
    Receipt,
    RelayEvent,
)

from .targets import Addressee

if TYPE_CHECKING:
    import sqlite3

    from pydantic import JsonValue

    from .sql import Insert

# What sqlite3 hands out.
Row = tuple[Any, ...]

_DELIVERY_ID = re.compile(r"d([0-9]{1,15})\.([0-9]{1,9})\.([0-9a-f]{1,32})", re.ASCII)


def delivery_id(relay_id: str, message_id: int, n: int) -> str:
    """Names the delivery for good: unlike a number it is not repeated by a relay that starts over."""
    return f"d{message_id}.{n}.{relay_id}"


def parse_delivery_id(relay_id: str, text: str) -> tuple[int, int] | None:
    """The message and the number of its delivery; None when it is not of this relay."""
    found = _DELIVERY_ID.fullmatch(text)
    if found is None or found[3] != relay_id:
        return None
    return int(found[1]), int(found[2])


def insert(conn: sqlite3.Connection, into: Insert, values: list[Any]) -> None:
    """Add rows whose values stand one behind the other in `values`."""
    start = 0
    for rows, statement in into.statements:
        step = rows * into.width
        while len(values) - start >= step:
            conn.execute(statement, values[start : start + step])
            start += step


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as the writer needs it."""

    seq: int
    message_id: int
    n: int
    agent_id: str
    session_id: str | None
    status: str


def dump(value: JsonValue) -> str:
    """JSON for a column."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def dump_evidence(evidence: Evidence | None) -> str | None:
    return None if evidence is None else evidence.model_dump_json()


def _evidence(text: str | None) -> Evidence | None:
    return None if text is None else Evidence.model_validate_json(text)


def agent(row: Row) -> Agent:
    """From `AGENT_COLUMNS`."""
    return Agent(
        id=row[0],
        name=row[1],
        label=row[2],
        tags=json.loads(row[3]),
        capabilities=json.loads(row[4]),
        channels=json.loads(row[5]),
        machine=row[6],
        project=row[7],
        harness=row[8],
        session_id=row[9],
        runtime_id=row[10],
        status=row[11],
        meta=json.loads(row[12]),
        registered_at=row[13],
        last_seen_at=row[14],
    )


def agent_values(agent: Agent) -> Row:
    """For `PUT_AGENT`."""
    return (
        agent.id,
        agent.name,
        agent.label,
        dump(list(agent.tags)),
        dump(list(agent.capabilities)),
        dump(list(agent.channels)),
        agent.machine,
        agent.project,
        agent.harness,
        agent.session_id,
        agent.runtime_id,
        agent.status.value,
        dump(agent.meta),
        agent.registered_at,
        agent.last_seen_at,
    )


def addressee(agent: Agent) -> Addressee:
    return Addressee(
        id=agent.id,
        name=agent.name,
        label=agent.label,
        tags=frozenset(agent.tags),
        capabilities=frozenset(agent.capabilities),
        runtime_id=agent.runtime_id,
        session_id=agent.session_id,
    )


def message(row: Row) -> Message:
    """From `MESSAGE_COLUMNS`."""
    return Message(
        id=row[0],
        sender=row[1],
        to=row[2],
        body=row[3],
        thread_id=row[4],
        mode=row[5],
        trace_id=row[6],
        created_at=row[7],
        expires_at=row[8],
        meta={} if row[9] is None else json.loads(row[9]),
    )


def inbox_message(relay_id: str, n: int, status: str, message: Message) -> InboxMessage:
    return InboxMessage(
        **dict(message),
        delivery_id=delivery_id(relay_id, message.id, n),
        status=DeliveryStatus(status),
    )


def delivery_state(relay_id: str, row: Row) -> DeliveryState:
    """From `DELIVERY_STATES`."""
    return DeliveryState(
        delivery_id=delivery_id(relay_id, row[0], row[1]),
        agent_id=row[2],
        session_id=row[3],
        status=DeliveryStatus(row[4]),
        reason=row[5],
        evidence=_evidence(row[6]),
    )


def receipt(relay_id: str, row: Row) -> Receipt:
    """From `RECEIPTS`."""
    return Receipt(
        delivery_id=delivery_id(relay_id, row[0], row[1]),
        agent_id=row[2],
        status=row[3],
        session_id=row[4],
        reason=row[5],
        evidence=_evidence(row[6]),
        next_attempt_at=row[7],
        at=row[8],
    )


def event(row: Row) -> RelayEvent:
    """From `EVENTS`."""
    seq, kind, at, agent_id, message_id, data, sender, target, thread_id, mode, trace, names = row
    told: dict[str, JsonValue]
    if data is None:
        told = {
            "from": sender,
            "to": target,
            "recipients": json.loads(names),
            "thread_id": thread_id,
            "mode": mode,
            "trace_id": trace,
        }
    else:
        told = json.loads(data)
        if message_id is not None:
            told["from"] = sender
    return RelayEvent(
        seq=seq, type=kind, at=at, agent_id=agent_id, message_id=message_id, data=told
    )
