"""The protocol of `claude -p` in stream-json, without I/O: observations in, events out.

    protocol = Protocol(state)
    for event in protocol.see(observation, now): ...
    protocol.state.to_json()                           # and on again from there after a crash

A turn's id is the uuid of the line that opened it (`session_state_changed` running, or the first
line of a turn that follows another without a pause). Claude's own state decides what idle is, with
one exception: while subagents work in the background, Claude 2.1.330 stays `running` after the
result of the turn, although it takes input at once. That is a boundary too.

Proof that a write is in the context is a matter of its own: see `writes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay_runtime.events import (
    ErrorClass,
    ErrorCleared,
    ErrorInfo,
    Event,
    FileChanged,
    HarnessError,
    Idle,
    Notice,
    Outcome,
    PermissionRequested,
    PermissionResolved,
    SessionReady,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
    Usage,
)

from . import commands
from .faults import error_class
from .observations import (
    AgentOver,
    Agents,
    AgentStarted,
    Answered,
    Asked,
    Blocked,
    Echo,
    Ended,
    Garbage,
    Lifecycle,
    Limited,
    Observation,
    Opened,
    Responded,
    Retrying,
    Spoke,
    StateChanged,
    ToolsDone,
    Withdrawn,
)
from .state import MAX_TOOLS, Fault, State
from .writes import Writes

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Notices about lines that are no JSON; a tool that floods stdout must not flood the journal.
_MAX_GARBAGE: Final = 5


class Protocol:
    """One run of the process. `outbox` holds answers of ours that need nobody's decision."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.writes = Writes(state)
        self.outbox: list[bytes] = []

    # --- what Claude says -----------------------------------------------------------------------

    def see(self, seen: Observation, now: float) -> list[Event]:
        """The events that follow from one line. `now` is seconds since the epoch."""
        match seen:
            case StateChanged():
                return self._on_state(seen)
            case Opened():
                return self._on_opened(seen)
            case Lifecycle():
                return self._on_lifecycle(seen)
            case Echo():
                return self._on_echo(seen)
            case Spoke():
                return self._on_spoke(seen)
            case ToolsDone():
                return self._on_tools_done(seen)
            case Ended():
                return self._on_ended(seen)
            case Retrying():
                return self._on_retrying(seen, now)
            case Asked() | Withdrawn() | Answered():
                return self._on_request(seen)
            case Responded():
                return self._on_responded(seen)
            case Blocked():
                return self.writes.on_blocked(seen)
            case Garbage():
                return self._on_garbage(seen)
            case Limited(resets_at):
                self.state.resets_at = resets_at
            case Agents(running):
                self.state.agents = sorted(running)
            case AgentStarted(task_id):
                self._agents({*self.state.agents, task_id})
            case AgentOver(task_id):
                self._agents(set(self.state.agents) - {task_id})
        return []

    def _agents(self, running: Iterable[str]) -> None:
        self.state.agents = sorted(running)

    def _on_state(self, seen: StateChanged) -> list[Event]:
        before, self.state.cli = self.state.cli, seen.state
        if seen.state == "idle":
            return self._boundary()
        # requires_action and back to running happens inside a turn, or is a subagent's.
        return self._open(seen.uuid) if before in ("", "idle") else []

    def _on_opened(self, seen: Opened) -> list[Event]:
        events: list[Event] = []
        if seen.conversation and seen.conversation != self.state.conversation:
            self.state.conversation = seen.conversation
            events.append(SessionReady(seen.conversation, self.state.version, seen.model))
        self.state.model = seen.model or self.state.model
        events += self._open(seen.uuid)
        self.writes.on_opened()
        return events

    def _on_lifecycle(self, seen: Lifecycle) -> list[Event]:
        known = seen.command in self.state.writes
        events = self._open(seen.uuid) if known and seen.state == "started" else []
        return [*events, *self.writes.on_lifecycle(seen)]

    def _on_echo(self, seen: Echo) -> list[Event]:
        self.writes.on_echo(seen)
        said = seen.fresh and seen.text
        return [Transcript("user", seen.text, self.state.turn)] if said else []

    def _on_spoke(self, seen: Spoke) -> list[Event]:
        state = self.state
        events: list[Event] = []
        if not seen.sub:
            events += self._open(seen.uuid)
        if seen.synthetic:
            if seen.error is not None and not seen.sub:
                state.fault = Fault(seen.error, seen.status)
            return events
        events += self._cleared()
        if not seen.sub:
            events += [Transcript("assistant", text, state.turn) for text in seen.texts if text]
        for tool in seen.tools:
            while len(state.tools) >= MAX_TOOLS:
                state.tools.pop(next(iter(state.tools)))
            state.tools[tool.tool_id] = [tool.name, tool.path or ""]
            events.append(ToolStarted(tool.tool_id, tool.name, tool.input, state.turn))
        return events

    def _on_tools_done(self, seen: ToolsDone) -> list[Event]:
        events: list[Event] = []
        for result in seen.results:
            _, path = self.state.tools.pop(result.tool_id, ["", ""])
            turn = self.state.turn
            events.append(ToolEnded(result.tool_id, result.ok, result.output, turn))
            if path and result.ok:
                change = "created" if result.created else "modified"
                events.append(FileChanged(path, change, turn))
        return events

    def _on_ended(self, seen: Ended) -> list[Event]:
        state = self.state
        total = seen.total_cost if seen.total_cost is not None else state.cost
        cost, state.cost = max(0.0, total - state.cost), total
        if state.turn is None:
            return []  # of a start that failed, or held back until after the turn
        error = self._error(seen)
        outcome = Outcome.COMPLETED
        if (seen.reason or "").startswith("aborted"):
            outcome, error = Outcome.INTERRUPTED, None
        elif error is not None:
            outcome = Outcome.FAILED
        usage = Usage(seen.input_tokens, seen.output_tokens, seen.cached_tokens)
        events: list[Event] = [] if error else self._cleared()
        events.append(TurnEnded(state.turn, outcome, usage, cost, error))
        self._close_turn()
        waiting = seen.queued or any(w.queued and not w.started for w in state.writes.values())
        if state.agents and not waiting:
            events += self._boundary()
        return events

    def _error(self, seen: Ended) -> ErrorInfo | None:
        if not seen.error:
            return None
        fault = self.state.fault or Fault("", None)
        status = seen.status if seen.status is not None else fault.status
        kind = error_class(fault.name, status, seen.text)
        message = seen.text or f"claude ended the turn with {seen.subtype or 'an error'}"
        retry_at = self.state.resets_at if kind is ErrorClass.RATE_LIMIT else None
        return ErrorInfo(kind, message, status, retry_at)

    def _on_retrying(self, seen: Retrying, now: float) -> list[Event]:
        self.state.retrying = True
        kind = error_class(seen.error, seen.status, retried=True)
        what = f"HTTP {seen.status}" if seen.status is not None else "no connection"
        message = f"the model endpoint answered with {seen.error or 'an error'} ({what})"
        info = ErrorInfo(kind, message, seen.status, now + seen.delay, retrying=True)
        return [HarnessError(info)]

    def _on_request(self, seen: Asked | Withdrawn | Answered) -> list[Event]:
        requests = self.state.requests
        match seen:
            case Asked(request_id, "can_use_tool", tool, tool_use_id, detail):
                if request_id in requests:
                    return []
                requests[request_id] = tool_use_id
                return [PermissionRequested(request_id, tool, detail)]
            case Asked(request_id, subtype):
                self.outbox.append(commands.decline(request_id, subtype))
                return []
            case Withdrawn(request_id):
                decision = "withdrawn"
            case Answered(request_id, allowed):
                decision = "allow" if allowed else "deny"
        if requests.pop(seen.request_id, None) is None:
            return []
        return [PermissionResolved(seen.request_id, decision)]

    def _on_responded(self, seen: Responded) -> list[Event]:
        state = self.state
        if seen.request_id == commands.VERSION:
            state.version = seen.version
        elif seen.request_id == commands.COST and not state.ready:
            state.cost = seen.cost or 0.0
        elif seen.request_id == commands.INITIALIZE and seen.ok:
            return self._on_initialized(seen)
        return []

    def _on_initialized(self, seen: Responded) -> list[Event]:
        state = self.state
        events: list[Event] = []
        if not state.ready:
            state.ready = True
            state.version = seen.version or state.version
            state.model = state.model or seen.model
            events.append(SessionReady(state.conversation, state.version, state.model))
            state.cli = state.cli or seen.state or "idle"
        elif seen.state is not None:
            state.cli = seen.state  # asked again after a gap in the log
        return [*events, *self._boundary()] if state.cli == "idle" else events

    def _on_garbage(self, seen: Garbage) -> list[Event]:
        self.state.garbage += 1
        if self.state.garbage > _MAX_GARBAGE:
            return []
        return [Notice("claude.stdout", f"claude printed a line that is no JSON: {seen.text}")]

    # --- turns ----------------------------------------------------------------------------------

    def _open(self, turn_id: str) -> list[Event]:
        """A turn runs: say so unless it was said."""
        state = self.state
        if state.turn is not None:
            return []
        state.turn, state.boundary, state.fault = turn_id, False, None
        return [TurnStarted(turn_id)]

    def _close_turn(self) -> None:
        self.state.turn, self.state.fault, self.state.retrying = None, None, False

    def _boundary(self) -> list[Event]:
        """Claude waits for input: the turn is over, if one was, and we say so once."""
        state = self.state
        events: list[Event] = []
        if state.turn is not None:  # without a result
            events.append(TurnEnded(state.turn, Outcome.COMPLETED))
            self._close_turn()
        if not state.boundary:
            state.boundary = True
            events.append(Idle())
        return events

    def _cleared(self) -> list[Event]:
        if not self.state.retrying:
            return []
        self.state.retrying = False
        return [ErrorCleared()]


__all__ = ["Protocol"]
