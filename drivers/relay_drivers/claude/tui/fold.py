"""What was heard of Claude's terminal session, made into events. No I/O.

    fold = Fold(state)
    fold.hook(seen, offset)          one line of the hooks log, in order
    fold.line(said)                  one line of the record, in order
    fold.resting(...)                the terminal shows that Claude waits

A turn's id is Claude's own prompt id. Its beginning is told by the prompt hook, or by the record
when no hook fires (queued input, shell commands); its contents and end are told by the record. An
interrupt before the first word and a refusal by a user's hook leave no trace there: what is open
then ends when the terminal has been at rest for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay_runtime.events import (
    ErrorInfo,
    Event,
    Evidence,
    FileChanged,
    HumanInput,
    HumanTyping,
    Idle,
    Outcome,
    PermissionRequested,
    PermissionResolved,
    Proven,
    Refused,
    SessionReady,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
    Usage,
    clip,
)

from ..faults import error_class
from ..writes import BY_TRANSCRIPT
from . import hooks, record
from .state import MAX_ENDED, MAX_OPEN, Ask, Fault, State, Tokens
from .writes import Write, holds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Kinds of a person's input after which something unsent may stand in the box.
_DRAFTS: Final = frozenset({"text", "paste", "key"})


class Fold:
    """`open_writes` gives the writes that are not proven; `proofs` collects those that were."""

    def __init__(self, state: State, open_writes: Callable[[], Iterable[Write]]) -> None:
        self.state = state
        self.proofs: list[tuple[Write, str, str | None]] = []
        self.let_go: list[int] = []  #: hooks that wait for an answer nobody needs any more
        self._open_writes = open_writes

    # --- hooks and people -----------------------------------------------------------------------

    def hook(self, seen: hooks.Seen | None, offset: int) -> list[Event]:
        """`offset` is where the line begins."""
        match seen:
            case hooks.Began():
                return self._began(seen)
            case hooks.Prompted(prompt):
                return self._open(prompt) if self.state.turn is None else []
            case hooks.ToolComes(tool_id, call):
                while len(self.state.running) >= MAX_OPEN:
                    self.state.running.pop(next(iter(self.state.running)))
                self.state.running[tool_id] = call
            case hooks.ToolGone(tool_id, call):
                self.state.running.pop(tool_id, None)
                return self._decided(call, "allow")
            case hooks.Asks():
                return self._asks(seen, offset)
            case hooks.Stopped():
                self.state.stopped = True
            case hooks.Waits():
                self.state.waiter = offset
            case hooks.Typed():
                return self._typed(seen, offset)
        return []

    def _began(self, seen: hooks.Began) -> list[Event]:
        state = self.state
        state.began = True
        state.model = seen.model or state.model
        if seen.record:
            # The same file can have two paths; its name is that of the conversation.
            if state.record and _name(seen.record) != _name(state.record):
                state.at = 0
            state.record = seen.record
        if not seen.conversation or seen.conversation == state.conversation:
            return []
        state.conversation = seen.conversation
        if not state.ready:
            return []
        return [SessionReady(state.conversation, state.version, state.model)]

    def _asks(self, seen: hooks.Asks, offset: int) -> list[Event]:
        asks = self.state.asks
        while len(asks) >= MAX_OPEN:
            asks.pop(next(iter(asks)))
        request_id = f"hook-{offset}"
        asks[request_id] = Ask(seen.call, offset)
        return [PermissionRequested(request_id, seen.tool, seen.detail)]

    def _decided(self, call: str, decision: str) -> list[Event]:
        """What became of a call shows what was said to its request, if it had one."""
        found = next((r for r, ask in self.state.asks.items() if ask.call == call), None)
        return self._resolve(found, decision) if found is not None else []

    def _typed(self, seen: hooks.Typed, offset: int) -> list[Event]:
        state = self.state
        state.typed_at, state.typed_offset, state.person = seen.at, offset, seen.client
        state.blocked = False
        events: list[Event] = [HumanInput(seen.client, seen.kind)]
        if seen.kind == "interrupt":
            state.interrupted = True
        if seen.kind in _DRAFTS and not state.drafting:
            state.drafting = True
            events.append(HumanTyping(active=True, client=seen.client))
        elif seen.kind == "submit" and state.drafting:
            events += self.not_drafting()
        return events

    def drafting(self, *, until_woken: bool) -> list[Event]:
        """Something of a person stands in the way, for a message that a hook could take or not."""
        if self.state.drafting:
            return []
        self.state.drafting, self.state.blocked = True, until_woken
        return [HumanTyping(active=True, client=self.state.person)]

    def not_drafting(self) -> list[Event]:
        if not self.state.drafting:
            return []
        self.state.drafting = self.state.blocked = False
        return [HumanTyping(active=False, client=self.state.person)]

    # --- requests -------------------------------------------------------------------------------

    def answered(self, request_id: str, allow: bool) -> list[Event]:
        """Our answer reached the hook while its dialogue was open."""
        ask = self.state.asks.get(request_id)
        if ask is None:
            return []
        ask.offset = None
        return self._resolve(request_id, "allow" if allow else "deny")

    def dialogue_gone(self) -> list[Event]:
        """A person answered in the terminal: what followed would have said no by now."""
        return self._resolve_all("allow")

    def _resolve_all(self, decision: str) -> list[Event]:
        return [e for request in list(self.state.asks) for e in self._resolve(request, decision)]

    def _resolve(self, request_id: str, decision: str) -> list[Event]:
        ask = self.state.asks.pop(request_id)
        if ask.offset is not None:
            self.let_go.append(ask.offset)
        return [PermissionResolved(request_id, decision)]

    def startup_dialogue(self, tool: str, text: str) -> list[Event]:
        """A dialogue is open before Claude can take input."""
        state = self.state
        state.dialogues += 1
        state.dialogue = f"startup-{state.dialogues}"
        return [PermissionRequested(state.dialogue, tool, clip(text, 2000))]

    def startup_dialogue_gone(self) -> list[Event]:
        known, self.state.dialogue = self.state.dialogue, None
        return [PermissionResolved(known, "allow")] if known is not None else []

    # --- the record -----------------------------------------------------------------------------

    def line(self, said: record.Line | None) -> list[Event]:
        match said:
            case record.Prompt():
                return self._prompt(said)
            case record.Absorbed(uuid, text):
                said_by_user = Transcript("user", clip(text), self.state.turn)
                self._recognise(uuid, self.state.turn, text)
                return [said_by_user, *self._prove()]
            case record.Said():
                return self._said(said)
            case record.Results():
                return self._results(said)
            case record.Interrupted():
                denied = self._resolve_all("deny")
                return [*self._prove(), *denied, *self._close(Outcome.INTERRUPTED)]
            case record.Done():
                return [*self._prove(), *self._close(Outcome.COMPLETED)]
            case record.Blocked(text):
                return self._blocked(text)
            case record.Queued(change):
                queued = 0 if change is None else self.state.queued + change
                self.state.queued = max(0, queued)
        return []

    def _prompt(self, said: record.Prompt) -> list[Event]:
        state = self.state
        events: list[Event] = []
        state.prompt = said.prompt or state.prompt
        if said.opens and said.prompt not in state.ended:
            if state.turn is not None and state.turn != said.prompt:
                events += self._close(Outcome.COMPLETED)
            events += self._open(said.prompt)
        if said.opens:
            events.append(Transcript("user", clip(said.text), state.turn))
            self._recognise(said.uuid, said.prompt, said.text)
            # The first turn of an older Claude is in its record with the answer first.
            if said.prompt in state.spoken:
                events += self._prove()
        return events

    def _said(self, said: record.Said) -> list[Event]:
        state = self.state
        state.version = said.version or state.version
        if said.error is not None:
            state.fault = Fault(said.error, said.status, clip("\n".join(said.texts), 500))
            return self._prove()
        if said.synthetic:
            return []
        events: list[Event] = []
        if state.turn is None and state.prompt and state.prompt not in state.ended:
            events += self._open(state.prompt)
        state.fault = None
        if state.turn is not None and state.turn not in state.spoken:
            state.spoken = [*state.spoken, state.turn][-MAX_ENDED:]
        events += self._prove()
        self._count(said)
        events += [Transcript("assistant", text, state.turn) for text in said.texts if text]
        for tool in said.tools:
            while len(state.tools) >= MAX_OPEN:
                state.tools.pop(next(iter(state.tools)))
            state.tools[tool.tool_id] = [tool.name, tool.path or ""]
            events.append(ToolStarted(tool.tool_id, tool.name, tool.input, state.turn))
        return events

    def _count(self, said: record.Said) -> None:
        state, usage = self.state, said.usage
        if said.message != state.message:
            self._spend()
            state.message = said.message
        state.counted = Tokens(usage.input_tokens, usage.output_tokens, usage.cached_tokens)

    def _spend(self) -> None:
        spent, counted = self.state.spent, self.state.counted
        spent.input += counted.input
        spent.output += counted.output
        spent.cached += counted.cached
        self.state.counted = Tokens()

    def _results(self, said: record.Results) -> list[Event]:
        events = self._prove()
        for result in said.results:
            known = self.state.tools.pop(result.tool_id, None)
            if known is None:
                continue  # of a conversation before this one
            turn = self.state.turn
            if (call := self.state.running.pop(result.tool_id, None)) is not None:
                # It did not run: that would have been told by its hook before.
                events += self._decided(call, "allow" if result.ok else "deny")
            events.append(ToolEnded(result.tool_id, result.ok, result.output, turn))
            if known[1] and result.ok:
                change = "created" if result.created else "modified"
                events.append(FileChanged(known[1], change, turn))
        return events

    def _recognise(self, uuid: str, turn: str | None, text: str) -> None:
        """Writes of ours in what was sent. They are in the context once something follows: until
        then an interrupt takes them out again, and leaves the line where it is."""
        for write in self._open_writes():
            if _name(write.record) == _name(self.state.record) and holds(text, write.text):
                self.state.seen[write.write_id] = [uuid, turn or ""]

    def _prove(self) -> list[Event]:
        events: list[Event] = []
        for write in self._open_writes():
            if (seen := self.state.seen.pop(write.write_id, None)) is None:
                continue
            line, turn = seen[0], seen[1] or None
            self.proofs.append((write, line, turn))
            events.append(Proven(write.write_id, Evidence(BY_TRANSCRIPT, line, turn)))
        self.state.seen.clear()
        return events

    def _blocked(self, text: str) -> list[Event]:
        reason = clip(text.partition("\n")[0], 300)
        events: list[Event] = [
            Refused(write.write_id, reason, retry=False)
            for write in self._open_writes()
            if holds(text, write.text)
        ]
        return [*events, *self._close(Outcome.COMPLETED)]

    # --- turns ----------------------------------------------------------------------------------

    def _open(self, prompt: str) -> list[Event]:
        state = self.state
        if not prompt or state.turn is not None or prompt in state.ended:
            return []
        state.turn, state.boundary = prompt, False
        state.stopped = state.interrupted = False
        state.fault, state.message = None, ""
        state.counted, state.spent = Tokens(), Tokens()
        return [TurnStarted(prompt)]

    def works(self) -> list[Event]:
        """Claude shows that it works, and has said nothing of what: a shell command of a person."""
        state = self.state
        return self._open(f"untold-{state.hooks}-{state.at}")

    def _close(self, outcome: Outcome) -> list[Event]:
        state = self.state
        if state.turn is None:
            return []
        events = self._unfinished_tools()
        events += self._resolve_all("withdrawn")
        self._spend()
        error = self._error() if outcome is Outcome.COMPLETED else None
        spent = Usage(state.spent.input, state.spent.output, state.spent.cached)
        ended = TurnEnded(
            state.turn, Outcome.FAILED if error else outcome, usage=spent, error=error
        )
        state.ended = [*state.ended, state.turn][-MAX_ENDED:]
        state.turn = state.fault = None
        state.running, state.seen = {}, {}
        return [*events, ended]

    def _unfinished_tools(self) -> list[Event]:
        tools, self.state.tools = list(self.state.tools), {}
        return [ToolEnded(tool, False, "no result was recorded", self.state.turn) for tool in tools]

    def _error(self) -> ErrorInfo | None:
        fault = self.state.fault
        if fault is None:
            return None
        kind = error_class(fault.name, fault.status, fault.text)
        return ErrorInfo(kind, fault.text or "claude ended the turn with an error", fault.status)

    def resting(self, *, surely: bool) -> list[Event]:
        """Claude shows that it waits, and everything in its record was heard. `surely`: for so long
        that what is still open will not be ended by the record any more."""
        state = self.state
        if state.asks:
            return []
        events: list[Event] = []
        if state.turn is not None and (surely or state.fault is not None):
            events += self._close(Outcome.INTERRUPTED if state.interrupted else Outcome.COMPLETED)
        if state.turn is not None or (state.queued and not surely):
            return events
        state.queued = 0
        if not state.boundary:
            state.boundary = True
            events.append(Idle())
        return events

    def ready(self) -> list[Event]:
        """Claude can take input for the first time."""
        state = self.state
        if state.ready:
            return []
        state.ready, state.boundary = True, True
        gone = self.startup_dialogue_gone()
        return [*gone, SessionReady(state.conversation, state.version, state.model), Idle()]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


__all__ = ["Fold"]
