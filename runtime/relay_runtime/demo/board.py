"""What has happened so far, built from the event log. Pure; how it is shown is up to the caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Row:
    """One message on its way."""

    message_id: int
    to: str
    when: str
    receipts: list[str] = field(default_factory=list)
    evidence: str = ""


@dataclass
class Board:
    """`note` is what the demonstration is doing; `states` has every session's newest state."""

    note: str = ""
    states: dict[str, str] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    cursor: int = 0

    def sent(self, message_id: int, to: str, when: str) -> None:
        row = self.rows.setdefault(message_id, Row(message_id, to, when))
        row.to, row.when = to, when

    def take(self, event: Mapping[str, Any]) -> None:
        """One event of the log, as the control API gives it."""
        self.cursor = event["cursor"]
        data = event["data"]
        if event["type"] == "session.state":
            self.states[event["name"]] = data["state"]
        elif event["type"] == "receipt" and data["message_id"] is not None:
            number = data["message_id"]
            row = self.rows.setdefault(number, Row(number, event["name"], ""))
            word = data["status"]
            row.receipts.append(f"{word} ({data['reason']})" if data["reason"] else word)
            if data["evidence"]:
                row.evidence = data["evidence"]["kind"]

    @property
    def undelivered(self) -> list[Row]:
        return [row for row in self.rows.values() if "delivered" not in row.receipts]
