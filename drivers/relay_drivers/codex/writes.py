"""Writes that codex was given and has not shown to be in the thread. Pure.

A write is proven by its user message, never by the answer to the request that carried it. It is
refused when the turn it was for is over and that message did not come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay_runtime.contract import Entry
from relay_runtime.events import Outcome, Refused, clip

from .read import Obj, objects, sub, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import Json

#: What a hook of the user has to say is for one line of a receipt.
MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Handed:
    """One write. `turn_id` is None until codex has answered."""

    entry: Entry
    turn_id: str | None = None


@dataclass(slots=True)
class Writes:
    handed: dict[str, Handed] = field(default_factory=dict)
    _blocked: tuple[str, str] | None = None  # (turn, reason)

    def hand(self, write_id: str, entry: Entry) -> None:
        """It goes out now."""
        self.handed[write_id] = Handed(entry)

    def accept(self, write_id: str, turn_id: str) -> None:
        """Codex says which turn it is for; perhaps after its message came."""
        if (found := self.handed.get(write_id)) is not None:
            self.handed[write_id] = Handed(found.entry, turn_id)

    def drop(self, write_id: str) -> None:
        """It is proven, or known not to be there."""
        self.handed.pop(write_id, None)

    def hook_ended(self, params: Obj) -> None:
        """A hook of the user has run; it may have refused the input of its turn."""
        run = sub(params, "run")
        stopped = text(run, "status") in ("blocked", "stopped")
        if stopped and text(run, "eventName") == "userPromptSubmit":
            said = [text(entry, "text") for entry in objects(run, "entries")]
            why = "; ".join(filter(None, said))
            reason = "a UserPromptSubmit hook blocked it" + (f": {why}" if why else "")
            self._blocked = (text(params, "turnId"), clip(reason, MAX_REASON))

    def refuse(self, turn_id: str, outcome: Outcome, *, empty: bool) -> list[Refused]:
        """The turn is over: what was for it is not in the thread. `empty`: it had no item at all."""
        refused = []
        for write_id in [w for w, handed in self.handed.items() if handed.turn_id == turn_id]:
            handed = self.handed.pop(write_id)
            final = None
            if self._blocked is not None and self._blocked[0] == turn_id:
                final = self._blocked[1]
            elif outcome is Outcome.COMPLETED and empty and handed.entry is Entry.NEXT_TURN:
                final = "codex ended the turn without it, as a UserPromptSubmit hook makes it"
            reason = final or f"its turn was {outcome.value} before codex took it in"
            refused.append(Refused(write_id, reason, retry=final is None))
        return refused

    def dump(self) -> Json:
        """For a checkpoint."""
        return {w: [handed.entry.value, handed.turn_id] for w, handed in self.handed.items()}

    def load(self, saved: Mapping[str, Json]) -> None:
        for write_id, handed in saved.items():
            match handed:
                case [str(entry), turn_id] if entry in tuple(Entry):
                    known = turn_id if isinstance(turn_id, str) else None
                    self.handed[write_id] = Handed(Entry(entry), known)


__all__ = ["Handed", "Writes"]
