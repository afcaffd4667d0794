"""A session's place, from the journal alone: for who has no supervisor, or no time, to ask.

Imports next to nothing: an `attach` starts with this.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from relay_server.database import connect_readonly

if TYPE_CHECKING:
    from pathlib import Path


class Found(NamedTuple):
    """A session that is not over, as somebody sees it who has no supervisor to ask."""

    session_id: str
    name: str
    mode: str


def find_session(path: Path, key: str) -> Found | None:
    """The session with this name, id or agent's id. Works while no supervisor runs.

    Raises `sqlite3.Error` when the journal cannot be read.
    """
    if not path.exists():
        return None
    with closing(connect_readonly(path)) as db:
        row = db.execute(
            "SELECT session_id, name, json_extract(record, '$.spec.mode') FROM sessions"
            " WHERE ended = 0 AND ? IN (name, session_id, agent_id) ORDER BY rowid DESC",
            (key,),
        ).fetchone()
    return Found(*row) if row else None


__all__ = ["Found", "find_session"]
