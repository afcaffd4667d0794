"""What a session does or becomes. Drivers emit these; the journal stores them; people watch them.

Every event is a frozen dataclass with a stable `type`. The turn machine (`turns.py`) reads the few
that move a session between states; the rest is there to be observed. Text fields are bounded by the
driver (`clip`), because an event log is not a transcript store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

#: Longest text of one event. Enough for a long answer; the harness's own transcript has the rest.
MAX_TEXT = 16_384


def clip(text: str, limit: int = MAX_TEXT) -> str:
    """`text`, cut to `limit` characters with a mark that says how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [{len(text) - limit} more characters]"


class ErrorClass(StrEnum):
    """What the supervisor can do about an error of the harness or its model endpoint."""

    AUTH = "auth"  #: hold until a human acts; restarting cannot help
    RATE_LIMIT = "rate_limit"  #: hold until the reset time
    OVERLOADED = "overloaded"  #: the endpoint will recover by itself: hold briefly
    OTHER = "other"  #: the turn failed; the session goes on


class Outcome(StrEnum):
    """How a turn ended."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class ExitClass(StrEnum):
    """Why the harness process is gone; decides what the restart policy may do."""

    CLEAN = "clean"  #: exit status 0, or we asked for it
    CRASH = "crash"
    START_FAILED = "start_failed"  #: it never became ready, and will fail the same way again
    RESUME_REFUSED = "resume_refused"  #: it would not continue the conversation
    AUTH = "auth"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The harness's own word that a write is in the session's context."""

    kind: str
    reference: str
    turn_id: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one turn, as the harness counts them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """`retry_at` is seconds since the epoch; `retrying` says the harness itself tries again."""

    error: ErrorClass
    message: str
    status: int | None = None
    retry_at: float | None = None
    retrying: bool = False


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The harness has started and can take input. `conversation` is its own id, for resume."""

    type: ClassVar[str] = "session.ready"
    conversation: str
    version: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Idle:
    """The boundary: the harness waits for input now, with nothing queued in it."""

    type: ClassVar[str] = "session.idle"


@dataclass(frozen=True, slots=True)
class TurnStarted:
    type: ClassVar[str] = "turn.started"
    turn_id: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The turn is over. `Idle` follows when the harness waits again, which may be later."""

    type: ClassVar[str] = "turn.ended"
    turn_id: str
    outcome: Outcome
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class ToolStarted:
    type: ClassVar[str] = "tool.started"
    tool_id: str
    name: str
    input: str  # JSON as the harness gave it, clipped
    turn_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolEnded:
    type: ClassVar[str] = "tool.ended"
    tool_id: str
    ok: bool
    output: str
    turn_id: str | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """One whole block of text, never a delta. `role` is user or assistant."""

    type: ClassVar[str] = "transcript"
    role: str
    text: str
    turn_id: str | None = None


@dataclass(frozen=True, slots=True)
class FileChanged:
    """`change` is created, modified or deleted."""

    type: ClassVar[str] = "file.changed"
    path: str
    change: str
    turn_id: str | None = None


@dataclass(frozen=True, slots=True)
class PermissionRequested:
    """The harness will not go on until somebody answers. `request_id` is what `answer` takes."""

    type: ClassVar[str] = "permission.requested"
    request_id: str
    tool: str
    detail: str


@dataclass(frozen=True, slots=True)
class PermissionResolved:
    """`decision` is allow, deny or withdrawn."""

    type: ClassVar[str] = "permission.resolved"
    request_id: str
    decision: str


@dataclass(frozen=True, slots=True)
class HarnessError:
    """An error while the turn goes on (the harness retries), or outside any turn."""

    type: ClassVar[str] = "error"
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class ErrorCleared:
    """The harness got through after it had said `HarnessError` with `retrying`."""

    type: ClassVar[str] = "error.cleared"


@dataclass(frozen=True, slots=True)
class Proven:
    """The write is in the session's context. Emitted once per write."""

    type: ClassVar[str] = "write.proven"
    write_id: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Refused:
    """The harness showed that the write is not in its context and never will be by itself.

    `retry` true: the same write may go in again at a boundary (a steer that an interrupt swallowed).
    False: it would be refused again (too large, blocked by a hook of the user).
    """

    type: ClassVar[str] = "write.refused"
    write_id: str
    reason: str
    retry: bool


@dataclass(frozen=True, slots=True)
class HumanTyping:
    """A human has unsent input in the session (`active`), or no longer has."""

    type: ClassVar[str] = "human.typing"
    active: bool
    client: str | None = None


@dataclass(frozen=True, slots=True)
class HumanInput:
    """A person typed. `kind` is text, submit, interrupt, key or paste; what it was is nobody's
    business. One event while the same kind goes on, at most one a second."""

    type: ClassVar[str] = "human.input"
    client: str
    kind: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know: `code` is stable (log.gap, log.stopped, turn.stalled, …)."""

    type: ClassVar[str] = "notice"
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The harness process is gone. Written by the runtime from the holder's record, not by drivers."""

    type: ClassVar[str] = "session.exited"
    code: int | None
    signal: int | None
    exit_class: ExitClass
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over for good; what still waited has failed with `reason`."""

    type: ClassVar[str] = "session.ended"
    reason: str


Event = (
    SessionReady
    | Idle
    | TurnStarted
    | TurnEnded
    | ToolStarted
    | ToolEnded
    | Transcript
    | FileChanged
    | PermissionRequested
    | PermissionResolved
    | HarnessError
    | ErrorCleared
    | Proven
    | Refused
    | HumanTyping
    | HumanInput
    | Notice
    | Exited
    | Ended
)
