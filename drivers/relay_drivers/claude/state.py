"""What has to be remembered between two lines, and across a crash of the supervisor."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

if TYPE_CHECKING:
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
    opened: bool = False  #: a turn began after it went in, perhaps by it
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
class Fault:
    """What Claude itself wrote about an error of its endpoint."""

    name: str
    status: int | None = None


@dataclass(slots=True)
class State:
    conversation: str
    model: str | None = None
    version: str | None = None
    ready: bool = False
    cli: str = ""  #: Claude's own word: idle, running, requires_action; empty before any
    announces: bool = False  #: it says which messages it reads (`command_lifecycle`)
    boundary: bool = False  #: our last word was `Idle`
    turn: str | None = None  #: id of the running turn
    retrying: bool = False
    cost: float = 0.0  #: total of the conversation or process so far, in dollars
    resets_at: float | None = None
    fault: Fault | None = None  #: of the running turn
    requests: dict[str, str] = field(default_factory=dict)  #: open ones, to their tool use
    tools: dict[str, list[str]] = field(default_factory=dict)  #: running ones: name, path or ""
    agents: list[str] = field(default_factory=list)  #: subagents in the background
    writes: dict[str, Write] = field(default_factory=dict)  #: by the id Claude knows
    burnt: dict[str, int] = field(default_factory=dict)  #: write ids, times taken and dropped
    proven: list[str] = field(default_factory=list)  #: the last ones, newest last
    garbage: int = 0

    def to_json(self) -> dict[str, Json]:
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Json) -> State:
        """Raises `ValueError` when `saved` is not what `to_json` gave. Unknown names are ignored."""
        return _STATE.validate_python(saved)


_STATE: Final = TypeAdapter(State)


def alias(write_id: str, number: int) -> str:
    """The `number`th id under which a write goes in; 0 is its own."""
    if number == 0:
        return write_id
    return str(uuid.uuid5(uuid.UUID(write_id), str(number)))


def aliases(write_id: str) -> tuple[str, ...]:
    """Every id under which a write may be in the record."""
    return tuple(alias(write_id, number) for number in range(MAX_ALIASES + 1))


__all__ = [
    "MAX_ALIASES",
    "MAX_PROVEN",
    "MAX_TOOLS",
    "MAX_WRITES",
    "State",
    "Write",
    "alias",
    "aliases",
]
