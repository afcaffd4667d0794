"""The items of a codex thread that are events for us: tools, files, texts. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from relay_runtime.events import FileChanged, ToolEnded, ToolStarted, clip

from .read import Obj, number, objects, sub, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from relay_runtime.contract import Json

#: What marks an input of ours. Clients of a person give random ids, so theirs never look like this.
OURS: Final = "relay:"

_CHANGES: Final = {"add": "created", "update": "modified", "delete": "deleted"}


def client_id(write_id: str) -> str:
    """The id under which codex keeps the write: on its user message, and as trigger of its turn."""
    return OURS + write_id


def write_of(item: Obj) -> str | None:
    """The write that this user message is, when it is one of ours."""
    given = text(item, "clientId")
    return given.removeprefix(OURS) if given.startswith(OURS) else None


def said(item: Obj) -> str:
    """The text of a message; for what is not text, its kind in brackets."""
    if text(item, "type") == "agentMessage":
        return text(item, "text")
    parts = [
        text(part, "text") if text(part, "type") == "text" else f"[{text(part, 'type')}]"
        for part in objects(item, "content")
    ]
    return "\n".join(parts)


def started(item: Obj, turn_id: str) -> ToolStarted | None:
    """None: the item is no tool call."""
    described = _describe(item)
    if described is None:
        return None
    name, given = described
    shown = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return ToolStarted(text(item, "id"), name, clip(shown), turn_id)


def ended(item: Obj, turn_id: str) -> ToolEnded:
    """Of an item that `started` knows and codex says is complete."""
    output = _OUTPUTS.get(text(item, "type"), _no_output)(item)
    return ToolEnded(text(item, "id"), _succeeded(item), clip(output), turn_id)


def file_changes(item: Obj, turn_id: str) -> list[FileChanged]:
    """The files that a completed item changed."""
    if text(item, "type") != "fileChange" or text(item, "status") != "completed":
        return []
    changes = []
    for change in objects(item, "changes"):
        kind = sub(change, "kind")
        path, moved = text(change, "path"), text(kind, "move_path")
        changes.append(FileChanged(path, _CHANGES.get(text(kind, "type"), "modified"), turn_id))
        if moved:
            changes[-1] = FileChanged(path, "deleted", turn_id)
            changes.append(FileChanged(moved, "created", turn_id))
    return changes


def runs_on(item: Obj) -> bool:
    """Whether a process may go on with this item when its turn is over."""
    return text(item, "type") == "commandExecution" and bool(text(item, "processId"))


def _describe(item: Obj) -> tuple[str, Json] | None:
    kind = text(item, "type")
    if kind == "commandExecution":
        return "shell", {"command": text(item, "command"), "cwd": text(item, "cwd")}
    if kind == "fileChange":
        return "apply_patch", [dict(change) for change in objects(item, "changes")]
    if kind == "mcpToolCall":
        return f"mcp__{text(item, 'server')}__{text(item, 'tool')}", item.get("arguments")
    if kind == "dynamicToolCall":
        space = text(item, "namespace")
        name = text(item, "tool")
        return f"{space}__{name}" if space else name, item.get("arguments")
    if kind == "collabAgentToolCall":
        return text(item, "tool"), {"prompt": text(item, "prompt")}
    if kind == "webSearch":
        return "web_search", {"query": text(item, "query")}
    return None


def _succeeded(item: Obj) -> bool:
    status, code = text(item, "status"), number(item, "exitCode")
    if code is not None:
        return code == 0
    return status in ("completed", "")  # some kinds have no status: they end or they do not


def _no_output(item: Obj) -> str:
    return text(item, "status")


def _command_output(item: Obj) -> str:
    said = text(item, "aggregatedOutput")
    return said or ("declined" if text(item, "status") == "declined" else "")


def _mcp_output(item: Obj) -> str:
    if failed := text(sub(item, "error"), "message"):
        return failed
    parts = [_part(part) for part in objects(sub(item, "result"), "content")]
    return "\n".join(part for part in parts if part)


def _dynamic_output(item: Obj) -> str:
    return "\n".join(filter(None, map(_part, objects(item, "contentItems"))))


def _part(part: Obj) -> str:
    kind = text(part, "type")
    return text(part, "text") or (f"[{kind}]" if kind else "")


_OUTPUTS: Final[Mapping[str, Callable[[Obj], str]]] = {
    "commandExecution": _command_output,
    "mcpToolCall": _mcp_output,
    "dynamicToolCall": _dynamic_output,
}


__all__ = [
    "OURS",
    "client_id",
    "ended",
    "file_changes",
    "runs_on",
    "said",
    "started",
    "write_of",
]
