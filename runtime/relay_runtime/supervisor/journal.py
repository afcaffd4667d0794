"""The supervisor's durable memory, and with `lookup` the only SQL of the runtime.

Sessions, the deliveries they have taken charge of, intents to write, receipts on their way to the
relay, and events. Everything one step of a session changes goes in as one `Step`: one transaction,
so that a crash finds either all of it or nothing. Writes go through the group-committing `Writer`;
reads are done inline on a second connection (microseconds).
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic_core import to_json

from relay_server.database import connect_readonly

from .records import LIVE, RECORD, Live, SessionRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from relay_server.writer import Writer

    from ..contract import Json
    from ..turn_types import Told

#: What is over for longer is forgotten: the journal is for people who look back at last night, the
#: harness's own transcript is the archive.
KEEP_DAYS = 30

MIGRATIONS = (
    """
    CREATE TABLE sessions (
        session_id  TEXT PRIMARY KEY,
        agent_id    TEXT NOT NULL,
        name        TEXT NOT NULL,
        record      TEXT NOT NULL,
        live        TEXT NOT NULL,
        checkpoint  TEXT,
        state       TEXT NOT NULL,
        since       REAL NOT NULL,
        ended       INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX sessions_agent ON sessions (agent_id);
    CREATE TABLE deliveries (
        arrival     INTEGER PRIMARY KEY AUTOINCREMENT,
        delivery_id TEXT NOT NULL UNIQUE,
        session_id  TEXT NOT NULL,
        message     TEXT NOT NULL,
        final       INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX deliveries_open ON deliveries (session_id, arrival) WHERE final = 0;
    CREATE TABLE writes (
        write_id    TEXT PRIMARY KEY,
        session_id  TEXT NOT NULL,
        deliveries  TEXT NOT NULL,
        entry       TEXT NOT NULL,
        cut         TEXT,
        text        TEXT NOT NULL,
        seq         INTEGER NOT NULL,
        at          REAL NOT NULL,
        open        INTEGER NOT NULL DEFAULT 1
    ) STRICT;
    CREATE INDEX writes_open ON writes (session_id) WHERE open = 1;
    CREATE TABLE receipts (
        number      INTEGER PRIMARY KEY AUTOINCREMENT,
        receipt_id  TEXT NOT NULL UNIQUE,
        delivery_id TEXT NOT NULL,
        status      TEXT NOT NULL,
        reason      TEXT,
        evidence    TEXT,
        next_attempt_at REAL,
        at          REAL NOT NULL,
        reported    INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX receipts_unreported ON receipts (number) WHERE reported = 0;
    CREATE INDEX receipts_delivery ON receipts (delivery_id);
    CREATE TABLE events (
        cursor      INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id  TEXT NOT NULL,
        at          REAL NOT NULL,
        type        TEXT NOT NULL,
        data        TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_session ON events (session_id, cursor);
    CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    """,
)


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery the runtime has taken charge of. `message` is JSON of the relay's message."""

    delivery_id: str
    message: str
    arrival: int = 0


@dataclass(frozen=True, slots=True)
class WriteRow:
    """An intent to write. `open` until the harness's record has decided about it."""

    write_id: str
    deliveries: tuple[str, ...]
    entry: str
    cut: str | None
    text: str
    seq: int
    at: float


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt on its way to the relay. `local` ones (a session's task) have nobody to go to."""

    receipt_id: str
    delivery_id: str
    status: str
    reason: str | None
    evidence: str | None
    next_attempt_at: float | None
    at: float
    local: bool = False


@dataclass(frozen=True, slots=True)
class EventRow:
    cursor: int
    session_id: str
    name: str
    at: float
    type: str
    data: dict[str, Json]


@dataclass(frozen=True, slots=True)
class SessionRow:
    record: SessionRecord
    live: Live
    checkpoint: Json
    state: str
    since: float


@dataclass(slots=True)
class Step:
    """Everything one step of a session changes."""

    session_id: str
    at: float
    events: list[tuple[str, bytes]] = field(default_factory=list)
    receipts: list[ReceiptRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    final: list[str] = field(default_factory=list)
    write: WriteRow | None = None
    closed_writes: list[str] = field(default_factory=list)
    live: Live | None = None
    state: tuple[str, float] | None = None
    checkpoint: str | None = None


_SET_FACT = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class Journal:
    """Opened by `open_journal`; one per supervisor, which holds the lock of its home."""

    def __init__(self, writer: Writer, path: Path) -> None:
        self._writer = writer
        self._read = sqlite3.connect(path, isolation_level=None)
        self._read.execute("PRAGMA query_only = 1")

    async def aclose(self) -> None:
        await self._writer.aclose()
        self._read.close()

    # Writing.

    async def commit(self, step: Step) -> None:
        """Commit one step. Raises sqlite3.Error when nothing of it was committed (disk full)."""
        await self._writer.run(lambda db: _apply(db, step))

    async def add_session(self, record: SessionRecord, state: str) -> None:
        """Insert the row of a new session."""
        spec = record.spec
        row = (
            spec.session_id,
            spec.agent_id,
            spec.name,
            RECORD.dump_json(record).decode(),
            LIVE.dump_json(Live()).decode(),
            state,
            record.created_at,
        )
        await self._writer.run(
            lambda db: (
                db.execute(
                    "INSERT INTO sessions (session_id, agent_id, name, record, live, state, since)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                ).rowcount
            )
        )

    async def keep_place(self, key: str, place: str, reported: int) -> None:
        """`place` is a fact; the relay has the receipts up to number `reported`."""

        def write(db: sqlite3.Connection) -> None:
            db.execute(_SET_FACT, (key, place))
            db.execute(
                "UPDATE receipts SET reported = 1 WHERE reported = 0 AND number <= ?", (reported,)
            )

        await self._writer.run(write)

    async def add_receipt(self, receipt: ReceiptRow) -> None:
        """A receipt for a delivery that no session of ours can take."""
        await self._writer.run(lambda db: _insert_receipts(db, [receipt]))

    async def set_fact(self, key: str, value: str) -> None:
        await self._writer.run(lambda db: db.execute(_SET_FACT, (key, value)).rowcount)

    async def prune(self, before: float) -> list[str]:
        """Forget what is over since before a time. Returns the ids of sessions that went."""
        return await self._writer.run(lambda db: _prune(db, before))

    # Reading.

    def fact(self, key: str) -> str | None:
        row = self._read.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def sessions(self) -> Iterator[SessionRow]:
        """Every session, oldest first."""
        rows = self._read.execute(
            "SELECT record, live, checkpoint, state, since FROM sessions ORDER BY rowid"
        )
        for row in rows.fetchall():
            yield _session_row(row)

    def session(self, session_id: str) -> SessionRow:
        """One session. Raises `KeyError` for an id that was never added."""
        row = self._read.execute(
            "SELECT record, live, checkpoint, state, since FROM sessions WHERE session_id = ?",
            (session_id,),
        ).fetchone()
        if row is None:
            raise KeyError(session_id)
        return _session_row(row)

    def knows(self, delivery_id: str) -> bool:
        """Whether a delivery was taken charge of before: the relay may offer it again."""
        found = self._read.execute("SELECT 1 FROM deliveries WHERE delivery_id = ?", (delivery_id,))
        return found.fetchone() is not None

    def open_deliveries(self, session_id: str) -> list[DeliveryRow]:
        """Those without a final receipt, in the order of their arrival."""
        rows = self._read.execute(
            "SELECT delivery_id, message, arrival FROM deliveries"
            " WHERE session_id = ? AND final = 0 ORDER BY arrival",
            (session_id,),
        )
        return [DeliveryRow(*row) for row in rows]

    def reasons_told(self, session_id: str) -> dict[str, set[Told]]:
        """Why each open delivery was deferred so far."""
        rows = self._read.execute(
            "SELECT r.delivery_id, r.reason, r.next_attempt_at IS NOT NULL"
            " FROM receipts r JOIN deliveries d USING (delivery_id)"
            " WHERE d.session_id = ? AND d.final = 0 AND r.status = 'deferred'",
            (session_id,),
        )
        told: dict[str, set[Told]] = {}
        for delivery_id, reason, timed in rows:
            told.setdefault(delivery_id, set()).add((reason, bool(timed)))
        return told

    def open_write(self, session_id: str) -> WriteRow | None:
        """The write in doubt, if there is one."""
        row = self._read.execute(
            "SELECT write_id, deliveries, entry, cut, text, seq, at FROM writes"
            " WHERE session_id = ? AND open = 1 ORDER BY at DESC LIMIT 1",
            (session_id,),
        ).fetchone()
        if row is None:
            return None
        write_id, deliveries, entry, cut, text, seq, at = row
        return WriteRow(write_id, tuple(json.loads(deliveries)), entry, cut, text, seq, at)

    def unreported(self, after: int, limit: int) -> list[tuple[int, ReceiptRow]]:
        """Receipts behind number `after` that the relay does not have yet, oldest first."""
        rows = self._read.execute(
            "SELECT number, receipt_id, delivery_id, status, reason, evidence, next_attempt_at, at"
            " FROM receipts WHERE reported = 0 AND number > ? ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [(row[0], ReceiptRow(*row[1:])) for row in rows]

    def events(self, after: int, session_id: str | None, limit: int) -> list[EventRow]:
        """Events after a cursor, oldest first; of one session or of all."""
        where, arguments = (
            ("", [after]) if session_id is None else (" AND e.session_id = ?", [after, session_id])
        )
        rows = self._read.execute(
            "SELECT e.cursor, e.session_id, coalesce(s.name, e.session_id), e.at, e.type, e.data"
            " FROM events e LEFT JOIN sessions s USING (session_id)"
            f" WHERE e.cursor > ?{where} ORDER BY e.cursor LIMIT ?",
            (*arguments, limit),
        )
        return [
            EventRow(cursor, session, name, at, kind, json.loads(data))
            for cursor, session, name, at, kind, data in rows
        ]

    def last_cursor(self) -> int:
        row = self._read.execute("SELECT coalesce(max(cursor), 0) FROM events").fetchone()
        return int(row[0])


def read_session(path: Path, session_id: str) -> SessionRow | None:
    """A session as it was left in the journal, for who has no supervisor to ask.

    Raises `sqlite3.Error` when the journal cannot be read.
    """
    with closing(connect_readonly(path)) as db:
        row = db.execute(
            "SELECT record, live, checkpoint, state, since FROM sessions WHERE session_id = ?",
            (session_id,),
        ).fetchone()
    return _session_row(row) if row else None


def _session_row(row: tuple[str, str, str | None, str, float]) -> SessionRow:
    record, live, checkpoint, state, since = row
    return SessionRow(
        RECORD.validate_json(record),
        LIVE.validate_json(live),
        json.loads(checkpoint) if checkpoint else None,
        state,
        since,
    )


def _apply(db: sqlite3.Connection, step: Step) -> None:
    session_id = step.session_id
    if step.deliveries:
        db.executemany(
            "INSERT INTO deliveries (delivery_id, session_id, message) VALUES (?, ?, ?)",
            [(d.delivery_id, session_id, d.message) for d in step.deliveries],
        )
    if step.closed_writes:
        db.executemany(
            "UPDATE writes SET open = 0 WHERE write_id = ?", [(w,) for w in step.closed_writes]
        )
    if (write := step.write) is not None:
        db.execute(
            "INSERT INTO writes (write_id, session_id, deliveries, entry, cut, text, seq, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (write_id) DO UPDATE"
            " SET entry = excluded.entry, seq = excluded.seq, at = excluded.at, open = 1",
            (
                write.write_id,
                session_id,
                json.dumps(write.deliveries),
                write.entry,
                write.cut,
                write.text,
                write.seq,
                write.at,
            ),
        )
    _insert_receipts(db, step.receipts)
    if step.final:
        db.executemany(
            "UPDATE deliveries SET final = 1 WHERE delivery_id = ?", [(d,) for d in step.final]
        )
    if step.events:
        db.executemany(
            "INSERT INTO events (session_id, at, type, data) VALUES (?, ?, ?, ?)",
            [(session_id, step.at, kind, data.decode()) for kind, data in step.events],
        )
    if step.live is not None:
        db.execute(
            "UPDATE sessions SET live = ?, ended = ? WHERE session_id = ?",
            (LIVE.dump_json(step.live).decode(), step.live.ended, session_id),
        )
    if step.state is not None:
        db.execute(
            "UPDATE sessions SET state = ?, since = ? WHERE session_id = ?",
            (*step.state, session_id),
        )
    if step.checkpoint is not None:
        db.execute(
            "UPDATE sessions SET checkpoint = ? WHERE session_id = ?",
            (step.checkpoint, session_id),
        )


def _prune(db: sqlite3.Connection, before: float) -> list[str]:
    over = "SELECT session_id FROM sessions WHERE ended = 1 AND since < ?"
    gone = [row[0] for row in db.execute(over, (before,)).fetchall()]
    for table in ("deliveries", "writes", "events"):
        db.execute(f"DELETE FROM {table} WHERE session_id IN ({over})", (before,))
    db.execute("DELETE FROM sessions WHERE ended = 1 AND since < ?", (before,))
    db.execute("DELETE FROM events WHERE at < ?", (before,))
    db.execute("DELETE FROM receipts WHERE reported = 1 AND at < ?", (before,))
    db.execute("DELETE FROM writes WHERE open = 0 AND at < ?", (before,))
    db.execute(
        "DELETE FROM deliveries WHERE final = 1"
        " AND delivery_id NOT IN (SELECT delivery_id FROM receipts)"
    )
    return gone


def _insert_receipts(db: sqlite3.Connection, receipts: Sequence[ReceiptRow]) -> None:
    if receipts:
        db.executemany(
            "INSERT INTO receipts (receipt_id, delivery_id, status, reason, evidence,"
            " next_attempt_at, at, reported) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    r.receipt_id,
                    r.delivery_id,
                    r.status,
                    r.reason,
                    r.evidence,
                    r.next_attempt_at,
                    r.at,
                    int(r.local),
                )
                for r in receipts
            ],
        )


def dump(value: Json) -> str:
    """JSON text of a checkpoint."""
    return to_json(value).decode()
