"""What OpenCode's server says, as values: payloads of its event stream and of its records.

Pure. `parse` takes one event of `/event`; `read_message` one element of a message list, which says
the same things at rest. What a payload lacks or spells unexpectedly is left out, never an error: an
event we cannot read must not end a session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay_runtime.events import MAX_TEXT, Usage, clip

if TYPE_CHECKING:
    from relay_runtime.contract import Json

#: Longest text of an error: it is shown in tables and receipts.
MAX_REASON = 500

_MESSAGE, _PART = "msg_relay_", "prt_relay_"


def message_id(write_id: str) -> str:
    """The id under which a write is stored. Ids are global in OpenCode's database."""
    return _MESSAGE + write_id


def part_id(write_id: str) -> str:
    """Of the one text part of a write; the same every time, so that a repeat adds no second one."""
    return _PART + write_id


def write_of(message: str) -> str | None:
    """The write that is stored as `message`, None when it is not one of ours."""
    return message.removeprefix(_MESSAGE) if message.startswith(_MESSAGE) else None


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as OpenCode names it. `retry_after` is seconds, from the endpoint's headers."""

    name: str
    message: str
    status: int | None = None
    retryable: bool = False
    retry_after: float | None = None

    @property
    def aborted(self) -> bool:
        return self.name == "MessageAbortedError"


@dataclass(frozen=True, slots=True)
class MessageSeen:
    """A message as it is now. `created` and `completed` are milliseconds since the epoch."""

    session: str
    id: str
    role: str
    created: int
    parent: str | None = None
    completed: int | None = None
    finish: str | None = None
    failure: Failure | None = None
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0

    @property
    def order(self) -> tuple[int, str]:
        """By which OpenCode itself decides what is newest."""
        return (self.created, self.id)


@dataclass(frozen=True, slots=True)
class StepBegan:
    """The model has begun to answer."""

    session: str
    message: str


@dataclass(frozen=True, slots=True)
class TextSeen:
    """`done` false: still being written. Text of OpenCode's own making comes empty."""

    session: str
    message: str
    id: str
    text: str
    done: bool


@dataclass(frozen=True, slots=True)
class Change:
    path: str
    change: str  #: created, modified or deleted


@dataclass(frozen=True, slots=True)
class ToolSeen:
    """`status` is pending, running, completed or error; `ok` counts once it has ended."""

    session: str
    message: str
    id: str
    tool: str
    status: str
    input: str
    output: str
    ok: bool
    changes: tuple[Change, ...] = ()

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "error")


@dataclass(frozen=True, slots=True)
class PatchSeen:
    """Files that a step left different, by OpenCode's snapshots (if the user has them on)."""

    session: str
    message: str
    id: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StatusSeen:
    """`kind` is busy, idle or retry; a retry comes at `at`, milliseconds since the epoch."""

    session: str
    kind: str
    message: str = ""
    at: int | None = None
    limited: bool = False  #: a usage limit of the account


@dataclass(frozen=True, slots=True)
class ErrorSeen:
    session: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Asked:
    """A permission request, or a question (`question` true). `message` is the step that waits."""

    session: str
    id: str
    tool: str
    detail: str
    question: bool = False
    message: str | None = None
    count: int = 1  #: of questions asked at once


@dataclass(frozen=True, slots=True)
class Answered:
    session: str
    id: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Removed:
    session: str
    message: str


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """A session was created; with a `parent` it is a subagent's."""

    id: str
    parent: str | None


Said = (
    MessageSeen
    | StepBegan
    | TextSeen
    | ToolSeen
    | PatchSeen
    | StatusSeen
    | ErrorSeen
    | Asked
    | Answered
    | Removed
    | SessionSeen
)


# --- reading ----------------------------------------------------------------------------------------


def decode(data: bytes) -> Said | None:
    """One event of the stream. None: nothing for us, or not readable."""
    try:
        payload: Json = json.loads(data)
    except ValueError:
        return None
    return parse(payload)


