"""The writes of ours that Claude has and that are not decided yet.

Proof has two parts. Claude says that a message entered a turn (`command_lifecycle` started, or the
replay of its uuid), and its record on disk contains it. Neither is enough alone: `started` comes
before the user's UserPromptSubmit hooks, which may refuse the message, an interrupt may drop it
there, and the replay of a duplicate proves nothing. So Claude's words are claims here. The shell
looks them up in the record and reports back by `confirmed`, `missing` or `unrecorded`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay_runtime.events import Event, Evidence, Proven, Refused

from .state import MAX_ALIASES, MAX_PROVEN, MAX_WRITES, State, Write, alias

if TYPE_CHECKING:
    from .observations import Blocked, Echo, Lifecycle

BY_LIFECYCLE: Final = "claude.command_lifecycle"
BY_REPLAY: Final = "claude.replay"
BY_TRANSCRIPT: Final = "claude.transcript"

#: Of a text, to recognise it where Claude quotes it.
_HEAD: Final = 64


class Writes:
    """Works on `State.writes`, `State.burnt` and `State.proven`."""

    def __init__(self, state: State) -> None:
        self._state = state

    # --- what we do -----------------------------------------------------------------------------

    def hand(self, write_id: str, text: str) -> str:
        """A write is about to go in. The id for Claude to know it by."""
        state = self._state
        harness_id = self.harness_id(write_id)
        write = state.writes.get(harness_id) or self._remember(harness_id, Write(write_id))
        write.head = text[:_HEAD]
        if harness_id in state.proven:  # handed in once more, so its proof did not arrive
            state.proven.remove(harness_id)
        return harness_id

    def harness_id(self, write_id: str) -> str:
        """The id that a write has for Claude, which ignores one it has seen in this process."""
        return alias(write_id, self._state.burnt.get(write_id, 0))

    def other_seen(self, write_id: str) -> bool:
        """Whether Claude holds another write of ours: two that wait would be merged."""
        return any(w.seen and w.write_id != write_id for w in self._state.writes.values())

    def of(self, write_id: str) -> tuple[str, Write] | None:
        """The open write with this id, and the id Claude knows it by."""
        found = ((key, w) for key, w in self._state.writes.items() if w.write_id == write_id)
        return next(found, None)

    def found(self, write_id: str) -> None:
        """The record has it, and whoever asked for that was told."""
        if (known := self.of(write_id)) is not None:
            self._prove(known[0])

    def taken_back(self, write_id: str) -> None:
        """It is provably not in, and may come again."""
        known = self.of(write_id)
        if known is not None:
            del self._state.writes[known[0]]
            if known[1].seen:
                self._burn(write_id)

    def withdrawn(self, write_id: str) -> None:
        """Claude took it out of its queue again."""
        self._state.writes.pop(self.harness_id(write_id), None)
        self._burn(write_id)

    # --- what the record says -------------------------------------------------------------------

    @property
    def claims(self) -> tuple[str, ...]:
        """Those that Claude says it took, or may have taken: to be looked up."""
        writes = self._state.writes.items()
        return tuple(key for key, w in writes if w.started or w.echoed or w.opened)

    @property
    def overdue(self) -> tuple[str, ...]:
        """Those that are in the record by now or never will be."""
        idle = self._state.cli == "idle"
        writes = self._state.writes.items()
        return tuple(k for k, w in writes if (idle and w.seen) or (w.started and w.cancelled))

    def confirmed(self, harness_id: str) -> list[Event]:
        """The record has it."""
        write = self._prove(harness_id)
        kind, turn_id = BY_TRANSCRIPT, write.turn_id
        if write.started:
            kind = BY_LIFECYCLE
        elif write.turn_id is not None:
            kind = BY_REPLAY
        elif write.opened and not write.echoed:
            turn_id = self._state.turn
        return [Proven(write.write_id, Evidence(kind, harness_id, turn_id))]

    def missing(self, harness_id: str) -> list[Event]:
        """The record does not have it: Claude took it and dropped it."""
        write = self._state.writes.pop(harness_id)
        reason = "claude took the message and dropped it"
        if write.cancelled:
            reason = "the turn was interrupted before the message entered it"
        return [Refused(write.write_id, reason, retry=self._burn(write.write_id))]

    def unrecorded(self, harness_id: str) -> list[Event]:
        """There is no record of this conversation at all, so Claude's word has to do."""
        write = self._state.writes[harness_id]
        if write.completed or (write.echoed and write.turn_id is not None):
            return self.confirmed(harness_id)
        return self.missing(harness_id)

    # --- what Claude says -----------------------------------------------------------------------

    def on_opened(self) -> None:
        """A turn begins. Older versions say nothing of the message behind it until it is answered."""
        for write in self._state.writes.values():
            write.opened = True

    def on_lifecycle(self, seen: Lifecycle) -> list[Event]:
        """Call it after the turn that a `started` opens has been opened."""
        state = self._state
        state.announces = True
        if seen.command in state.proven:
            return []
        write = state.writes.get(seen.command)
        if write is None:
            if seen.state != "queued":  # Claude's own commands are never announced as queued
                return []
            write = self._remember(seen.command, Write(self._write_id(seen.command)))
        match seen.state:
            case "queued":
                write.queued = True
            case "started":
                write.started, write.turn_id = True, state.turn
            case "completed":
                write.completed = True
            case "cancelled":
                write.cancelled = True
            case "refused" | "discarded":
                del state.writes[seen.command]
                return [Refused(write.write_id, f"claude {seen.state} the message", retry=False)]
        return []

    def on_echo(self, seen: Echo) -> None:
        state = self._state
        if seen.uuid in state.proven:
            return
        write = state.writes.get(seen.uuid)
        if write is None:
            write = self._remember(seen.uuid, Write(self._write_id(seen.uuid)))
        write.echoed = True
        if seen.fresh:
            write.turn_id = write.turn_id or state.turn

    def on_blocked(self, seen: Blocked) -> list[Event]:
        for harness_id, write in self._state.writes.items():
            quoted = f"Original prompt: {write.head}" in seen.text
            if quoted if write.head else write.started:
                del self._state.writes[harness_id]
                reason = f"blocked by a UserPromptSubmit hook: {seen.reason}"
                return [Refused(write.write_id, reason, retry=False)]
        return []

    # --- inside ---------------------------------------------------------------------------------

    def _prove(self, harness_id: str) -> Write:
        state = self._state
        write = state.writes.pop(harness_id)
        state.burnt.pop(write.write_id, None)
        state.proven.append(harness_id)
        del state.proven[:-MAX_PROVEN]
        return write

    def _burn(self, write_id: str) -> bool:
        """Claude ignores this id from now on. False: the write had its last chance."""
        used = self._state.burnt.get(write_id, 0)
        self._state.burnt[write_id] = min(used + 1, MAX_ALIASES)
        return used < MAX_ALIASES

    def _write_id(self, harness_id: str) -> str:
        """Of a write that was handed in before a crash of the supervisor."""
        for write_id, used in self._state.burnt.items():
            if alias(write_id, used) == harness_id:
                return write_id
        return harness_id

    def _remember(self, harness_id: str, write: Write) -> Write:
        writes = self._state.writes
        while len(writes) >= MAX_WRITES:
            writes.pop(next(iter(writes)))
        writes[harness_id] = write
        return write


__all__ = ["BY_LIFECYCLE", "BY_REPLAY", "BY_TRANSCRIPT", "Writes"]
