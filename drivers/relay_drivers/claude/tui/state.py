"""What has to be remembered between two things that were heard, and across a crash."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from relay_runtime.contract import Json

#: Tools, requests and turns that are remembered; a turn has a few at once.
MAX_OPEN: Final = 256
MAX_ENDED: Final = 8


@dataclass(slots=True)
class Ask:
    """A request for permission that is open. `offset`: the hook that may answer it; None: none."""

    call: str
    offset: int | None = None
    answered: bool = False


@dataclass(slots=True)
class Fault:
    """What Claude wrote instead of an answer."""

    name: str
    status: int | None
    text: str


@dataclass(slots=True)
class Tokens:
    input: int = 0
    output: int = 0
    cached: int = 0


@dataclass(slots=True)
class State:
    """`hooks` and `at` are the bytes of the hooks log and of the record not consumed yet."""

    conversation: str
    hooks: int
    out: int = 0  #: where the terminal's output of this process begins
    record: str = ""  #: path; empty before Claude has named it
    at: int = 0
    model: str | None = None
    version: str | None = None
    began: bool = False  #: Claude's SessionStart hook has come
    ready: bool = False
    boundary: bool = False  #: our last word was `Idle`
    turn: str | None = None
    prompt: str = ""  #: the last id that the record gave to an input
    ended: list[str] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)  #: turns in which the model has said something
    queued: int = 0  #: inputs in Claude's own queue
    stopped: bool = False  #: since the turn began, Claude said that it is over
    interrupted: bool = False  #: since the turn began, somebody pressed a key that stops it
    fault: Fault | None = None
    message: str = ""  #: the last one of the model, whose tokens are `counted`
    counted: Tokens = field(default_factory=Tokens)
    spent: Tokens = field(default_factory=Tokens)  #: by the messages before it in this turn
    tools: dict[str, list[str]] = field(default_factory=dict)  #: in the record: name, path or ""
    running: dict[str, str] = field(default_factory=dict)  #: tools by their hooks, to their calls
    asks: dict[str, Ask] = field(default_factory=dict)
    drafting: bool = False
    blocked: bool = False  #: it only counts as a draft: there was no way around it
    person: str | None = None
    typed_at: float = 0.0  #: seconds since the epoch
    typed_offset: int = -1  #: in the hooks log, of the last line about a person
    seen: dict[str, list[str]] = field(default_factory=dict)  #: writes in the record: line, turn
    waiter: int | None = None  #: the hook that can wake Claude
    answers: list[int] = field(default_factory=list)  #: start-up dialogues answered by the profile
    dialogue: str | None = None  #: the request id of the start-up dialogue that is open
    asked: str = ""  #: what it says
    dialogues: int = 0

    def to_json(self) -> dict[str, Json]:
        return {"format": _FORMAT, "state": asdict(self)}

    @classmethod
    def from_json(cls, saved: Json) -> State:
        """Raises `ValueError` when `saved` was not written by this driver."""
        match saved:
            case {"format": "tui-1", "state": state}:
                return _STATE.validate_python(state)
        raise ValueError("the checkpoint of this claude session has an unknown format")


_FORMAT: Final = "tui-1"
_STATE: Final = TypeAdapter(State)

__all__ = ["MAX_ENDED", "MAX_OPEN", "Ask", "Fault", "State", "Tokens"]