def parse(payload: Json) -> Said | None:
    said = text_at(payload, "properties", "sessionID")
    properties = at(payload, "properties")
    match text_at(payload, "type"):
        case "message.updated":
            return _message(at(properties, "info"))
        case "message.part.updated":
            return _part(at(properties, "part"))
        case "session.status":
            return _status(said, at(properties, "status"))
        case "session.error" if said:
            return ErrorSeen(said, failure(at(properties, "error")))
        case "permission.asked":
            return permission(properties)
        case "question.asked":
            return question(properties)
        case "permission.replied" if said:
            allowed = text_at(properties, "reply") in ("once", "always")
            return Answered(said, text_at(properties, "requestID"), allowed)
        case "question.replied" if said:
            return Answered(said, text_at(properties, "requestID"), True)
        case "question.rejected" if said:
            return Answered(said, text_at(properties, "requestID"), False)
        case "message.removed" if said:
            return Removed(said, text_at(properties, "messageID"))
        case "session.created":
            return session(at(properties, "info"))
    return None


def read_message(element: Json) -> tuple[MessageSeen, tuple[Said, ...]] | None:
    """A message and its parts, from a message list."""
    message = _message(at(element, "info"))
    if message is None:
        return None
    parts = (_part(part) for part in items_at(element, "parts"))
    return message, tuple(part for part in parts if part is not None)


def session(info: Json) -> SessionSeen | None:
    found = text_at(info, "id")
    return SessionSeen(found, text_at(info, "parentID") or None) if found else None


def permission(request: Json) -> Asked | None:
    asked_in, found = text_at(request, "sessionID"), text_at(request, "id")
    if not asked_in or not found:
        return None
    patterns = [item for item in items_at(request, "patterns") if isinstance(item, str)]
    detail = text_at(request, "metadata", "command") or ", ".join(patterns)
    message = text_at(request, "tool", "messageID") or None
    tool = text_at(request, "permission") or "unknown"
    return Asked(asked_in, found, tool, shown(detail), message=message)


def question(request: Json) -> Asked | None:
    asked_in, found = text_at(request, "sessionID"), text_at(request, "id")
    if not asked_in or not found:
        return None
    asked = []
    for item in items_at(request, "questions"):
        labels = [text_at(option, "label") for option in items_at(item, "options")]
        choice = f" [{' | '.join(labels)}]" if labels else ""
        asked.append(text_at(item, "question") + choice)
    message = text_at(request, "tool", "messageID") or None
    detail = shown("\n".join(asked))
    return Asked(asked_in, found, "question", detail, True, message, max(len(asked), 1))


def failure(error: Json) -> Failure:
    data = at(error, "data")
    headers = at(data, "responseHeaders")
    name = text_at(error, "name") or "UnknownError"
    return Failure(
        name=name,
        message=shown(_first_line(text_at(data, "message")) or name, MAX_REASON),
        status=int_at(data, "statusCode"),
        retryable=at(data, "isRetryable") is True,
        retry_after=_retry_after(headers),
    )


def _message(info: Json) -> MessageSeen | None:
    found, said = text_at(info, "id"), text_at(info, "sessionID")
    created = int_at(info, "time", "created")
    if not found or not said or created is None:
        return None
    error = at(info, "error")
    return MessageSeen(
        session=said,
        id=found,
        role=text_at(info, "role"),
        created=created,
        parent=text_at(info, "parentID") or None,
        completed=int_at(info, "time", "completed"),
        finish=text_at(info, "finish") or None,
        failure=failure(error) if error is not None else None,
        usage=Usage(
            input_tokens=int_at(info, "tokens", "input") or 0,
            output_tokens=int_at(info, "tokens", "output") or 0,
            cached_tokens=int_at(info, "tokens", "cache", "read") or 0,
        ),
        cost=_number(at(info, "cost")) or 0.0,
    )


