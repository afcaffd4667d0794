"""Plays recordings of the real `codex app-server` to the codex driver's protocol.

See `tests/recordings/codex/record.py` for what they are.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from relay_drivers.codex import checkpoint
from relay_drivers.codex.approvals import ask
from relay_drivers.codex.history import Rollout, scan
from relay_drivers.codex.protocol import Thread
from relay_drivers.codex.read import Obj, number, obj, objects, sub, text
from relay_runtime.contract import Entry
from relay_runtime.events import Event, ToolEnded, ToolStarted, TurnEnded

if TYPE_CHECKING:
    from collections.abc import Iterable

RECORDINGS = Path(__file__).parents[1] / "recordings" / "codex"
NAMES = sorted(path.name.removesuffix(".lists.json") for path in RECORDINGS.glob("*.lists.json"))
E = TypeVar("E")


class Player:
    """The shell around the protocol: commits nothing, asks nobody."""

    def __init__(self, name: str) -> None:
        (lists,) = read(f"{name}.lists.json")
        self.turns = [*objects(lists, "turns")][::-1]
        self.entries = [*objects(lists, "items")][::-1]
        self.messages = read(f"{name}.jsonl")
        self.rollout = scan((RECORDINGS / f"{name}.rollout.jsonl").read_bytes().splitlines())
        self.thread = Thread(text(lists, "thread"), idle_said=True)
        self.events: list[Event] = []

    def hand(self, write_id: str, entry: Entry = Entry.NEXT_TURN) -> None:
        self.thread.writes.hand(write_id, entry)

    def play(self, messages: Iterable[Obj] | None = None) -> Player:
        for message in self.messages if messages is None else messages:
            self.message(message)
        return self

    def message(self, message: Obj) -> None:
        method, params = text(message, "method"), sub(message, "params")
        at = (number(message, "emittedAtMs") or 0) / 1000
        rpc_id = message.get("id")
        if isinstance(rpc_id, int):
            if (asked := ask(rpc_id, method, params)) is not None:
                self.events += self.thread.request(asked)
            return
        self.events += self.thread.observe(method, params, at)
        if self.thread.boundary:
            self.events += self.thread.say_idle()

    def crash(self) -> None:
        """All that is left is the checkpoint, as a journal keeps it."""
        saved = json.loads(json.dumps(checkpoint.dump(self.thread, "/rollout.jsonl")))
        loaded = checkpoint.load(saved, None)
        assert loaded is not None
        self.thread, path = loaded
        assert path == "/rollout.jsonl"

    def catch_up(self, rollout: Rollout | None = None) -> None:
        """Reads the history as it is at the end of the recording."""
        record = rollout or self.rollout
        turns = self._missed(self.turns)
        entries = [entry for entry in self.entries if not self.thread.knows_item(entry)]
        self.events += self.thread.catch_up(turns, entries, record.usage, record.total)
        self.events += self.thread.asks.only([])

    def _missed(self, turns: list[Obj]) -> list[Obj]:
        missed: list[Obj] = []
        for turn in reversed(turns):
            if self.thread.knows_turn(turn):
                break
            missed.append(turn)
            if text(turn, "id") == self.thread.turn:
                break
        return missed[::-1]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def told(self) -> Counter[str]:
        """What was said, but for times: two ways to hear of the same must say the same."""
        return Counter(map(_told, self.events))


def _told(event: Event) -> str:
    if isinstance(event, TurnEnded) and event.error is not None:
        return f"ended {event.turn_id} {event.outcome} {event.usage} {event.error.error}"
    return repr(event)


def read(name: str) -> list[Obj]:
    lines = (RECORDINGS / name).read_text("utf-8").splitlines()
    return [obj(json.loads(line)) for line in lines]


def tools(player: Player) -> list[tuple[str, bool]]:
    """Tool calls by how they ended. Every one that ended has begun, once."""
    begun = [event.tool_id for event in player.of(ToolStarted)]
    ended = [event.tool_id for event in player.of(ToolEnded)]
    assert sorted(begun) == sorted(ended) and len(set(begun)) == len(begun)
    names = {event.tool_id: event.name for event in player.of(ToolStarted)}
    return [(names[event.tool_id], event.ok) for event in player.of(ToolEnded)]
