"""From a line of Claude's stdout to an observation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from relay_runtime.events import clip

from .observations import (
    AgentOver,
    Agents,
    AgentStarted,
    Answered,
    Asked,
    Blocked,
    Echo,
    Ended,
    Garbage,
    Lifecycle,
    Limited,
    Observation,
    Opened,
    Responded,
    Retrying,
    Spoke,
    StateChanged,
    ToolDone,
    ToolsDone,
    ToolUse,
    Withdrawn,
)

Fields = Mapping[str, object]

#: Tools that change a file, and the argument that names it.
_FILE_TOOLS: Final = {
    "Write": "file_path",
    "Edit": "file_path",
    "MultiEdit": "file_path",
    "NotebookEdit": "notebook_path",
}
_COST: Final = re.compile(r"cost:\s*\$([\d,]*\.?\d+)")
_BLOCKED: Final = "UserPromptSubmit operation blocked by hook:"
#: Background tasks that do not keep Claude in `running` after the turn that started them.
_DETACHED: Final = frozenset({"local_bash", "monitor"})


def observe(line: bytes) -> Observation | None:
    """What `line` says, or None when it says nothing that matters here."""
    try:
        message: object = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        return Garbage(clip(line.decode("utf-8", "replace").strip(), 200))
    read = _READERS.get(_text(message, "type"))
    return read(message) if read is not None else None


# --- by type ------------------------------------------------------------------------------------------


def _system(message: Fields) -> Observation | None:
    read = _SYSTEM.get(_text(message, "subtype"))
    return read(message) if read is not None else None


def _state(message: Fields) -> Observation:
    return StateChanged(_text(message, "uuid"), _text(message, "state"))


def _init(message: Fields) -> Observation:
    model = _text(message, "model") or None
    return Opened(_text(message, "uuid"), _text(message, "session_id"), model)


def _lifecycle(message: Fields) -> Observation:
    command, state = _text(message, "command_uuid"), _text(message, "state")
    return Lifecycle(_text(message, "uuid"), command, state)


def _assistant(message: Fields) -> Observation:
    body = _fields(message, "message")
    blocks = [block for block in _list(body, "content") if isinstance(block, dict)]
    return Spoke(
        _text(message, "uuid"),
        sub=_is_sub(message),
        texts=tuple(clip(_text(b, "text")) for b in blocks if b.get("type") == "text"),
        tools=tuple(tool_use(b) for b in blocks if b.get("type") == "tool_use"),
        synthetic=_text(body, "model") == "<synthetic>",
        error=_text(message, "error") or None,
        status=_integer(message, "api_error_status"),
    )


def tool_use(block: Fields) -> ToolUse:
    name, given = _text(block, "name"), _fields(block, "input")
    path = _text(given, _FILE_TOOLS[name]) if name in _FILE_TOOLS else ""
    return ToolUse(_text(block, "id"), name, clip(_json(given)), path or None)


def _user(message: Fields) -> Observation | None:
    body = _fields(message, "message")
    if message.get("isReplay") is True:
        fresh = bool(_text(message, "timestamp"))
        return Echo(_text(message, "uuid"), clip(plain(body.get("content"))), fresh)
    blocks = [block for block in _list(body, "content") if isinstance(block, dict)]
    done = [
        tool_done(block, _fields(message, "tool_use_result"))
        for block in blocks
        if block.get("type") == "tool_result"
    ]
    return ToolsDone(tuple(done)) if done else None


def tool_done(block: Fields, result: Fields) -> ToolDone:
    """`result` is what Claude itself keeps of the call."""
    output = plain(block.get("content"))
    created = _text(result, "type") == "create"
    return ToolDone(
        _text(block, "tool_use_id"),
        ok=block.get("is_error") is not True,
        output=clip(output),
        created=created or output.startswith("File created"),  # all that subagents say
    )


def _result(message: Fields) -> Observation:
    usage = _fields(message, "usage")
    errors = [error for error in _list(message, "errors") if isinstance(error, str)]
    return Ended(
        _text(message, "uuid"),
        error=message.get("is_error") is True,
        subtype=_text(message, "subtype"),
        reason=_text(message, "terminal_reason") or None,
        status=_integer(message, "api_error_status"),
        text=_text(message, "result") or "; ".join(errors),
        total_cost=_number(message, "total_cost_usd"),
        input_tokens=_count(usage, "input_tokens") + _count(usage, "cache_creation_input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cached_tokens=_count(usage, "cache_read_input_tokens"),
        queued=_count(message, "queued_turn_count"),
    )


def _api_retry(message: Fields) -> Observation:
    delay = _number(message, "retry_delay_ms") or 0.0
    return Retrying(
        delay / 1000, _integer(message, "error_status"), _text(message, "error") or None
    )


def _rate_limit(message: Fields) -> Observation:
    info = _fields(message, "rate_limit_info")
    rejected = _text(info, "status") == "rejected"
    return Limited(_number(info, "resetsAt") if rejected else None)


def _control_request(message: Fields) -> Observation:
    request = _fields(message, "request")
    given = _fields(request, "input")
    return Asked(
        _text(message, "request_id"),
        subtype=_text(request, "subtype"),
        tool=_text(request, "tool_name"),
        tool_use_id=_text(request, "tool_use_id"),
        detail=clip(_json(given), 2000),
    )


def _control_cancel(message: Fields) -> Observation:
    return Withdrawn(_text(message, "request_id"))


def _control_response(message: Fields) -> Observation:
    response = _fields(message, "response")
    request_id = _text(response, "request_id")
    body = _fields(response, "response")
    if "behavior" in body:
        return Answered(request_id, _text(body, "behavior") == "allow")
    models = [model for model in _list(body, "models") if isinstance(model, dict)]
    cost = _COST.search(_text(body, "text"))
    cancelled = body.get("cancelled")
    return Responded(
        request_id,
        ok=_text(response, "subtype") == "success",
        state=_text(body, "session_state") or None,
        version=_text(body, "claude_code_version") or _text(body, "version") or None,
        model=(_text(models[0], "resolvedModel") or None) if models else None,
        cost=float(cost[1].replace(",", "")) if cost else None,
        cancelled=cancelled if isinstance(cancelled, bool) else None,
    )


def _informational(message: Fields) -> Observation | None:
    text = _text(message, "content")
    if not text.startswith(_BLOCKED):
        return None
    outcome = _fields(message, "prompt_submit_outcome")
    told = text.removeprefix(_BLOCKED).partition("Original prompt:")[0].strip()
    return Blocked(text, clip(_text(outcome, "reason") or told, 500))


def _tasks(message: Fields) -> Observation:
    tasks = [task for task in _list(message, "tasks") if isinstance(task, dict)]
    ids = (_text(task, "task_id") for task in tasks if _holds(task))
    return Agents(frozenset(ids))


def _task_started(message: Fields) -> Observation | None:
    return AgentStarted(_text(message, "task_id")) if _holds(message) else None


def _holds(task: Fields) -> bool:
    return _text(task, "task_type") not in _DETACHED


def _task_over(message: Fields) -> Observation:
    return AgentOver(_text(message, "task_id"))


Reader = Callable[[Fields], Observation | None]

_SYSTEM: Final[Mapping[str, Reader]] = {
    "session_state_changed": _state,
    "init": _init,
    "api_retry": _api_retry,
    "informational": _informational,
    "background_tasks_changed": _tasks,
    "task_started": _task_started,
    "task_notification": _task_over,
}

_READERS: Final[Mapping[str, Reader]] = {
    "system": _system,
    "command_lifecycle": _lifecycle,
    "assistant": _assistant,
    "user": _user,
    "result": _result,
    "rate_limit_event": _rate_limit,
    "control_request": _control_request,
    "control_cancel_request": _control_cancel,
    "control_response": _control_response,
}


# --- by field -----------------------------------------------------------------------------------------


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _fields(fields: Fields, name: str) -> Fields:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _list(fields: Fields, name: str) -> list[object]:
    value = fields.get(name)
    return value if isinstance(value, list) else []


def _number(fields: Fields, name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else None


def _integer(fields: Fields, name: str) -> int | None:
    value = fields.get(name)
    return value if isinstance(value, int) else None


def _count(fields: Fields, name: str) -> int:
    return _integer(fields, name) or 0


def plain(content: object) -> str:
    """The text of a message's content: a string, or blocks of which those with text count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(_text(block, "text") for block in content if isinstance(block, dict))


def _is_sub(message: Fields) -> bool:
    return message.get("parent_tool_use_id") is not None


def _json(fields: Fields) -> str:
    return json.dumps(fields, ensure_ascii=False)


__all__ = ["observe", "plain", "tool_done", "tool_use"]