def _part(part: Json) -> Said | None:
    found, said = text_at(part, "id"), text_at(part, "sessionID")
    message = text_at(part, "messageID")
    if not found or not said or not message:
        return None
    match text_at(part, "type"):
        case "text":
            own = at(part, "synthetic") is True or at(part, "ignored") is True
            text = "" if own else text_at(part, "text")
            done = int_at(part, "time", "end") is not None
            return TextSeen(said, message, found, shown(text), done)
        case "tool":
            return _tool(part, said, message, found)
        case "step-start":
            return StepBegan(said, message)
        case "patch":
            files = tuple(item for item in items_at(part, "files") if isinstance(item, str))
            return PatchSeen(said, message, found, files)
    return None


def _tool(part: Json, said: str, message: str, found: str) -> ToolSeen:
    state = at(part, "state")
    status, metadata = text_at(state, "status"), at(state, "metadata")
    given = at(state, "input")
    return ToolSeen(
        session=said,
        message=message,
        id=found,
        tool=text_at(part, "tool") or "unknown",
        status=status,
        input=shown(json.dumps(given, ensure_ascii=False)) if given is not None else "{}",
        output=shown(text_at(state, "error") or text_at(state, "output")),
        # A shell command that was aborted has no exit status, but it has the place for one.
        ok=status == "completed" and ("exit" not in _keys(metadata) or at(metadata, "exit") == 0),
        changes=tuple(_changes(metadata)) if status == "completed" else (),
    )


def _keys(value: Json) -> Iterable[str]:
    return value.keys() if isinstance(value, Mapping) else ()


_KINDS = {"add": "created", "delete": "deleted", "move": "deleted"}


def _changes(metadata: Json) -> Iterator[Change]:
    """What a tool did to files, by what it notes down: write, edit and apply_patch."""
    if (written := text_at(metadata, "filepath")) and at(metadata, "exists") is not None:
        yield Change(written, "modified" if at(metadata, "exists") is True else "created")
    elif edited := text_at(metadata, "filediff", "file"):
        yield Change(edited, "modified")
    for item in items_at(metadata, "files"):
        if path := text_at(item, "filePath"):
            yield Change(path, _KINDS.get(text_at(item, "type"), "modified"))
        if moved := text_at(item, "movePath"):
            yield Change(moved, "created")


def _status(said: str, status: Json) -> StatusSeen | None:
    kind = text_at(status, "type")
    if not said or kind not in ("busy", "idle", "retry"):
        return None
    limited = text_at(status, "action", "reason") in ("free_tier_limit", "account_rate_limit")
    message = shown(_first_line(text_at(status, "message")), MAX_REASON)
    return StatusSeen(said, kind, message, int_at(status, "next"), limited)


def _retry_after(headers: Json) -> float | None:
    """Seconds; only the forms in numbers, as a date needs a clock."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return float(text_at(headers, name)) * scale
        except ValueError:
            continue
    return None


def shown(text: str, limit: int = MAX_TEXT) -> str:
    """`text` within `limit`, and without lone surrogates, which no file or socket takes."""
    return clip(text, limit).encode("utf-8", "replace").decode()


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0].strip()


# --- JSON -------------------------------------------------------------------------------------------


def at(value: Json, *path: str) -> Json:
    """The value at `path`, None when there is no such thing."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def text_at(value: Json, *path: str) -> str:
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def items_at(value: Json, *path: str) -> Sequence[Json]:
    found = at(value, *path)
    return found if isinstance(found, Sequence) and not isinstance(found, str) else ()


def int_at(value: Json, *path: str) -> int | None:
    number = _number(at(value, *path))
    return int(number) if number is not None else None


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 2**63 else None


__all__ = [
    "MAX_REASON",
    "Answered",
    "Asked",
    "Change",
    "ErrorSeen",
    "Failure",
    "MessageSeen",
    "PatchSeen",
    "Removed",
    "Said",
    "SessionSeen",
    "StatusSeen",
    "StepBegan",
    "TextSeen",
    "ToolSeen",
    "at",
    "decode",
    "failure",
    "int_at",
    "items_at",
    "message_id",
    "parse",
    "part_id",
    "permission",
    "question",
    "read_message",
    "session",
    "shown",
    "text_at",
    "write_of",
]
