"""Every type that crosses the wire between an agent, a runtime and the relay.

Server and runtime import these models, so each name has one spelling. Times are seconds since the
epoch, UTC. Unknown fields in a request are refused: a misspelt option must not be ignored.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

#: A message body in UTF-8 bytes. Every harness we drive takes this much in one turn
#: (the smallest limit measured is Codex: 1,048,576 characters with our frame around it).
MAX_BODY_BYTES = 1_000_000
#: Names, labels, tags: long enough for people, short enough for a table column and a log line.
MAX_NAME = 128
#: A `meta` object as JSON. It is for a few fields of an application, not for content.
MAX_META_BYTES = 16_384
#: Characters of a reason, which people read in a table.
MAX_REASON = 1000
#: Receipts of one report. A runtime that comes back after hours reports in several batches.
MAX_RECEIPTS = 1000
#: Longest wait of one long poll in seconds: shorter than the idle limits of common proxies.
MAX_WAIT_S = 60.0
#: What SQLite and every JSON reader take as an integer.
MAX_ID = 2**53 - 1

_NAME = "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]+$"
_AGENT_ID = r"^[\w@+][\w.@+-]*$"
#: What a text that does not match should be, in words.
PATTERNS = {
    _NAME: "must be one line without control characters",
    _AGENT_ID: "must be letters, digits, '_', '@' or '+', and after the first also '.' or '-'",
}

#: No control characters: names are shown in tables, logs and the frame of a message.
Name = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=MAX_NAME,
        strip_whitespace=True,
        pattern=_NAME,
    ),
]
#: Stands in URLs and beside `tag:` in targets, so it has neither a slash nor a colon.
AgentId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME, pattern=_AGENT_ID)]
Number = Annotated[int, Field(ge=0, le=MAX_ID)]


def _bounded(meta: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if meta and len(json.dumps(meta, allow_nan=False)) > MAX_META_BYTES:
        raise ValueError(f"must be at most {MAX_META_BYTES} bytes as JSON")
    return meta


def _clipped(reason: str) -> str:
    return reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 1]}…"


#: Cut, not refused: a receipt must not be lost because an error message was long.
Reason = Annotated[str, AfterValidator(_clipped)]
Meta = Annotated[dict[str, JsonValue], AfterValidator(_bounded)]


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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Record(BaseModel):
    """Base of everything the relay answers: unknown fields pass, so that old clients keep working."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Evidence(Record):
    """What the harness itself said, by which a delivery counts as delivered."""

    #: Such as "claude.replay", "codex.user_message", "opencode.message".
    kind: Annotated[str, StringConstraints(max_length=MAX_NAME)]
    #: The harness's own id: uuid, item id, message id, transcript line.
    reference: Annotated[str, StringConstraints(max_length=4096)]
    turn_id: str | None = None


class AgentRegistration(Request):
    """Register an agent or update it; the id decides which. Lists replace what was there."""

    id: AgentId
    name: Name
    label: Name | None = None
    tags: list[Name] = Field(default_factory=list, max_length=64)
    capabilities: list[Name] = Field(default_factory=list, max_length=64)
    channels: list[Name] = Field(default_factory=list, max_length=64)
    machine: Name | None = None
    project: Name | None = None
    harness: Name | None = None
    session_id: Name | None = None
    #: The runtime that takes this agent's deliveries; without one it polls its inbox.
    runtime_id: AgentId | None = None
    status: AgentStatus = AgentStatus.ONLINE
    meta: Meta = Field(default_factory=dict)


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

    sender: Name = Field(validation_alias="from", serialization_alias="from")
    to: Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
    body: Annotated[str, StringConstraints(min_length=1)]
    thread_id: Number | None = None  #: any message of the thread this one belongs to
    mode: DeliveryMode = DeliveryMode.NEXT_TURN
    ttl_s: Annotated[float, Field(gt=0, le=30 * 86400)] | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    trace_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    meta: Meta = Field(default_factory=dict)

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )


class Message(Record):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    id: int
    sender: str = Field(validation_alias="from", serialization_alias="from")
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
    """Deliveries after a cursor. Ask again with `cursor`; an empty batch means the wait ran out.

    `relay_id` changes when the relay starts over with an empty database: cursors of the old one
    mean nothing then, and the runtime must ask from 0 again. Only deliveries that are not final are
    handed out, so asking from 0 is always safe.
    """

    deliveries: list[Delivery]
    cursor: int
    relay_id: str = ""


