"""What a driver must know again after `kill -9` of the supervisor, as JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay_runtime.events import Outcome

from . import usage
from .protocol import OpenTool, Thread
from .read import Obj, number, obj, sub, text, texts

if TYPE_CHECKING:
    from datetime import tzinfo

    from relay_runtime.contract import Json

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
        "empty": thread.empty,
        "ended": list(thread.ended),
        "told": list(thread.told),
        "tools": {i: [tool.turn_id, tool.runs_on] for i, tool in thread.tools.items()},
        "writes": thread.writes.dump(),
        "asked": dict(thread.asks.told),
        "total": usage.dump(thread.meter.total),
        "base": usage.dump(thread.meter.base),
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
    outcome = text(saved, "outcome")
    thread.outcome = Outcome(outcome) if outcome in tuple(Outcome) else Outcome.COMPLETED
    thread.empty = saved.get("empty") is not False
    thread.ended.extend(texts(saved, "ended"))
    thread.told.extend(texts(saved, "told"))
    thread.tools.update(_tools(sub(saved, "tools")))
    thread.writes.load(sub(saved, "writes"))
    thread.asks.told.update({r: str(decision) for r, decision in sub(saved, "asked").items()})
    thread.meter.total = usage.load(saved.get("total"))
    thread.meter.base = usage.load(saved.get("base"))
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


__all__ = ["dump", "load"]
