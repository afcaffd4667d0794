"""What has to be remembered between two lines, and across a crash of the supervisor."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Final

from relay_runtime.contract import Json

#: Bounds of what is remembered; one write is open at a time, the rest is slack for odd orders.
MAX_WRITES: Final = 16
MAX_PROVEN: Final = 64
#: Tools that run at once: parallel calls of the model and of its subagents.
MAX_TOOLS: Final = 256
#: A write that Claude took and dropped goes in under another id, at most this often.
MAX_ALIASES: Final = 8


@dataclass(slots=True)
class Write:
    """A message of ours that Claude has, or may have, and that is not decided yet."""

    write_id: str
    head: str = ""  #: how its text begins, empty when not known
    queued: bool = False
    started: bool = False
    echoed: bool = False
    completed: bool = False
    cancelled: bool = False
    turn_id: str | None = None

    @property
    def seen(self) -> bool:
        """Claude has said something about it, so it has read it."""
        return self.queued or self.started or self.echoed or self.completed or self.cancelled


@dataclass(slots=True)
class State:
    conversation: str
    model: str | None = None
    version: str | None = None
    ready: bool = False
    cli: str = ""  #: Claude's own word: idle, running, requires_action; empty before any
    boundary: bool = False  #: our last word was `Idle`
    turn: str | None = None  #: id of the running turn
    retrying: bool = False
    cost: float = 0.0  #: total of the conversation or process so far, in dollars
    resets_at: float | None = None
    fault: list[Json] | None = None  #: name and status of the error Claude wrote about last
    requests: dict[str, str] = field(default_factory=dict)  #: open ones, to their tool use
    tools: dict[str, list[str]] = field(default_factory=dict)  #: running ones: name, path or ""
    agents: list[str] = field(default_factory=list)  #: subagents in the background
    writes: dict[str, Write] = field(default_factory=dict)  #: by the id Claude knows
    burnt: dict[str, int] = field(default_factory=dict)  #: write ids, times taken and dropped
    proven: list[str] = field(default_factory=list)  #: the last ones, newest last
    garbage: int = 0

    def harness_id(self, write_id: str) -> str:
        """The id to write `write_id` with: Claude ignores one that it has seen in this process."""
        return alias(write_id, self.burnt.get(write_id, 0))

    def to_json(self) -> dict[str, Json]:
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Json]) -> State:
        """Raises `TypeError` or `ValueError` when `saved` is not what `to_json` gave."""
        names = {f.name for f in fields(cls)}
        state = cls(**{k: v for k, v in saved.items() if k in names})  # type: ignore[arg-type]
        if not isinstance(state.writes, Mapping):
            raise TypeError("writes must be an object")
        state.writes = {key: Write(**value) for key, value in state.writes.items()}  # type: ignore[arg-type]
        return state


def alias(write_id: str, number: int) -> str:
    """The `number`th id under which a write goes in; 0 is its own."""
    if number == 0:
        return write_id
    return str(uuid.uuid5(uuid.UUID(write_id), str(number)))


def aliases(write_id: str) -> tuple[str, ...]:
    """Every id under which a write may be in the record."""
    return tuple(alias(write_id, number) for number in range(MAX_ALIASES + 1))


__all__ = ["MAX_ALIASES", "MAX_PROVEN", "MAX_TOOLS", "MAX_WRITES", "State", "Write", "alias", "aliases"]
