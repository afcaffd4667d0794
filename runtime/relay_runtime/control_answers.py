"""What the supervisor answers over `control.sock`, as far as the command line reads it.

The same fields as the records in `control_types`, without importing pydantic.
"""

from __future__ import annotations

from typing import TypedDict


class Waiting(TypedDict):
    request_id: str
    tool: str
    detail: str


class Usage(TypedDict):
    turns: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float | None


class Session(TypedDict):
    session_id: str
    agent_id: str
    name: str
    harness: str
    mode: str
    state: str
    pid: int | None
    turn: str | None
    waiting: list[Waiting]
    queued: int
    usage: Usage
    since: float
    reason: str | None
    retry_at: float | None
    cwd: str
    model: str | None
    profile: str | None
    conversation: str | None
    created_at: float


class Proof(TypedDict):
    kind: str
    reference: str
    turn_id: str | None


class Delivery(TypedDict):
    delivery_id: str
    session_id: str | None
    agent_id: str
    status: str
    reason: str | None
    evidence: Proof | None


class Sent(TypedDict):
    message_id: int
    deliveries: list[Delivery]


class Receipt(TypedDict):
    delivery_id: str
    agent_id: str
    status: str
    reason: str | None
    evidence: Proof | None
    at: float


class Receipts(TypedDict):
    message_id: int
    receipts: list[Receipt]
    deliveries: list[Delivery]


class Event(TypedDict):
    cursor: int
    at: float
    session_id: str
    name: str
    type: str
    data: dict[str, object]


class Status(TypedDict):
    pid: int
    version: str
    home: str
    since: float
    relay_url: str
    relay_embedded: bool
    sessions: dict[str, int]
    rss_bytes: int


__all__ = [
    "Delivery",
    "Event",
    "Proof",
    "Receipt",
    "Receipts",
    "Sent",
    "Session",
    "Status",
    "Usage",
    "Waiting",
]
