"""From what the server says to what happened, each thing once. Pure.

`Fold` is fed values of `protocol`, live or from the server's records; because it goes by ids and
never back, the same thing said twice changes nothing. That makes gaps simple: feed the records
again. Its state is small (the running turn and what has no answer yet) and fits in a checkpoint.

How OpenCode works, as far as it matters here: user messages are stored at once, also in the middle
of a turn. Before each step of the model it reads all of them and opens an assistant message whose
parent is the newest; so a user message is in the model's context when it is, or precedes, the
parent of some assistant message. A turn that is aborted or fails leaves newer ones without an
answer: they are stranded, and would enter with whatever is asked next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay_runtime.events import (
    ErrorCleared,
    ErrorInfo,
    Event,
    Evidence,
    FileChanged,
    HarnessError,
    Idle,
    Outcome,
    PermissionRequested,
    PermissionResolved,
    Proven,
    Refused,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
)

from . import state as checkpoints
from .errors import describe, describe_retry
from .protocol import (
    Answered,
    Asked,
    ErrorSeen,
    MessageSeen,
    PatchSeen,
    Removed,
    Said,
    SessionSeen,
    StatusSeen,
    StepBegan,
    TextSeen,
    ToolSeen,
    write_of,
)
from .state import Order, State, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import Json

    from .record import Record

#: What `Proven` and settlements call their evidence: a stored message of ours that has an answer.
EVIDENCE = "opencode.message"
#: Answered messages that are remembered, so that a late update does not make them look new.
MAX_ANSWERED = 64
#: Subagent sessions that are remembered; only those of the running turn can still ask anything.
MAX_CHILDREN = 64


class Fold:
    """One conversation. `mark` is the newest message of the past, of which nothing is told."""

    def __init__(self, session: str, mark: Order = (0, ""), past: Json = None) -> None:
        self.session = session
        self._is = State(mark=mark) if past is None else checkpoints.load(past)
        self._idle_said = False
        self._idles = 0
        self._catching_up = False
        self._handed: set[str] = set()

    def checkpoint(self) -> Json:
        return checkpoints.dump(self._is)

    # --- questions ------------------------------------------------------------------------------

    @property
    def mark(self) -> Order:
        """Records up to here need not be read again."""
        return self._is.mark

    @property
    def quiet(self) -> bool:
        """Nothing runs, and nothing that was handed in is about to."""
        waits = any(not user.ran for user in self._is.waiting.values())
        return not self._is.busy and self._is.turn is None and not self._handed and not waits

    def knows(self, message: str) -> bool:
        """Whether the server has said that it has this message of ours."""
        return message in self._is.waiting or message in self._is.answered

    @property
    def stranded(self) -> list[str]:
        """Ids of our messages that a turn left behind without an answer, oldest first."""
        if self._is.busy or self._is.turn is not None:
            return []
        ours = [(w.order, i) for i, w in self._is.waiting.items() if w.ran and write_of(i)]
        return [found for _, found in sorted(ours)]

    @property
    def asks(self) -> Mapping[str, Asked]:
        """Open requests by id."""
        return self._is.asks

    # --- what the driver does -------------------------------------------------------------------

    def hand(self, message: str) -> None:
        """`message` is being posted: not idle until it has been seen, answered or taken back."""
        if message not in self._is.answered and message not in self._is.waiting:
            self._handed.add(message)

    def unhand(self, message: str) -> None:
        """It was not taken after all."""
        self._handed.discard(message)

    # --- what the server says -------------------------------------------------------------------

    def feed(self, said: Said) -> list[Event]:
        """One event of the stream."""
        events = self._hear(said)
        return events + self._boundary()

    def catch_up(self, record: Record) -> list[Event]:
        """The records, after a start or a gap in the stream."""
        self._catching_up = True
        self._is.busy = True  # no boundary while half of it is read
        self._is.children = _newest([*self._is.children, *record.children], MAX_CHILDREN)
        events: list[Event] = []
        for message, parts in record.messages:
            for said in (message, *parts):
                events += self._hear(said)
        events += self._missing({message.id for message, _ in record.messages})
        open_now = [ask for ask in record.asks if self._may_wait(ask)]
        for gone in self._is.asks.keys() - {ask.id for ask in open_now}:
            events += self._resolve(gone, "withdrawn")
        for ask in open_now:
            events += self._ask(ask)
        self._catching_up = False
        for waiting in self._is.waiting.values():
            waiting.ran = True  # should it run yet: then it cannot be taken back either
        if record.busy is False:
            events += self._status(StatusSeen(self.session, "idle"))
        return events + self._boundary()

    def gone(self) -> list[Event]:
        """The process has ended: close what it left open."""
        self._is.busy = False
        events = self._end_turn("the agent's process ended") if self._is.turn is not None else []
        for ask in list(self._is.asks):
            events += self._resolve(ask, "withdrawn")
        return events

    def confirm(self, message: str, turn: str) -> list[Event]:
        """The records show that `message`, which looked stranded, was answered in `turn`."""
        waiting = self._is.waiting.pop(message, None)
        return self._answer(message, waiting.text, turn) if waiting is not None else []

    # --- one thing at a time --------------------------------------------------------------------

    def _hear(self, said: Said) -> list[Event]:
        match said:
            case SessionSeen(id=child, parent=parent):
                if parent is not None and self._ours(parent):
                    self._is.children = _newest([*self._is.children, child], MAX_CHILDREN)
                return []
            case Asked() if self._ours(said.session):
                return self._ask(said)
            case Answered(id=found, allowed=allowed):
                return self._resolve(found, "allow" if allowed else "deny")
            case _ if said.session != self.session:
                return []
            case MessageSeen(role="user"):
                return self._user(said)
            case MessageSeen(role="assistant"):
                return self._step(said)
            case StatusSeen():
                return self._status(said)
            case ErrorSeen():
                return self._error(said)
            case Removed():
                return self._removed(said.message)
            case TextSeen() | ToolSeen() | PatchSeen() | StepBegan():
                return self._part(said)
        return []

    def _ours(self, session: str) -> bool:
        return session == self.session or session in self._is.children

    def _user(self, message: MessageSeen) -> list[Event]:
        self._handed.discard(message.id)
        known = self._is.waiting.get(message.id)
        if known is not None:
            known.order = message.order
        elif message.id not in self._is.answered and message.order > self._is.mark:
            ran = self._is.busy and not self._catching_up
            self._is.waiting[message.id] = Waiting(message.order, "", ran)
        return []

    def _step(self, message: MessageSeen) -> list[Event]:
        if message.order <= self._is.mark:
            return []
        events: list[Event] = []
        step = self._is.step
        if (step is None or message.id != step.id) and message.parent is not None:
            if self._began_later(message.parent):
                events += self._end_turn()  # the stream would have said idle in between
            self._is.retire_step()
            events += self._answered_by(message.parent)
        self._is.step = message
        return events

    def _answered_by(self, parent: str) -> list[Event]:
        """A step begins: everything up to its parent is in the model's context."""
        events: list[Event] = []
        if self._is.turn is None:
            self._is.turn = parent
            self._is.failure = None
            self._is.busy = True
            self._idle_said, self._idles = False, 0
            events.append(TurnStarted(parent))
        newest = self._is.waiting.get(parent)
        if newest is None:
            if parent not in self._is.answered:  # its own event was missed; the step is proof
                events += self._answer(parent, "", self._is.turn)
            return events
        taken = [(w.order, i) for i, w in self._is.waiting.items() if w.order <= newest.order]
        for _, found in sorted(taken):
            events += self._answer(found, self._is.waiting.pop(found).text, self._is.turn)
        return events

    def _answer(self, message: str, text: str, turn: str) -> list[Event]:
        self._handed.discard(message)
        self._is.answered = _newest([*self._is.answered, message], MAX_ANSWERED)
        events: list[Event] = []
        if text:
            events.append(Transcript("user", text, turn))
        if (write := write_of(message)) is not None:
            events.append(Proven(write, Evidence(EVIDENCE, message, turn)))
        return events

    def _began_later(self, parent: str) -> bool:
        """In records there are no idles: was the turn over when `parent` was asked?"""
        step, asked = self._is.step, self._is.waiting.get(parent)
        if not self._catching_up or step is None or asked is None or step.completed is None:
            return False
        return asked.order[0] >= step.completed

    def _part(self, said: TextSeen | ToolSeen | PatchSeen | StepBegan) -> list[Event]:
        if isinstance(said, TextSeen) and (asked := self._is.waiting.get(said.message)):
            asked.text = said.text or asked.text
            return []
        late_tool = isinstance(said, ToolSeen) and said.id in self._is.tools
        if not late_tool and (self._is.step is None or said.message != self._is.step.id):
            return []
        events: list[Event] = []
        if self._is.retrying:
            self._is.retrying = False
            events.append(ErrorCleared())
        match said:
            case TextSeen(text=text, done=True) if text and self._once(said.id):
                events.append(Transcript("assistant", text, self._is.turn))
            case ToolSeen():
                events += self._tool(said)
            case PatchSeen(files=files) if self._once(said.id):
                # Tools have told of their own changes; this also has what the shell did.
                new = [path for path in files if self._once(f"path {path}")]
                events += [FileChanged(path, "modified", self._is.turn) for path in new]
        return events

    def _once(self, key: str) -> bool:
        if key in self._is.told:
            return False
        self._is.told.add(key)
        return True

    def _tool(self, tool: ToolSeen) -> list[Event]:
        if tool.id in self._is.told or tool.status not in ("running", "completed", "error"):
            return []
        events: list[Event] = []
        if tool.id not in self._is.tools:
            self._is.tools[tool.id] = tool.tool
            events.append(ToolStarted(tool.id, tool.tool, tool.input, self._is.turn))
        if tool.ended:
            del self._is.tools[tool.id]
            self._is.told.add(tool.id)
            events.append(ToolEnded(tool.id, tool.ok, tool.output, self._is.turn))
            for change in tool.changes:
                self._is.told.add(f"path {change.path}")
                events.append(FileChanged(change.path, change.change, self._is.turn))
        return events

    def _status(self, status: StatusSeen) -> list[Event]:
        if status.kind == "idle":
            self._is.busy = False
            self._idles += 1
            return []
        self._is.busy = True
        self._is.failure = None
        self._idle_said, self._idles = False, 0
        for waiting in self._is.waiting.values():
            waiting.ran = True
        if status.kind != "retry":
            return []
        self._is.retrying = True
        return [HarnessError(describe_retry(status))]

    def _error(self, said: ErrorSeen) -> list[Event]:
        """The step carries its own error; this is for those that come before there is a step."""
        if said.failure.aborted or not self._is.busy:
            return []
        self._is.failure = describe(said.failure)
        return [HarnessError(self._is.failure)] if self._is.turn is None else []

    def _removed(self, message: str) -> list[Event]:
        if self._is.waiting.pop(message, None) is None:
            return []
        write, failure = write_of(message), self._is.failure
        if write is None:
            return []
        self._idle_said = False  # there is room again
        if failure is not None:
            return [Refused(write, failure.message, retry=False)]
        return [Refused(write, "the turn ended before the agent had read it", retry=True)]

    def _missing(self, recorded: set[str]) -> list[Event]:
        events: list[Event] = []
        for message in [found for found in self._is.waiting if found not in recorded]:
            events += self._removed(message)
        return events

    def _ask(self, ask: Asked) -> list[Event]:
        if ask.id in self._is.asks:
            return []
        self._is.asks[ask.id] = ask
        return [PermissionRequested(ask.id, ask.tool, ask.detail)]

    def _may_wait(self, ask: Asked) -> bool:
        """An abort leaves requests in the server's list that nothing waits for any more."""
        if not self._ours(ask.session):
            return False
        step = self._is.step
        if step is None or step.completed is not None:
            return False
        return ask.session != self.session or ask.message == step.id

    def _resolve(self, request: str, decision: str) -> list[Event]:
        if self._is.asks.pop(request, None) is None:
            return []
        return [PermissionResolved(request, decision)]

    # --- boundaries -----------------------------------------------------------------------------

    def _boundary(self) -> list[Event]:
        if self._is.busy:
            return []
        events: list[Event] = []
        if self._is.turn is not None:
            # After an abort or an error idle comes twice, first before the step has ended.
            step = self._is.step
            if step is not None and step.completed is None and self._idles < 2:
                return []
            events += self._end_turn()
        # Stranded messages are taken back first: idle means that nothing is left in there.
        if self._idle_said or not self.quiet or self.stranded:
            return events
        self._idle_said = True
        return [*events, Idle()]

    def _end_turn(self, reason: str = "interrupted") -> list[Event]:
        turn = self._is.turn
        if turn is None:
            return []
        events: list[Event] = [ToolEnded(tool, False, reason, turn) for tool in self._is.tools]
        for ask in list(self._is.asks):
            events += self._resolve(ask, "withdrawn")
        outcome, error = self._outcome()
        self._is.retire_step()
        usage, cost = self._is.usage, self._is.cost or None
        self._is.end_turn()
        return [*events, TurnEnded(turn, outcome, usage, cost, error)]

    def _outcome(self) -> tuple[Outcome, ErrorInfo | None]:
        step = self._is.step
        if step is None or step.completed is None:
            return Outcome.INTERRUPTED, None
        if step.failure is not None:
            if step.failure.aborted:
                return Outcome.INTERRUPTED, None
            return Outcome.FAILED, describe(step.failure, step.completed)
        if self._is.failure is not None:
            return Outcome.FAILED, self._is.failure
        # An abort during the wait for a retry leaves neither an error nor anything else; after a
        # tool call the model would be asked again, had nobody rejected the call.
        nothing_came = step.finish is None and not self._is.told
        if self._is.retrying or nothing_came or step.finish == "tool-calls":
            return Outcome.INTERRUPTED, None
        return Outcome.COMPLETED, None


def _newest(items: list[str], limit: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))[-limit:]


__all__ = ["EVIDENCE", "Fold"]
