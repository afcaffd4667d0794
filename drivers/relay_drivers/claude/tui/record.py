"""What a line of Claude's record says, as a value. Pure.

The record (see `..transcript`) has everything that is in the conversation, in order, 0.1 s after it
happened. What is said here of a line is None when it says nothing that matters, or in a way that is
not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay_runtime.events import Usage, clip

from ..reading import plain, tool_done, tool_use

if TYPE_CHECKING:
    from ..observations import ToolDone, ToolUse

Fields = Mapping[str, object]

_INTERRUPTED: Final = "[Request interrupted by user"
_BLOCKED: Final = "UserPromptSubmit operation blocked by hook"
#: A line without one of these says nothing to us; those of requests have hundreds of KB.
_KINDS: Final = (
    *(b'"type":"user"', b'"type":"assistant"', b'"type":"system"'),
    *(b'"type":"queue-operation"', b'"type":"queued_command"'),
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` was sent by somebody; `opens`: a turn begins with it. Commands of Claude do not."""

    uuid: str
    prompt: str
    text: str
    opens: bool


@dataclass(frozen=True, slots=True)
class Absorbed:
    """`text` entered the running turn."""

    uuid: str
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """Blocks of an answer; several lines may be of one `message`, with the same usage."""

    message: str
    texts: tuple[str, ...]
    tools: tuple[ToolUse, ...]
    usage: Usage
    synthetic: bool
    error: str | None
    status: int | None
    version: str


@dataclass(frozen=True, slots=True)
class Results:
    prompt: str
    results: tuple[ToolDone, ...]


@dataclass(frozen=True, slots=True)
class Interrupted:
    """By a person, or by us."""


@dataclass(frozen=True, slots=True)
class Done:
    """The turn is over; it was not interrupted."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A hook of the user refused what was sent."""

    text: str


@dataclass(frozen=True, slots=True)
class Queued:
    """`change` is how many more inputs wait in Claude's own queue now; None: none waits."""

    change: int | None


Line = Prompt | Absorbed | Said | Results | Interrupted | Done | Blocked | Queued


def read(line: bytes) -> Line | None:
    if not any(kind in line for kind in _KINDS):
        return None
    try:
        entry: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or entry.get("isSidechain") is True:
        return None
    match entry.get("type"):
        case "user":
            return _user(entry)
        case "assistant":
            return _said(entry)
        case "attachment":
            return _attachment(entry)
        case "system":
            return _system(entry)
        case "queue-operation":
            change = _QUEUE.get(_text(entry, "operation"))
            return Queued(change) if change is not None else Queued(None)
    return None


_QUEUE: Final = {"enqueue": 1, "dequeue": -1, "remove": -1}


def _user(entry: Fields) -> Line | None:
    content = _fields(entry, "message").get("content")
    blocks = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    result = _fields(entry, "toolUseResult")
    done = tuple(tool_done(b, result) for b in blocks if b.get("type") == "tool_result")
    prompt = _text(entry, "promptId")
    if done:
        return Results(prompt, done)
    text = plain(content)
    if text.startswith(_INTERRUPTED):
        return Interrupted()
    opens = bool(prompt) and entry.get("isMeta") is not True and bool(_fields(entry, "origin"))
    return Prompt(_text(entry, "uuid"), prompt, text, opens)


def _said(entry: Fields) -> Line:
    body = _fields(entry, "message")
    content = body.get("content")
    blocks = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    usage = _fields(body, "usage")
    status = entry.get("apiErrorStatus")
    wrong = entry.get("isApiErrorMessage") is True
    return Said(
        _text(body, "id"),
        texts=tuple(clip(_text(b, "text")) for b in blocks if b.get("type") == "text"),
        tools=tuple(tool_use(b) for b in blocks if b.get("type") == "tool_use"),
        usage=Usage(
            _count(usage, "input_tokens") + _count(usage, "cache_creation_input_tokens"),
            _count(usage, "output_tokens"),
            _count(usage, "cache_read_input_tokens"),
        ),
        synthetic=_text(body, "model") == "<synthetic>",
        error=(_text(entry, "error") or "unknown") if wrong else None,
        status=status if isinstance(status, int) else None,
        version=_text(entry, "version"),
    )


def _attachment(entry: Fields) -> Line | None:
    attachment = _fields(entry, "attachment")
    if attachment.get("type") != "queued_command":
        return None
    return Absorbed(_text(entry, "uuid"), plain(attachment.get("prompt")))


def _system(entry: Fields) -> Line | None:
    if entry.get("subtype") == "turn_duration":
        return Done()
    text = _text(entry, "content")
    return Blocked(text) if text.startswith(_BLOCKED) else None


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _fields(fields: Fields, name: str) -> Fields:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _count(fields: Fields, name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0


__all__ = [
    "Absorbed",
    "Blocked",
    "Done",
    "Interrupted",
    "Line",
    "Prompt",
    "Queued",
    "Results",
    "Said",
    "read",
]
