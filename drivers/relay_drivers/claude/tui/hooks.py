"""What a line of the hooks log says, as a value. Pure.

Lines come from hooks of ours, and from the holder about people's input. As everywhere, a line of an
unknown kind is None.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay_runtime.events import clip

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Began:
    """SessionStart: of a new process, or of another conversation in it."""

    source: str  #: startup, resume, clear, compact
    conversation: str
    record: str
    model: str | None


@dataclass(frozen=True, slots=True)
class Prompted:
    """UserPromptSubmit: something was sent. In a running turn with the prompt id of that."""

    prompt: str


@dataclass(frozen=True, slots=True)
class ToolComes:
    """PreToolUse: Claude waits for this hook before it asks for permission or runs the tool."""

    tool_id: str
    call: str  #: the same for its request for permission


@dataclass(frozen=True, slots=True)
class ToolGone:
    """PostToolUse and PostToolUseFailure: it ran."""

    tool_id: str
    call: str


@dataclass(frozen=True, slots=True)
class Asks:
    """PermissionRequest: the dialogue is about to open, and this hook may answer it."""

    tool: str
    detail: str
    call: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Stop and StopFailure: the turn is over, unless a hook of the user has it go on."""

    failed: bool


@dataclass(frozen=True, slots=True)
class Waits:
    """A hook that can wake Claude with a message has come; it is the newest."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A person typed. `kind` is the holder's word: text, submit, interrupt, key, paste."""

    client: str
    kind: str
    at: float


Seen = Began | Prompted | ToolComes | ToolGone | Asks | Stopped | Waits | Typed


def read(line: bytes) -> Seen | None:
    try:
        fields: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    if fields.get("holder") == "input":
        return _typed(fields)
    if fields.get("mode") == "wake":
        return Waits()
    event = fields.get("hook_event_name")
    match event:
        case "SessionStart":
            model = fields.get("model")
            return Began(
                _text(fields, "source"),
                _text(fields, "session_id"),
                _text(fields, "transcript_path"),
                model if isinstance(model, str) else None,
            )
        case "UserPromptSubmit":
            return Prompted(_text(fields, "prompt_id"))
        case "PreToolUse":
            return ToolComes(_text(fields, "tool_use_id"), _call(fields))
        case "PostToolUse" | "PostToolUseFailure":
            return ToolGone(_text(fields, "tool_use_id"), _call(fields))
        case "PermissionRequest":
            given = json.dumps(fields.get("tool_input"), ensure_ascii=False)
            return Asks(_text(fields, "tool_name"), clip(given, _MAX_DETAIL), _call(fields))
        case "Stop" | "StopFailure":
            return Stopped(event == "StopFailure")
    return None


#: Of a tool's input, to be judged by people.
_MAX_DETAIL: Final = 2000


def _typed(fields: Fields) -> Typed:
    at = fields.get("at")
    seconds = float(at) if isinstance(at, int | float) else 0.0
    return Typed(_text(fields, "client"), _text(fields, "kind"), seconds)


def _call(fields: Fields) -> str:
    """The same for a request and for what comes of it."""
    called = [fields.get("tool_name"), fields.get("tool_input")]
    return hashlib.sha256(json.dumps(called, sort_keys=True).encode()).hexdigest()[:16]


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


__all__ = [
    "Asks",
    "Began",
    "Prompted",
    "Seen",
    "Stopped",
    "ToolComes",
    "ToolGone",
    "Typed",
    "Waits",
    "read",
]
