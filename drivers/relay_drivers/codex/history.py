"""What codex keeps of a thread: its lists over the app-server, and the rollout file behind them.

The lists are complete to the millisecond, but need a living app-server. The rollout also tells what
a killed one left behind: a message can be in the model's context without having become an item
(codex writes the first line before the second), and then only the file shows it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from relay_runtime.events import Evidence, Usage

from .items import OURS, client_id
from .protocol import EVIDENCE, Thread
from .read import Obj, count, obj, objects, sub, text, texts
from .usage import recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .rpc import Peer

#: Small pages: an item may be a megabyte, and mostly nothing or little was missed.
PAGE: Final = 16
#: Of either list. What was missed while nobody looked is far less; codex keeps it all anyway.
MAX_PAGES: Final = 2000
#: Items told are met in the order of the history, or nearly so: two that ended in the same moment
#: may be notified in the other order. Reading goes on until this many were met.
MARGIN: Final = 8


async def missed(peer: Peer, thread: Thread) -> tuple[list[Obj], list[Obj]]:
    """Turns and item entries that `thread` has not told, oldest first."""
    turns = await _turns_back_to(peer, thread)
    met = 0
    entries: list[Obj] = []
    enough = min(MARGIN, len(thread.told))

    def told(entry: Obj) -> bool:
        nonlocal met
        if thread.knows_item(entry):
            met += 1
        else:
            entries.append(entry)
        return met >= enough > 0

    await _read_back(peer, "thread/items/list", {"threadId": thread.conversation}, told)
    return turns, entries[::-1]


async def _turns_back_to(peer: Peer, thread: Thread) -> list[Obj]:
    turns: list[Obj] = []

    def told(turn: Obj) -> bool:
        if thread.knows_turn(turn):
            return True
        turns.append(turn)
        return text(turn, "id") == thread.turn

    params: Obj = {"threadId": thread.conversation, "itemsView": "notLoaded"}
    await _read_back(peer, "thread/turns/list", params, told)
    return turns[::-1]


async def newest(peer: Peer, conversation: str) -> tuple[list[Obj], list[Obj]]:
    """The last few turns and item entries, newest first."""
    page: Obj = {"threadId": conversation, "limit": PAGE, "sortDirection": "desc"}
    turns = await peer.call("thread/turns/list", {**page, "itemsView": "notLoaded"})
    entries = await peer.call("thread/items/list", {**page, "limit": MARGIN})
    return list(objects(turns, "data")), list(objects(entries, "data"))


async def _read_back(peer: Peer, method: str, params: Obj, stop: Callable[[Obj], bool]) -> None:
    """Feed `stop` from the newest on until it returns True or there is no more."""
    cursor = ""
    for _ in range(MAX_PAGES):
        page = {**params, "limit": PAGE, "sortDirection": "desc"}
        answer = await peer.call(method, {**page, "cursor": cursor} if cursor else page)
        if any(stop(entry) for entry in objects(answer, "data")):
            return
        cursor = text(answer, "nextCursor")
        if not cursor:
            return


async def is_quiet(peer: Peer, conversation: str) -> bool:
    """Whether codex has nothing to do: no turn, and no request but the one that asks."""
    gauges = {
        text(gauge, "name"): count(gauge, "value")
        for gauge in objects(await peer.call("server/diagnostics", {}), "gauges")
    }
    busy = gauges.get("app.requests.queued", 0) + gauges.get("core.turns.active", 0)
    if busy or gauges.get("app.requests.in_flight", 1) > 1:
        return False
    newest_turn: Obj = {"threadId": conversation, "limit": 1, "itemsView": "notLoaded"}
    turns = objects(await peer.call("thread/turns/list", newest_turn), "data")
    return all(text(turn, "status") != "inProgress" for turn in turns)


async def listed(peer: Peer, conversation: str, write_id: str) -> Evidence | None:
    """The write among the newest items, which the rollout may not have yet."""
    _, entries = await newest(peer, conversation)
    for entry in entries:
        item = sub(entry, "item")
        if text(item, "clientId") == client_id(write_id):
            return Evidence(EVIDENCE, text(item, "id"), text(entry, "turnId"))
    return None


# --- the rollout ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Rollout:
    """What one reading of the file found."""

    evidence: Evidence | None = None  #: of the write that was looked for
    orphan: bool = False  #: a message whose writer is unknown came in as codex was killed
    usage: dict[str, Usage] = field(default_factory=dict)  #: by turn
    total: Usage | None = None


async def read_rollout(path: str, write_id: str | None = None) -> Rollout | None:
    """Read the rollout at `path` and look for a write in it. None: there is no such file."""

    def read() -> Rollout | None:
        try:
            with open(path, "rb") as file:
                return scan(file, write_id)
        except OSError:
            return None

    # Left alone when cancelled: it only reads.
    return await anyio.to_thread.run_sync(read, abandon_on_cancel=True)


def scan(lines: Iterable[bytes], write_id: str | None = None) -> Rollout:
    """The same from lines. Pure. Lines that cannot be read, such as a cut off last one, are none."""
    scanner = _Scanner(client_id(write_id) if write_id is not None else None)
    for line in lines:
        # Most lines are output of tools and the model: do not parse what cannot matter.
        if any(mark in line for mark in _MARKS):
            try:
                scanner.take(obj(json.loads(line)))
            except ValueError:
                continue
    return scanner.result()


_MARKS: Final = (
    b'"task_started"',
    b'"task_complete"',
    b'"turn_aborted"',
    b'"UserMessage"',
    b'"user.text"',
    b'"token_usage_record"',
    b'"token_count"',
)


class _Scanner:
    """Compares, turn by turn, the messages in the context with those that became items."""

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        self._found = Rollout()
        self._newest = ""
        # Turns and the write of ours that started each, until that write is an item.
        self._triggers: dict[str, str] = {}
        self._inputs: Counter[str] = Counter()
        self._last_input: dict[str, str] = {}
        self._ended: set[str] = set()

    def take(self, line: Obj) -> None:
        payload = sub(line, "payload")
        kind = text(payload, "type")
        turn_id = text(payload, "turn_id")
        if text(line, "type") == "token_usage_record":
            self._found.usage[turn_id] = recorded(sub(payload, "turn_token_usage"))
        elif text(line, "type") == "response_item":
            self._input(payload)
        elif kind == "token_count":
            # What a new process counts on from, and what notifications tell; not always the sum.
            self._found.total = recorded(sub(sub(payload, "info"), "total_token_usage"))
        elif kind == "task_started":
            self._newest = turn_id
            trigger = text(sub(payload, "turn_attribution"), "turn_trigger")
            if trigger.startswith(OURS):
                self._triggers[turn_id] = trigger
        elif kind in ("task_complete", "turn_aborted"):
            self._ended.add(turn_id)
        elif kind == "item_completed":
            self._item(sub(payload, "item"), turn_id)

    def _input(self, payload: Obj) -> None:
        passed = sub(payload, "internal_chat_message_metadata_passthrough")
        if text(payload, "role") == "user" and "user.text" in texts(passed, "content_item_kinds"):
            turn_id = text(passed, "turn_id")
            self._inputs[turn_id] += 1
            self._last_input[turn_id] = text(payload, "id")

    def _item(self, item: Obj, turn_id: str) -> None:
        if text(item, "type") != "UserMessage":
            return
        self._inputs[turn_id] -= 1
        if text(item, "client_id") == self._triggers.get(turn_id):
            del self._triggers[turn_id]
        if self._wanted is not None and text(item, "client_id") == self._wanted:
            self._found.evidence = Evidence(EVIDENCE, text(item, "id"), turn_id)

    def result(self) -> Rollout:
        # A turn that codex ended itself has made an item of every message it took in.
        orphans = {t: n for t, n in self._inputs.items() if n > 0 and t not in self._ended}
        if self._found.evidence is None:
            for turn_id in orphans:
                if self._wanted is not None and self._triggers.get(turn_id) == self._wanted:
                    reference = self._last_input[turn_id]
                    self._found.evidence = Evidence(EVIDENCE, reference, turn_id)
        # Only the last turn can hold a write that is in doubt now, and there one message is that of
        # the write which started it.
        known = 1 if self._newest in self._triggers else 0
        self._found.orphan = orphans.get(self._newest, 0) > known
        return self._found


__all__ = ["Rollout", "is_quiet", "listed", "missed", "newest", "read_rollout", "scan"]