class InboxMessage(Message):
    """A message for an agent that polls. It reports on `delivery_id` like any runtime."""

    delivery_id: str
    status: DeliveryStatus


class Inbox(Record):
    """Messages for one agent after a cursor, oldest first. Ask again with `cursor`."""

    messages: list[InboxMessage]
    cursor: int


class Cursor(Record):
    """Where the inbox cursor stands now, for an agent that wants only what comes next."""

    cursor: int


class NewReceipt(Request):
    """A runtime reports. `receipt_id` makes a repeated report harmless."""

    receipt_id: Name
    delivery_id: Name
    status: ReceiptStatus
    session_id: Name | None = None  #: the session that has or had the delivery
    reason: Reason | None = None
    evidence: Evidence | None = None
    next_attempt_at: float | None = None
    at: float


class NewReceipts(Request):
    """A batch of reports; each is judged by itself."""

    receipts: Annotated[list[NewReceipt], Field(min_length=1, max_length=MAX_RECEIPTS)]


class ReceiptOutcome(StrEnum):
    """What became of one report."""

    RECORDED = "recorded"
    REPEATED = "repeated"  #: the same report was recorded before; nothing changed
    UNKNOWN_DELIVERY = "unknown_delivery"  #: refused: this relay never made that delivery
    DELIVERY_FINAL = "delivery_final"  #: refused: it was delivered or had failed before
    RECEIPT_CONFLICT = "receipt_conflict"  #: refused: the receipt id was used for another report
    INCOMPLETE = "incomplete"  #: refused: delivered needs evidence, deferred and failed a reason


class ReceiptResult(Record):
    """`ok` false means that a repeat would be refused again; `status` is where the delivery stands."""

    receipt_id: str
    ok: bool
    outcome: ReceiptOutcome
    status: DeliveryStatus | None = None


class ReceiptResults(Record):
    """One result per report, in the order they came."""

    results: list[ReceiptResult]


class Receipt(Record):
    delivery_id: str
    agent_id: str
    session_id: str | None = None
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


class Label(Request):
    """A label that people address the agent by; None removes it."""

    label: Name | None


class RuntimeHeartbeat(Request):
    """A runtime says which of its agents live and how they are."""

    agents: dict[str, AgentStatus]


class HeartbeatResult(Record):
    """`unknown` are agents that this relay does not know as the runtime's: register them again."""

    unknown: list[str]


class RelayEvent(Record):
    """One entry of the relay's event log. `seq` is the resume cursor.

    message.new       data: from, to, recipients, thread_id, mode, trace_id
    delivery.receipt  data: from, delivery_id, status, session_id, reason, evidence, next_attempt_at
    agent.registered, agent.updated, agent.status, agent.removed  data: name, status
    """

    seq: int
    type: str
    at: float
    agent_id: str | None = None
    message_id: int | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)


class Stats(Record):
    version: str
    relay_id: str = ""
    agents: dict[str, int]
    messages: int
    deliveries: dict[str, int]
    last_event_seq: int


class Health(Record):
    status: str
    version: str


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
    "MAX_ID",
    "MAX_META_BYTES",
    "MAX_NAME",
    "MAX_REASON",
    "MAX_RECEIPTS",
    "MAX_WAIT_S",
    "PATTERNS",
    "Agent",
    "AgentId",
    "AgentRegistration",
    "AgentStatus",
    "Cursor",
    "Delivery",
    "DeliveryBatch",
    "DeliveryMode",
    "DeliveryState",
    "DeliveryStatus",
    "ErrorBody",
    "ErrorResponse",
    "Evidence",
    "Health",
    "Heartbeat",
    "HeartbeatResult",
    "Inbox",
    "InboxMessage",
    "Label",
    "Message",
    "Meta",
    "Name",
    "NewMessage",
    "NewReceipt",
    "NewReceipts",
    "Number",
    "Reason",
    "Receipt",
    "ReceiptOutcome",
    "ReceiptResult",
    "ReceiptResults",
    "ReceiptStatus",
    "Receipts",
    "Record",
    "RelayEvent",
    "Request",
    "RuntimeHeartbeat",
    "SendResult",
    "Stats",
]
