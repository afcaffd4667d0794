"""What a driver must know again after `kill -9` of the supervisor, as JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay_runtime.contract import Entry, Json
from relay_runtime.events import Outcome, Usage

from .protocol import Handed, OpenTool, Thread
from .read import Obj, count, number, obj, sub, text, texts

if TYPE_CHECKING:
    from datetime import tzinfo

#: Checkpoints of another shape are of a version that we are not; history is then taken as told.
VERSION: Final = 1


def dump(thread: Thread, rollout: str) -> Json:
    """`rollout` is the path of the file that codex keeps the conversation in."""
    return {
        "v": VERSION,
        "conversation": thread.conversation,
        "rollout": rollout,
        "turn": thread.turn,
        "outcome": thread.outcome.value,
        "ended": list(thread.ended),
        "told": list(thread.told),
        "tools": {i: [tool.turn_id, tool.runs_on] for i, tool in thread.tools.items()},
        "writes": {w: [h.entry.value, h.turn_id] for w, h in thread.writes.items()},
        "asked": dict(thread.asked),
        "total": _usage(thread.total),
        "base": _usage(thread.base),
        "empty": thread.empty,
        "retrying": thread.retrying,
        "resets_at": thread.resets_at,
    }


def load(checkpoint: Json, zone: tzinfo | None) -> tuple[Thread, str] | None:
    """Thread and rollout path. None: there is no checkpoint that this version understands."""
    saved = obj(checkpoint)
    if number(saved, "v") != VERSION or not text(saved, "conversation"):
        return None
    thread = Thread(text(saved, "conversation"), zone)
    thread.turn = text(saved, "turn") or None
    thread.outcome = _outcome(text(saved, "outcome"))
    thread.ended.extend(texts(saved, "ended"))
    thread.told.extend(texts(saved, "told"))
    thread.tools.update(_tools(sub(saved, "tools")))
    thread.writes.update(_writes(sub(saved, "writes")))
    thread.asked.update({r: str(decision) for r, decision in sub(saved, "asked").items()})
    thread.total, thread.base = _read(saved, "total"), _read(saved, "base")
    thread.empty = saved.get("empty") is not False
    thread.retrying = saved.get("retrying") is True
    thread.resets_at = number(saved, "resets_at")
    return thread, text(saved, "rollout")


def _tools(saved: Obj) -> dict[str, OpenTool]:
    tools = {}
    for item_id, tool in saved.items():
        match tool:
            case [str(turn_id), bool(runs_on)]:
                tools[item_id] = OpenTool(turn_id, runs_on)
    return tools


def _writes(saved: Obj) -> dict[str, Handed]:
    writes = {}
    for write_id, handed in saved.items():
        match handed:
            case [str(entry), turn_id] if entry in tuple(Entry):
                writes[write_id] = Handed(Entry(entry), str(turn_id) if turn_id else None)
    return writes


def _outcome(value: str) -> Outcome:
    return Outcome(value) if value in tuple(Outcome) else Outcome.COMPLETED


def _usage(usage: Usage | None) -> Json:
    if usage is None:
        return None
    return {"in": usage.input_tokens, "out": usage.output_tokens, "cached": usage.cached_tokens}


def _read(saved: Obj, key: str) -> Usage | None:
    if not isinstance(saved.get(key), dict):
        return None
    usage = sub(saved, key)
    return Usage(count(usage, "in"), count(usage, "out"), count(usage, "cached"))


__all__ = ["dump", "load"]
