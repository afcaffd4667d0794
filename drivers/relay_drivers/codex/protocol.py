"""What codex says about one thread, as events: live notifications and missed history alike. Pure.

Rules:

1. Everything is told once. Turns and items that were told are remembered by id, the newest of them
   in the checkpoint, so the same fact may arrive twice (from the history and live) in any order.
2. A write is proven by its user message, never by the answer to the request that carried it. It is
   refused when its turn is over and that message did not come.
3. A turn is over at `turn/completed` (codex calls the thread idle some lines before that, and
   between two queued turns). `boundary` is true when no turn runs and `Idle` was not said since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from relay_runtime.contract import Entry
from relay_runtime.events import (
    ErrorCleared,
    Event,
    Evidence,
    HarnessError,
    Idle,
    Notice,
    Outcome,
    PermissionResolved,
    Proven,
    Refused,
    ToolEnded,
    Transcript,
    TurnEnded,
    TurnStarted,
    Usage,
    clip,
)

from . import items
from .approvals import Ask, shown
from .errors import error_info
from .read import Obj, count, number, obj, objects, sub, text

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

_OUTCOMES: Final = {
    "completed": Outcome.COMPLETED,
    "interrupted": Outcome.INTERRUPTED,
    "failed": Outcome.FAILED,
}
_NOTHING: Final = Usage()


@dataclass(slots=True)
class OpenTool:
    """A tool call that has not ended. `runs_on`: a process of its own may outlive the turn."""

    turn_id: str
    runs_on: bool


@dataclass(slots=True)
class Handed:
    """A write that codex has been given and not shown yet. `turn_id` None: no answer so far."""

    entry: Entry
    turn_id: str | None = None


@dataclass(slots=True)
class Thread:
    """See the module. Everything but `asks`, `inputs` and `notices` is in the checkpoint."""

    conversation: str
    zone: tzinfo | None = None
    turn: str | None = None
    active: bool = False  #: what codex says of the thread, a little ahead of its turns
    idle_said: bool = False
    outcome: Outcome = Outcome.COMPLETED  #: of the last turn
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_TOLD_TURNS))
    told: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_TOLD_ITEMS))
    tools: dict[str, OpenTool] = field(default_factory=dict)
    writes: dict[str, Handed] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)  #: request id → decision, "" while open
    total: Usage | None = None  #: of the thread so far
    base: Usage | None = None  #: … when the running turn began
    empty: bool = True  #: nothing in the running turn yet
    blocked: tuple[str, str] | None = None  #: (turn, reason): a hook of the user refused its input
    retrying: bool = False
    resets_at: float | None = None  #: when the exhausted limit of the account resets
    asks: dict[str, Ask] = field(default_factory=dict)
    inputs: dict[str, Obj] = field(default_factory=dict)  #: open items, to show what is asked about
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_NOTICES))

    # --- what the session says -------------------------------------------------------------------

    @property
    def boundary(self) -> bool:
        """No turn runs, and `Idle` is still to be said."""
        return self.turn is None and not self.active and not self.idle_said

    def say_idle(self) -> list[Event]:
        self.idle_said = True
        return [Idle()]

    def hand(self, write_id: str, entry: Entry) -> None:
        """A write goes out now."""
        self.writes[write_id] = Handed(entry)

    def forget(self, write_id: str) -> None:
        """It was not taken, or the runtime has settled it."""
        self.writes.pop(write_id, None)

    def accepted(self, write_id: str, turn_id: str) -> list[Event]:
        """Codex answered that the write is for this turn, which may be over by now."""
        handed = self.writes.get(write_id)
        if handed is None:
            return []
        handed.turn_id = turn_id
        if turn_id not in self.ended:
            return []
        return self._refuse(turn_id, self.outcome, empty=self.empty)

    def answered(self, request_id: str, allow: bool) -> None:
        """We have answered; codex will say that the request is resolved."""
        if request_id in self.asked:
            self.asked[request_id] = "allow" if allow else "deny"

    # --- what codex says ---------------------------------------------------------------------------

    def observe(self, method: str, params: Obj, at: float) -> list[Event]:
        """Events of one notification. `at` is when codex sent it, in seconds since the epoch."""
        if text(params, "threadId") not in ("", self.conversation):
            return []  # titles, sub-agents, other threads of a person
        turn_id = text(params, "turnId")
        match method:
            case "turn/started":
                return self._turn_started(text(sub(params, "turn"), "id"))
            case "turn/completed":
                return self._turn_ended(sub(params, "turn"), at)
            case "item/started":
                return self._item_started(sub(params, "item"), turn_id)
            case "item/completed":
                return self._item_completed(sub(params, "item"), turn_id)
            case "thread/status/changed":
                self.active = text(sub(params, "status"), "type") == "active"
            case "thread/tokenUsage/updated":
                self._count(sub(params, "tokenUsage"))
            case "hook/completed":
                self._hook(params)
            case "account/rateLimits/updated":
                self._limits(sub(params, "rateLimits"))
            case "error":
                return self._error(params, at)
            case "serverRequest/resolved":
                return self._resolved(params)
            case "warning" | "guardianWarning":
                return self._notice(text(params, "message"))
            case "configWarning":
                details = text(params, "details")
                said = text(params, "summary")
                return self._notice(f"{said}: {details}" if details else said)
        return []

    def request(self, ask: Ask) -> list[Event]:
        """A request for a person, also when codex repeats it to a new connection."""
        request_id = ask.request_id
        self.asks[request_id] = ask
        if request_id in self.asked:
            return []
        self.asked[request_id] = ""
        return [shown(ask, self.inputs.get(text(ask.params, "itemId"), {}))]

    # --- after a gap -------------------------------------------------------------------------------

    def skip(self, turns: Iterable[Obj], entries: Iterable[Obj], total: Usage | None) -> None:
        """Take history (newest first) as told: it was before this session's time."""
        for turn in reversed([t for t in turns if text(t, "status") != "inProgress"]):
            self.ended.append(text(turn, "id"))
        for entry in reversed(list(entries)):
            self.told.append(text(sub(entry, "item"), "id"))
        self.total = total

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
        """Events of what was missed: turns from the first not told, items likewise, oldest first."""
        events: list[Event] = []
        before = self.turn
        order = {text(turn, "id"): place for place, turn in enumerate(turns)}
        done = 0  # turns before this place are over

        def move_to(place: int) -> None:
            nonlocal done
            while done < place:
                events.extend(self._turn_ended(turns[done], 0.0, usage))
                done += 1

        for entry in entries:
            turn_id = text(entry, "turnId")
            if (place := order.get(turn_id, -1)) >= done:
                move_to(place)
                events += self._turn_started(turn_id)
            events += self._item_completed(sub(entry, "item"), turn_id)
        running = bool(turns) and text(turns[-1], "status") == "inProgress"
        move_to(len(turns) - 1 if running else len(turns))
        self.total = total or self.total
        if running:
            events += self._turn_started(text(turns[-1], "id"))
            if self.turn != before:
                self.base = _spent(self.total, usage.get(self.turn or ""))
        self.active = running
        self.idle_said = False
        return events

    def replayed(self, present: Iterable[str]) -> list[Event]:
        """After a gap: requests that codex did not repeat (`present` it did) are no longer open."""
        return self._withdraw(set(self.asked) - set(present))

    # --- turns ---------------------------------------------------------------------------------------

    def _turn_started(self, turn_id: str) -> list[Event]:
        if turn_id in self.ended or turn_id in ("", self.turn):
            return []
        self.turn, self.base, self.empty = turn_id, self.total, True
        self.idle_said, self.retrying = False, False
        return [TurnStarted(turn_id)]

    def _turn_ended(
        self, turn: Obj, at: float, usage: Mapping[str, Usage] | None = None
    ) -> list[Event]:
        turn_id = text(turn, "id")
        if turn_id in self.ended or not turn_id:
            return []
        events = self._turn_started(turn_id)
        outcome = _OUTCOMES.get(text(turn, "status"), Outcome.COMPLETED)
        said = turn.get("error")
        error = None
        if isinstance(said, Mapping):
            at = number(turn, "completedAt") or at
            error = error_info(obj(said), at, resets_at=self.resets_at, zone=self.zone)
        self.turn, self.retrying, self.outcome = None, False, outcome
        self.ended.append(turn_id)
        open_here = [r for r, a in self.asks.items() if a.turn_id in ("", turn_id)]
        events += self._withdraw(open_here)
        if outcome is not Outcome.COMPLETED:
            events += self._close_tools(turn_id, outcome)
        events += self._refuse(turn_id, outcome, self.empty)
        used = (usage or {}).get(turn_id) or _spent(self.total, self.base)
        return [*events, TurnEnded(turn_id, outcome, used, error=error)]

    def _refuse(self, turn_id: str, outcome: Outcome, empty: bool) -> list[Event]:
        """Writes whose turn is over and whose message did not come."""
        events: list[Event] = []
        for write_id in [w for w, handed in self.writes.items() if handed.turn_id == turn_id]:
            handed = self.writes.pop(write_id)
            blocked = self.blocked[1] if self.blocked and self.blocked[0] == turn_id else None
            if blocked is None and outcome is Outcome.COMPLETED and empty:
                if handed.entry is Entry.NEXT_TURN:
                    blocked = "codex ended the turn without it, as a UserPromptSubmit hook makes it"
            reason = blocked or f"its turn was {outcome} before codex took it in"
            events.append(Refused(write_id, reason, retry=blocked is None))
        return events

    def _hook(self, params: Obj) -> None:
        run = sub(params, "run")
        stopped = text(run, "status") in ("blocked", "stopped")
        if stopped and text(run, "eventName") == "userPromptSubmit":
            why = "; ".join(filter(None, (text(e, "text") for e in objects(run, "entries"))))
            reason = "a UserPromptSubmit hook blocked it" + (f": {why}" if why else "")
            self.blocked = (text(params, "turnId"), clip(reason, 500))

    # --- items ---------------------------------------------------------------------------------------

    def _item_started(self, item: Obj, turn_id: str) -> list[Event]:
        item_id = text(item, "id")
        if item_id in self.tools or item_id in self.told:
            return []
        events = self._progress(item, turn_id)
        if (tool := items.started(item, turn_id)) is not None:
            self.tools[item_id] = OpenTool(turn_id, items.runs_on(item))
            self.inputs[item_id] = item
            events.append(tool)
        return events

    def _item_completed(self, item: Obj, turn_id: str) -> list[Event]:
        item_id = text(item, "id")
        if item_id in self.told:
            return []
        events = self._progress(item, turn_id)
        if item_id not in self.tools and (tool := items.started(item, turn_id)) is not None:
            events.append(tool)
        elif item_id not in self.tools:
            events += self._message(item, turn_id)
            self.told.append(item_id)
            return events
        self.tools.pop(item_id, None)
        self.inputs.pop(item_id, None)
        self.told.append(item_id)
        return [*events, items.ended(item, turn_id), *items.file_changes(item, turn_id)]

    def _message(self, item: Obj, turn_id: str) -> list[Event]:
        kind = text(item, "type")
        if kind == "agentMessage":
            said = items.said(item)
            return [Transcript("assistant", clip(said), turn_id)] if said else []
        if kind != "userMessage":
            return []
        write_id = items.write_of(item)
        if write_id is None:
            return [Transcript("user", clip(items.said(item)), turn_id)]
        self.writes.pop(write_id, None)
        return [Proven(write_id, Evidence(EVIDENCE, text(item, "id"), turn_id))]

    def _progress(self, item: Obj, turn_id: str) -> list[Event]:
        """Something came of the turn; from the model, when it is no input."""
        if turn_id != self.turn:
            return []
        self.empty = False
        if not self.retrying or text(item, "type") == "userMessage":
            return []
        self.retrying = False
        return [ErrorCleared()]

    def _close_tools(self, turn_id: str, outcome: Outcome) -> list[Event]:
        """Tool calls that codex dropped with their turn: it says nothing more about them."""
        dropped = [i for i, t in self.tools.items() if t.turn_id == turn_id and not t.runs_on]
        for item_id in dropped:
            del self.tools[item_id]
            self.inputs.pop(item_id, None)
            self.told.append(item_id)
        return [ToolEnded(item_id, False, outcome.value, turn_id) for item_id in dropped]

    # --- requests, errors, usage -----------------------------------------------------------------------

    def _resolved(self, params: Obj) -> list[Event]:
        rpc_id = params.get("requestId")
        return self._withdraw([r for r, a in self.asks.items() if a.rpc_id == rpc_id])

    def _withdraw(self, request_ids: Iterable[str]) -> list[Event]:
        events: list[Event] = []
        for request_id in sorted(request_ids):
            self.asks.pop(request_id, None)
            decision = self.asked.pop(request_id, "") or "withdrawn"
            events.append(PermissionResolved(request_id, decision))
        return events

    def _error(self, params: Obj, at: float) -> list[Event]:
        retrying = params.get("willRetry") is True
        turn_id = text(params, "turnId")
        if not retrying and turn_id in (self.turn, *self.ended):
            return []  # the end of the turn carries it
        self.retrying = self.retrying or retrying
        info = error_info(
            sub(params, "error"), at, retrying=retrying, resets_at=self.resets_at, zone=self.zone
        )
        return [HarnessError(info)]

    def _limits(self, limits: Obj) -> None:
        """When the account's exhausted window resets; of two, the later."""
        windows = [sub(limits, name) for name in ("primary", "secondary")]
        full = [w for w in windows if (number(w, "usedPercent") or 0) >= 100]
        self.resets_at = max((number(w, "resetsAt") or 0.0 for w in full), default=None)

    def _count(self, usage: Obj) -> None:
        # Codex repeats the `last` of an earlier answer when a turn fails: only totals can be added.
        total = read_usage(sub(usage, "total"))
        if self.total is None and self.base is None:
            self.base = _spent(total, read_usage(sub(usage, "last")))
        self.total = total

    def _notice(self, message: str) -> list[Event]:
        if not message or message in self.notices:
            return []
        self.notices.append(message)
        return [Notice("codex.warning", clip(message, 1000))]


def read_usage(usage: Obj) -> Usage:
    """Token counts as the app-server spells them."""
    return Usage(
        input_tokens=count(usage, "inputTokens"),
        output_tokens=count(usage, "outputTokens"),
        cached_tokens=count(usage, "cachedInputTokens"),
    )


def _spent(total: Usage | None, base: Usage | None) -> Usage:
    if total is None:
        return _NOTHING
    base = base or _NOTHING
    return Usage(
        max(total.input_tokens - base.input_tokens, 0),
        max(total.output_tokens - base.output_tokens, 0),
        max(total.cached_tokens - base.cached_tokens, 0),
    )


__all__ = ["EVIDENCE", "Handed", "OpenTool", "Thread", "read_usage"]
