"""What the writer's thread keeps beside the database, so that addressing costs no query."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from . import rows, sql
from .hub import DEADLINES
from .targets import Directory

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

T = TypeVar("T")

#: What a write gives back: its result, and the topics to wake once it is durable.
Change = tuple[T, list[str]]


@dataclass(slots=True)
class Book:
    """Touched by the writer's thread only, after `open`. `clock` gives seconds since the epoch."""

    stale_ttl_s: float
    clock: Callable[[], float]
    opened_at: float
    relay_id: str = ""
    directory: Directory = field(default_factory=Directory)
    last_message_id: int = 0
    #: What the deadline task sleeps for; infinite while it does not know, so that all wake it.
    next_deadline: float = math.inf

    def reload(self, conn: sqlite3.Connection) -> None:
        """Read everything from the database again. For `Writer.open`."""
        self.directory = Directory(
            rows.addressee(rows.agent(row)) for row in conn.execute(sql.ALL_AGENTS)
        )
        self.last_message_id = conn.execute(sql.LAST_MESSAGE).fetchone()[0]
        self.next_deadline = math.inf

    def deadline_topics(self, deadline: float) -> list[str]:
        """Note a deadline that was just set; wakes its task only if it comes before all others."""
        if deadline >= self.next_deadline:
            return []
        self.next_deadline = deadline
        return [DEADLINES]
