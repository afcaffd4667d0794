"""What crosses the control socket between the CLI and the supervisor. JSON others script against.

Routes (HTTP over `control.sock`, all JSON; errors as `relay_client.types.ErrorResponse`):

    GET  /v1/status                          -> StatusInfo
    POST /v1/down                 Down       -> {}            sessions live on unless `all`
    POST /v1/sessions             Spawn      -> SessionInfo   201; waits for readiness up to `wait_s`
    GET  /v1/sessions?all=                   -> list[SessionInfo]   `all`: also ended ones
    GET  /v1/sessions/{name}                 -> SessionInfo   name, session id or agent id
    POST /v1/sessions/{name}/interrupt|pause|resume           -> SessionInfo
    POST /v1/sessions/{name}/release  Release                 -> SessionInfo
    POST /v1/sessions/{name}/answer   Answer                  -> SessionInfo
    GET  /v1/sessions/{name}/logs?stream=out|err&offset=&follow=   -> raw bytes
    GET  /v1/events?session=&since=&follow=  -> EventRecord, one JSON object a line
    POST /v1/messages   relay_client NewMessage               -> relay_client SendResult, 201
    GET  /v1/messages/{id}/receipts?until=accepted|delivered&wait_s=  -> relay_client Receipts
    GET  /v1/harnesses                       -> list[HarnessInfo]
    GET  /openapi.json
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from relay_client.types import MAX_BODY_BYTES, Name, Record, Request
from relay_profiles.model import Limits, Restart, Stop

from .contract import Approval, Json, Mode
from .framing import clean
from .turn_types import SessionState


def _task(text: str) -> str:
    if not clean(text).strip():
        raise ValueError("there is nothing to do in it: leave it out")
    if len(text.encode()) > MAX_BODY_BYTES:
        raise ValueError(f"must be at most {MAX_BODY_BYTES} bytes: put it into a file")
    return text


#: A first message, so it is bounded like one.
Task = Annotated[str, AfterValidator(_task)]


class Spawn(Request):
    """Start a session. `environ` and `cwd` are the caller's; the profile was resolved by the CLI."""

    harness: Name
    name: Name | None = None
    mode: Mode | None = None
    cwd: str
    environ: dict[str, str]
    model: str | None = None
    approval: Approval | None = None
    instructions: str | None = None
    args: list[str] = Field(default_factory=list)
    argv: list[str] = Field(default_factory=list)
    task: Task | None = None
    label: Name | None = None
    tags: list[Name] = Field(default_factory=list)
    capabilities: list[Name] = Field(default_factory=list)
    channels: list[Name] = Field(default_factory=list)
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    profile: str | None = None
    restart: Restart = Restart()
    stop: Stop = Stop()
    limits: Limits = Limits()
    options: dict[str, JsonValue] = Field(default_factory=dict)
    wait_s: Annotated[float, Field(ge=0, le=600)] = 60.0


class Release(Request):
    reason: str | None = None
    force: bool = False  #: skip the drain: interrupt and kill now


class Answer(Request):
    request_id: str | None = None  #: None answers the only open request
    allow: bool
    message: str | None = None


class Down(Request):
    all: bool = False
    force: bool = False


class UsageTotals(Record):
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None


class PendingRequest(Record):
    request_id: str
    tool: str
    detail: str


class SessionInfo(Record):
    session_id: str
    agent_id: str
    name: str
    harness: str
    mode: Mode
    state: SessionState
    pid: int | None  #: of the agent; None when it is not running
    turn: str | None = None  #: id of the running turn
    waiting: list[PendingRequest] = Field(default_factory=list)  #: open permission requests
    queued: int = 0  #: deliveries accepted and not yet final
    usage: UsageTotals = Field(default_factory=UsageTotals)
    since: float  #: when `state` began, seconds since the epoch
    reason: str | None = None  #: why it is held, exited or starting
    retry_at: float | None = None  #: when a hold or a restart delay ends
    cwd: str
    model: str | None = None
    profile: str | None = None
    conversation: str | None = None
    holder_pid: int | None = None
    restarts: int = 0
    label: str | None = None
    tags: list[str] = Field(default_factory=list)
    created_at: float


class EventRecord(Record):
    """One event of the journal. `cursor` is what `since` takes."""

    cursor: int
    at: float
    session_id: str
    name: str
    type: str
    data: Mapping[str, Json]


class HarnessInfo(Record):
    name: str
    modes: list[Mode]
    default_mode: Mode
    boundary: str
    evidence: str
    steer: bool
    interrupt: bool
    resume: bool
    permissions: bool


class StatusInfo(Record):
    pid: int
    version: str
    home: str
    since: float
    relay_url: str
    relay_embedded: bool
    sessions: dict[str, int]  #: by state
    rss_bytes: int


__all__ = [
    "Answer",
    "Down",
    "EventRecord",
    "HarnessInfo",
    "PendingRequest",
    "Release",
    "SessionInfo",
    "Spawn",
    "StatusInfo",
    "UsageTotals",
]
