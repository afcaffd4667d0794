"""Every type that crosses the wire between an agent, a runtime and the relay.

Server and runtime import these models, so each name has one spelling. Times are seconds since the
epoch, UTC. Unknown fields in a request are refused: a misspelt option must not be ignored.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

#: A message body in UTF-8 bytes. Every harness we drive takes this much in one turn
#: (the smallest limit measured is Codex: 1,048,576 characters with our frame around it).
MAX_BODY_BYTES = 1_000_000
#: Names, labels, tags: long enough for people, short enough for a table column and a log line.
MAX_NAME = 128

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME, strip_whitespace=True)]


class DeliveryMode(StrEnum):
    """How a message enters the session it is for."""

    NEXT_TURN = "next-turn"  #: waits for the boundary and starts a turn of its own
    STEER = "steer"  #: enters the running turn where the harness can, else like next-turn
    INTERRUPT = "interrupt"  #: stops the running turn first


class ReceiptStatus(StrEnum):
    """One state change of a delivery."""

    ACCEPTED = "accepted"  #: a runtime has durably taken charge
    DEFERRED = "deferred"  #: cannot go in now; `reason` says why
    DELIVERED = "delivered"  #: final: the harness proved that it is in the session's context
    FAILED = "failed"  #: final: `reason` says why


class DeliveryStatus(StrEnum):
    """Where a delivery stands: the status of its newest receipt, or pending without one."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    FAILED = "failed"


FINAL = frozenset({DeliveryStatus.DELIVERED, DeliveryStatus.FAILED})


class AgentStatus(StrEnum):
    """Presence of an agent as the relay knows it."""

    ONLINE = "online"
    IDLE = "idle"
    BUSY = "busy"
    WAITING = "waiting"  #: a permission or question is open
    HELD = "held"  #: auth, rate limit, paused
    OFFLINE = "offline"


class Request(BaseModel):
    """Base of everything a caller sends: unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Record(BaseModel):
    """Base of everything the relay answers: unknown fields pass, so that old clients keep working."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Evidence(Record):
    """What the harness itself said, by which a delivery counts as delivered."""

    kind: str  #: such as "claude.replay", "codex.user_message", "opencode.message"
    reference: str  #: the harness's own id: uuid, item id, message id, transcript line
    turn_id: str | None = None


class AgentRegistration(Request):
    """Register an agent or update it; the id decides which. Lists replace what was there."""

    id: Name
    name: Name
    label: Name | None = None
    tags: list[Name] = Field(default_factory=list, max_length=64)
    capabilities: list[Name] = Field(default_factory=list, max_length=64)
    channels: list[Name] = Field(default_factory=list, max_length=64)
    machine: Name | None = None
    project: Name | None = None
    harness: Name | None = None
    session_id: Name | None = None
    runtime_id: Name | None = (
        None  #: the runtime that takes this agent's deliveries; none = it polls
    )
    status: AgentStatus = AgentStatus.ONLINE
    meta: dict[str, JsonValue] = Field(default_factory=dict)


class Agent(Record):
    id: str
    name: str
    label: str | None
    tags: list[str]
    capabilities: list[str]
    channels: list[str]
    machine: str | None
    project: str | None
    harness: str | None
    session_id: str | None
    runtime_id: str | None
    status: AgentStatus
    meta: dict[str, JsonValue]
    registered_at: float
    last_seen_at: float


class NewMessage(Request):
    """Send a message. `to` is an agent id or name, `label:`, `tag:`, `cap:` or `broadcast`."""

    sender: Name = Field(alias="from")
    to: Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
    body: Annotated[str, StringConstraints(min_length=1)]
    thread_id: int | None = None  #: the message that opened the thread this one belongs to
    mode: DeliveryMode = DeliveryMode.NEXT_TURN
    ttl_s: Annotated[float, Field(gt=0, le=30 * 86400)] | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    trace_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    meta: dict[str, JsonValue] = Field(default_factory=dict)

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Message(Record):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    id: int
    sender: str = Field(alias="from")
    to: str
    body: str
    thread_id: int | None
    mode: DeliveryMode
    trace_id: str
    created_at: float
    expires_at: float | None
    meta: dict[str, JsonValue] = Field(default_factory=dict)


class DeliveryState(Record):
    """One message for one agent, as its sender sees it."""

    delivery_id: str
    session_id: str | None
    agent_id: str
    status: DeliveryStatus
    reason: str | None = None
    evidence: Evidence | None = None


class SendResult(Record):
    message_id: int
    deliveries: list[DeliveryState]


class Delivery(Record):
    """Work for a runtime: deliver `message` to `agent_id`. `seq` orders one relay's deliveries."""

    delivery_id: str
    seq: int
    agent_id: str
    message: Message


class DeliveryBatch(Record):
    """Deliveries after a cursor. Ask again with `cursor`; an empty batch means the wait ran out."""

    deliveries: list[Delivery]
    cursor: int


class NewReceipt(Request):
    """A runtime reports. `receipt_id` makes a repeated report harmless."""

    receipt_id: Name
    delivery_id: Name
    status: ReceiptStatus
    reason: str | None = None
    evidence: Evidence | None = None
    next_attempt_at: float | None = None
    at: float


class Receipt(Record):
    delivery_id: str
    agent_id: str
    status: ReceiptStatus
    reason: str | None = None
    evidence: Evidence | None = None
    next_attempt_at: float | None = None
    at: float


class Receipts(Record):
    """Everything that happened to a message, oldest first."""

    message_id: int
    receipts: list[Receipt]
    deliveries: list[DeliveryState]


class Heartbeat(Request):
    status: AgentStatus | None = None


class RuntimeHeartbeat(Request):
    """A runtime says which of its agents live and how they are."""

    agents: dict[str, AgentStatus]


class RelayEvent(Record):
    """One entry of the relay's event log. `seq` is the resume cursor."""

    seq: int
    type: str  #: message.new, delivery.receipt, agent.status, agent.removed, …
    at: float
    agent_id: str | None = None
    message_id: int | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)


class Stats(Record):
    version: str
    agents: dict[str, int]
    messages: int
    deliveries: dict[str, int]
    last_event_seq: int


class ErrorBody(Record):
    """What every refused request carries. `code` is stable; `message` is for people."""

    code: str
    message: str
    candidates: list[str] = Field(default_factory=list)


class ErrorResponse(Record):
    error: ErrorBody


__all__ = [
    "FINAL",
    "MAX_BODY_BYTES",
    "Agent",
    "AgentRegistration",
    "AgentStatus",
    "Delivery",
    "DeliveryBatch",
    "DeliveryMode",
    "DeliveryState",
    "DeliveryStatus",
    "ErrorBody",
    "ErrorResponse",
    "Evidence",
    "Heartbeat",
    "Message",
    "NewMessage",
    "NewReceipt",
    "Receipt",
    "ReceiptStatus",
    "Receipts",
    "Record",
    "RelayEvent",
    "Request",
    "RuntimeHeartbeat",
    "SendResult",
    "Stats",
]
