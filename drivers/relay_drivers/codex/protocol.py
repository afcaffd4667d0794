"""What codex says about one thread, as events: live notifications and missed history alike. Pure.

Rules:

1. Everything is told once. Turns and items that were told are remembered by id, the newest of them
   in the checkpoint, so the same fact may arrive twice (from the history and live) in any order.
2. A turn is over at `turn/completed`. Codex calls the thread idle some lines before that, and also
   between two turns of its own queue.
3. `boundary` is true when no turn runs and `Idle` was not said since. Whether codex goes on by
   itself with something that a person has queued in it, only codex can say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from relay_runtime.events import (
    ErrorCleared,
    Event,
    Evidence,
    HarnessError,
    Idle,
    Notice,
    Outcome,
    Proven,
    ToolEnded,
    Transcript,
    TurnEnded,
    TurnStarted,
    Usage,
    clip,
)

from . import items
from .approvals import Ask, Asks
from .errors import error_info
from .read import Obj, number, obj, sub, text
from .usage import Meter
from .writes import Writes

if TYPE_CHECKING:
    from datetime import tzinfo

#: Kind of evidence: the user message with the write's id, as codex keeps it in the thread.
EVIDENCE: Final = "codex.user_message"
#: Items and turns told, newest last. History is read back until some of these are met, so this is
#: far more than can be told between an item's entry in the history and its notification.
MAX_TOLD_ITEMS: Final = 32
MAX_TOLD_TURNS: Final = 16
#: Texts of notices already given: codex repeats some of them in every turn.
MAX_NOTICES: Final = 64
MAX_NOTICE: Final = 1000

_OUTCOMES: Final = {
    "completed": Outcome.COMPLETED,
    "interrupted": Outcome.INTERRUPTED,
    "failed": Outcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class OpenTool:
    """A tool call that has not ended. `runs_on`: a process of its own may outlive the turn."""

    turn_id: str
    runs_on: bool
    item: Obj = field(default_factory=dict)  #: to show what is asked about; not in the checkpoint


@dataclass(slots=True)
class Thread:
    """See the module. What a supervisor restart must not forget of it is in `checkpoint.dump`."""

    conversation: str
    zone: tzinfo | None = None  #: in which codex writes times
    turn: str | None = None  #: the running one
    active: bool = False  #: what codex says of the thread, a little ahead of its turns
    idle_said: bool = False
    outcome: Outcome = Outcome.COMPLETED  #: of the last turn
    empty: bool = True  #: no item in the running turn yet, or in the last one at all
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_TOLD_TURNS))
    told: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_TOLD_ITEMS))
    tools: dict[str, OpenTool] = field(default_factory=dict)
    writes: Writes = field(default_factory=Writes)
    asks: Asks = field(default_factory=Asks)
    meter: Meter = field(default_factory=Meter)
    retrying: bool = False
    resets_at: float | None = None  #: when the exhausted limit of the account resets
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_NOTICES))

    # --- what the session says -------------------------------------------------------------------

    @property
    def boundary(self) -> bool:
        """No turn runs, and `Idle` is still to be said."""
        return self.turn is None and not self.active and not self.idle_said

    def say_idle(self) -> list[Event]:
        self.idle_said = True
        return [Idle()]

    def accepted(self, write_id: str, turn_id: str) -> list[Event]:
        """Codex answered that the write is for this turn, which may be over by now."""
        self.writes.accept(write_id, turn_id)
        if turn_id not in self.ended:
            return []
        return [*self.writes.refuse(turn_id, self.outcome, empty=self.empty)]

    # --- what codex says -------------------------------------------------------------------------

    def observe(self, method: str, params: Obj, at: float) -> list[Event]:
        """Events of one notification. `at` is when codex sent it, in seconds since the epoch."""
        if text(params, "threadId") not in ("", self.conversation):
            return []  # titles, sub-agents, other threads of a person
        match method:
            case "turn/started":
                return self._turn_started(text(sub(params, "turn"), "id"))
            case "turn/completed":
                return self._turn_ended(sub(params, "turn"), at)
            case "item/started":
                return self._item_started(sub(params, "item"), text(params, "turnId"))
            case "item/completed":
                return self._item_completed(sub(params, "item"), text(params, "turnId"))
            case "serverRequest/resolved":
                return self.asks.resolved(params.get("requestId"))
            case "error":
                return self._error(params, at)
            case "warning" | "guardianWarning":
                return self._notice(text(params, "message"), "")
            case "configWarning":
                return self._notice(text(params, "summary"), text(params, "details"))
            case "mcpServer/startupStatus/updated" if text(params, "status") == "failed":
                return self._notice(f"MCP server {text(params, 'name')}", text(params, "error"))
            case "thread/status/changed":
                self.active = text(sub(params, "status"), "type") == "active"
            case "thread/tokenUsage/updated":
                self.meter.take(sub(params, "tokenUsage"))
            case "account/rateLimits/updated":
                self._limits(sub(params, "rateLimits"))
            case "hook/completed":
                self.writes.hook_ended(params)
        return []

    def request(self, ask: Ask) -> list[Event]:
        """A request for a person."""
        tool = self.tools.get(text(ask.params, "itemId"))
        return self.asks.request(ask, tool.item if tool else {})

    # --- after a gap -----------------------------------------------------------------------------

    def skip(self, turns: Sequence[Obj], entries: Sequence[Obj], total: Usage | None) -> None:
        """Take history (newest first) as told: it was before this session's time."""
        over = [turn for turn in turns if text(turn, "status") != "inProgress"]
        self.ended.extend(text(turn, "id") for turn in reversed(over))
        self.told.extend(text(sub(entry, "item"), "id") for entry in reversed(entries))
        self.meter.total = total

    def knows_turn(self, turn: Obj) -> bool:
        """Its end was told, so everything before it was too."""
        return text(turn, "id") in self.ended

    def knows_item(self, entry: Obj) -> bool:
        return text(sub(entry, "item"), "id") in self.told

    def catch_up(
        self,
        turns: Sequence[Obj],
        entries: Sequence[Obj],
        usage: Mapping[str, Usage],
        total: Usage | None,
    ) -> list[Event]:
        """Events of what was missed: turns from the first not told, items likewise, oldest first.

        `usage` is by turn, `total` that of the thread, both as the record has them.
        """
        events: list[Event] = []
        before = self.turn
        order = {text(turn, "id"): place for place, turn in enumerate(turns)}
        running = bool(turns) and text(turns[-1], "status") == "inProgress"
        over = turns[:-1] if running else turns
        done = 0  # turns before this place have been ended
        for entry in entries:
            turn_id = text(entry, "turnId")
            if (place := order.get(turn_id, -1)) >= done:
                events += self._end_turns(over[done:place], usage)
                events += self._turn_started(turn_id)
                done = place
            events += self._item_completed(sub(entry, "item"), turn_id)
        events += self._end_turns(over[done:], usage)
        self.meter.total = total or self.meter.total
        if running:
            events += self._turn_started(text(turns[-1], "id"))
        if self.turn not in (None, before):
            self.meter.begun_before(usage.get(self.turn or "", Usage()))
        self.active, self.idle_said = running, False
        return events

    def _end_turns(self, turns: Iterable[Obj], usage: Mapping[str, Usage]) -> list[Event]:
        return [event for turn in turns for event in self._turn_ended(turn, 0.0, usage)]

    # --- turns -----------------------------------------------------------------------------------

    def _turn_started(self, turn_id: str) -> list[Event]:
        if turn_id in self.ended or turn_id in ("", self.turn):
            return []
        self.turn, self.empty = turn_id, True
        self.idle_said, self.retrying = False, False
        self.meter.begin_turn()
        return [TurnStarted(turn_id)]

    def _turn_ended(
        self, turn: Obj, at: float, usage: Mapping[str, Usage] | None = None
    ) -> list[Event]:
        turn_id = text(turn, "id")
        if turn_id in self.ended or not turn_id:
            return []
        events = self._turn_started(turn_id)
        self.outcome = _OUTCOMES.get(text(turn, "status"), Outcome.COMPLETED)
        self.turn, self.retrying = None, False
        self.ended.append(turn_id)
        events += self.asks.turn_ended(turn_id)
        events += self._drop_tools(turn_id)
        events += self.writes.refuse(turn_id, self.outcome, empty=self.empty)
        error = None
        if isinstance(turn.get("error"), Mapping):
            at = number(turn, "completedAt") or at
            said = obj(turn.get("error"))
            error = error_info(said, at, resets_at=self.resets_at, zone=self.zone)
        used = (usage or {}).get(turn_id) or self.meter.spent()
        return [*events, TurnEnded(turn_id, self.outcome, used, error=error)]

    def _drop_tools(self, turn_id: str) -> list[Event]:
        """Tool calls that codex dropped with their turn: it says nothing more about them."""
        if self.outcome is Outcome.COMPLETED:
            return []
        dropped = [i for i, t in self.tools.items() if t.turn_id == turn_id and not t.runs_on]
        for item_id in dropped:
            del self.tools[item_id]
            self.told.append(item_id)
        return [ToolEnded(item_id, False, self.outcome.value, turn_id) for item_id in dropped]

    # --- items -----------------------------------------------------------------------------------

    def _item_started(self, item: Obj, turn_id: str) -> list[Event]:
        item_id = text(item, "id")
        if item_id in self.tools or item_id in self.told or turn_id in self.ended:
            return []
        events = self._progress(item, turn_id)
        if (tool := items.started(item, turn_id)) is not None:
            self.tools[item_id] = OpenTool(turn_id, items.runs_on(item), item)
            events.append(tool)
        return events

    def _item_completed(self, item: Obj, turn_id: str) -> list[Event]:
        item_id = text(item, "id")
        if item_id in self.told:
            return []
        events = self._progress(item, turn_id)
        self.told.append(item_id)
        begun = items.started(item, turn_id)
        if begun is None:
            return events + self._message(item, turn_id)
        if self.tools.pop(item_id, None) is None:
            events.append(begun)
        return [*events, items.ended(item, turn_id), *items.file_changes(item, turn_id)]

    def _message(self, item: Obj, turn_id: str) -> list[Event]:
        said = clip(items.said(item))
        match text(item, "type"):
            case "agentMessage":
                return [Transcript("assistant", said, turn_id)] if said else []
            case "userMessage":
                if (write_id := items.write_of(item)) is None:
                    return [Transcript("user", said, turn_id)]
                self.writes.drop(write_id)
                return [Proven(write_id, Evidence(EVIDENCE, text(item, "id"), turn_id))]
        return []

    def _progress(self, item: Obj, turn_id: str) -> list[Event]:
        """Something came of the turn; when it is no input, the model is being heard again."""
        if turn_id != self.turn:
            return []
        self.empty = False
        if not self.retrying or text(item, "type") == "userMessage":
            return []
        self.retrying = False
        return [ErrorCleared()]

    # --- errors and warnings ---------------------------------------------------------------------

    def _error(self, params: Obj, at: float) -> list[Event]:
        retrying = params.get("willRetry") is True
        if not retrying and text(params, "turnId") in (self.turn, *self.ended):
            return []  # the end of the turn carries it
        self.retrying = self.retrying or retrying
        said, zone = sub(params, "error"), self.zone
        info = error_info(said, at, retrying=retrying, resets_at=self.resets_at, zone=zone)
        return [HarnessError(info)]

    def _limits(self, limits: Obj) -> None:
        """When the account's exhausted window resets; of two, the later."""
        windows = [sub(limits, name) for name in ("primary", "secondary")]
        full = [w for w in windows if (number(w, "usedPercent") or 0) >= 100]
        self.resets_at = max((number(w, "resetsAt") or 0.0 for w in full), default=None)

    def _notice(self, said: str, details: str) -> list[Event]:
        message = f"{said}: {details}" if details else said
        if not message or message in self.notices:
            return []
        self.notices.append(message)
        return [Notice("codex.warning", clip(message, MAX_NOTICE))]


__all__ = ["EVIDENCE", "OpenTool", "Thread"]
