"""What a `Fold` knows, and how it goes into a checkpoint and comes back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from relay_runtime.events import ErrorClass, ErrorInfo, Usage

from .protocol import Asked, Failure, MessageSeen, at, int_at, items_at, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay_runtime.contract import Json

#: Milliseconds since the epoch and id: what OpenCode sorts messages by.
Order = tuple[int, str]


@dataclass(slots=True)
class Waiting:
    """A user message without an answer. `ran`: a turn began or went on since it was stored."""

    order: Order
    text: str
    ran: bool


@dataclass(slots=True)
class State:
    """`step` is the newest one of the running turn; earlier ones are in `usage` and `cost`."""

    mark: Order = (0, "")  #: of messages up to here everything was told
    turn: str | None = None
    busy: bool = False
    retrying: bool = False
    failure: ErrorInfo | None = None  #: said outside a step
    waiting: dict[str, Waiting] = field(default_factory=dict)
    answered: tuple[str, ...] = ()
    step: MessageSeen | None = None
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    tools: dict[str, str] = field(default_factory=dict)  #: open ones, by part id
    told: set[str] = field(default_factory=set)  #: parts and changed files of the step
    asks: dict[str, Asked] = field(default_factory=dict)
    children: tuple[str, ...] = ()

    def retire_step(self) -> None:
        """Its successor has begun, or the turn is over: all of it was told."""
        step = self.step
        if step is None:
            return
        self.usage = Usage(
            self.usage.input_tokens + step.usage.input_tokens,
            self.usage.output_tokens + step.usage.output_tokens,
            self.usage.cached_tokens + step.usage.cached_tokens,
        )
        self.cost += step.cost
        self.mark = max(self.mark, step.order)
        self.step, self.told = None, set()

    def end_turn(self) -> None:
        self.turn, self.retrying, self.failure = None, False, None
        self.usage, self.cost = Usage(), 0.0
        self.tools = {}


def dump(state: State) -> Json:
    return {
        "mark": list(state.mark),
        "turn": state.turn,
        "retrying": state.retrying,
        "failure": asdict(state.failure) if state.failure is not None else None,
        "waiting": {i: [*w.order, w.text, w.ran] for i, w in state.waiting.items()},
        "answered": list(state.answered),
        "step": asdict(state.step) if state.step is not None else None,
        "usage": asdict(state.usage),
        "cost": state.cost,
        "tools": dict(state.tools),
        "told": sorted(state.told),
        "asks": {i: asdict(ask) for i, ask in state.asks.items()},
        "children": list(state.children),
    }


def load(saved: Json) -> State:
    """The state that `dump` wrote. What is not in there starts empty."""
    state = State(mark=_order(at(saved, "mark")))
    state.turn = text_at(saved, "turn") or None
    state.retrying = at(saved, "retrying") is True
    if (failed := at(saved, "failure")) is not None:
        state.failure = _error(failed)
    state.answered = tuple(_texts(saved, "answered"))
    state.told = set(_texts(saved, "told"))
    state.children = tuple(_texts(saved, "children"))
    for found, value in _entries(saved, "waiting"):
        match value:
            case [int(created), str(order_id), str(text), bool(ran)]:
                state.waiting[found] = Waiting((created, order_id), text, ran)
    if (step := at(saved, "step")) is not None:
        state.step = _step(step)
    state.usage, state.cost = _usage(at(saved, "usage")), _number(at(saved, "cost"))
    for found, value in _entries(saved, "tools"):
        state.tools[found] = value if isinstance(value, str) else ""
    for found, value in _entries(saved, "asks"):
        state.asks[found] = _ask(value)
    return state


def _order(value: Json) -> Order:
    match value:
        case [int(created), str(found)]:
            return (created, found)
    return (0, "")


def _texts(saved: Json, key: str) -> Iterator[str]:
    return (item for item in items_at(saved, key) if isinstance(item, str))


def _entries(saved: Json, key: str) -> Iterator[tuple[str, Json]]:
    found = at(saved, key)
    if isinstance(found, Mapping):
        yield from found.items()


def _step(value: Json) -> MessageSeen:
    failed = at(value, "failure")
    return MessageSeen(
        session=text_at(value, "session"),
        id=text_at(value, "id"),
        role=text_at(value, "role"),
        created=int_at(value, "created") or 0,
        parent=text_at(value, "parent") or None,
        completed=int_at(value, "completed"),
        finish=text_at(value, "finish") or None,
        failure=_failure(failed) if failed is not None else None,
        usage=_usage(at(value, "usage")),
        cost=_number(at(value, "cost")),
    )


def _failure(value: Json) -> Failure:
    wait = at(value, "retry_after")
    return Failure(
        name=text_at(value, "name"),
        message=text_at(value, "message"),
        status=int_at(value, "status"),
        retryable=at(value, "retryable") is True,
        retry_after=_number(wait) if wait is not None else None,
    )


def _error(value: Json) -> ErrorInfo:
    named = text_at(value, "error")
    known = ErrorClass(named) if named in list(ErrorClass) else ErrorClass.OTHER
    return ErrorInfo(known, text_at(value, "message"), int_at(value, "status"))


def _usage(value: Json) -> Usage:
    return Usage(
        int_at(value, "input_tokens") or 0,
        int_at(value, "output_tokens") or 0,
        int_at(value, "cached_tokens") or 0,
    )


def _number(value: Json) -> float:
    return value if isinstance(value, int | float) else 0.0


def _ask(value: Json) -> Asked:
    return Asked(
        session=text_at(value, "session"),
        id=text_at(value, "id"),
        tool=text_at(value, "tool"),
        detail=text_at(value, "detail"),
        question=at(value, "question") is True,
        message=text_at(value, "message") or None,
        count=int_at(value, "count") or 1,
    )


__all__ = ["Order", "State", "Waiting", "dump", "load"]
