"""Every SQL statement of the relay, each with its purpose. `rows` turns what they answer into models."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

# Rows of one INSERT. Several at once cost less each, and give the other threads of the process less
# reason to interrupt; more than this bring nothing.
CHUNKS = (16, 4, 1)


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT for any number of rows: one statement for each size of `CHUNKS`."""

    width: int
    statements: tuple[tuple[int, str], ...]


def _insert(table: str, *columns: str) -> Insert:
    head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
    row = f"({', '.join('?' * len(columns))})"
    statements = tuple((rows, head + ", ".join([row] * rows)) for rows in CHUNKS)
    return Insert(len(columns), statements)


#: Scripts that lead from an empty database to the present schema.
MIGRATIONS = ((files(__package__) / "schema.sql").read_text(encoding="utf-8"),)

# --- relay ----------------------------------------------------------------------------------------

# Name a new database; an old one keeps its name.
NAME_RELAY = "INSERT INTO relay (id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM relay)"
RELAY_ID = "SELECT id FROM relay"

# --- agents ---------------------------------------------------------------------------------------

AGENT_COLUMNS = (
    "id, name, label, tags, capabilities, channels, machine, project, harness, session_id,"
    " runtime_id, status, meta, registered_at, last_seen_at"
)
# Oldest registration first: the order in which a fan-out delivers.
ALL_AGENTS = f"SELECT {AGENT_COLUMNS} FROM agents ORDER BY registered_at, id"
AGENT = f"SELECT {AGENT_COLUMNS} FROM agents WHERE id = ?"
# Add an agent or replace all of it.
PUT_AGENT = f"REPLACE INTO agents ({AGENT_COLUMNS}) VALUES ({', '.join('?' * 15)})"
# A parameter that is NULL does not filter.
FIND_AGENTS = f"""
    SELECT {AGENT_COLUMNS} FROM agents
    WHERE (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag))
      AND (:capability IS NULL
           OR EXISTS (SELECT 1 FROM json_each(capabilities) WHERE value = :capability))
      AND (:machine IS NULL OR machine = :machine)
      AND (:status IS NULL OR status = :status)
      AND (:label IS NULL OR label = :label)
      AND (:runtime IS NULL OR runtime_id = :runtime)
    ORDER BY registered_at, id
"""
SET_LABEL = "UPDATE agents SET label = ? WHERE id = ?"
SET_PRESENCE = "UPDATE agents SET status = ?, last_seen_at = ? WHERE id = ?"
REMOVE_AGENT = "DELETE FROM agents WHERE id = ?"
# Who was last heard of before a time and is not offline yet.
STALE_AGENTS = f"""
    SELECT {AGENT_COLUMNS} FROM agents WHERE status != 'offline' AND last_seen_at <= ?
"""
# When the most silent of those who are not offline was last heard of.
OLDEST_SIGN_OF_LIFE = "SELECT min(last_seen_at) FROM agents WHERE status != 'offline'"

# --- messages -------------------------------------------------------------------------------------

MESSAGE_COLUMNS = (
    "id, sender, target, body, thread_id, mode, trace_id, created_at, expires_at, meta"
)
ADD_MESSAGES = _insert(
    "messages",
    "id",
    "sender",
    "target",
    "body",
    "thread_id",
    "mode",
    "trace_id",
    "created_at",
    "expires_at",
    "idempotency_key",
    "meta",
)
# The highest id ever given out, also when that message is gone.
LAST_MESSAGE = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages'"
MESSAGE = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE id = ?"
# What a sender sent with a key before.
MESSAGE_BY_KEY = f"""
    SELECT {MESSAGE_COLUMNS} FROM messages WHERE sender = ? AND idempotency_key = ?
"""
# The first message of the thread that a message belongs to.
THREAD_OF = "SELECT coalesce(thread_id, id) FROM messages WHERE id = ?"
# A thread from its first message on, after a message of it.
THREAD = """
    SELECT id FROM messages WHERE (id = :id OR thread_id = :id) AND id > :after
    ORDER BY id LIMIT :limit
"""

# --- deliveries -----------------------------------------------------------------------------------

ADD_DELIVERIES = _insert("deliveries", "message_id", "n", "agent_id", "session_id", "expires_at")
DELIVERY_STATES = """
    SELECT message_id, n, agent_id, session_id, status, reason, evidence
    FROM deliveries WHERE message_id = ? ORDER BY n
"""
# One delivery, for judging a report on it.
DELIVERY = """
    SELECT seq, message_id, n, agent_id, session_id, status
    FROM deliveries WHERE message_id = ? AND n = ?
"""
# A taken delivery does not expire here any more: that is its runtime's business.
SET_DELIVERY = """
    UPDATE deliveries
    SET status = ?, open = ?, session_id = ?, reason = ?, evidence = ?, expires_at = NULL
    WHERE seq = ?
"""
# Work for a runtime after its cursor: what is not final, and not about to be swept as expired.
# Here and below the messages are read one by one afterwards, until an answer is large enough.
RUNTIME_DELIVERIES = """
    SELECT seq, n, agent_id, message_id FROM deliveries
    WHERE agent_id IN (SELECT id FROM agents WHERE runtime_id = :runtime)
      AND open = 1 AND seq > :after AND (expires_at IS NULL OR expires_at > :now)
    ORDER BY seq LIMIT :limit
"""
_INBOX = """
    SELECT * FROM (
        SELECT seq, n, status, message_id FROM deliveries
        WHERE agent_id = :agent AND open = %d AND seq > :after
          AND (expires_at IS NULL OR expires_at > :now)
        ORDER BY seq LIMIT :limit)
"""
# An agent's messages that are not final.
UNREAD_INBOX = _INBOX % 1
# All of an agent's messages: two walks along the index, each bounded, not one over its history.
INBOX = f"{_INBOX % 1} UNION ALL {_INBOX % 0} ORDER BY seq LIMIT :limit"
LAST_DELIVERY = "SELECT coalesce(max(seq), 0) FROM deliveries"
# Not taken by any runtime yet, oldest first.
PENDING_OF_AGENT = """
    SELECT seq, message_id, n, agent_id, session_id, status
    FROM deliveries WHERE agent_id = ? AND open = 1 AND status = 'pending' ORDER BY seq
"""
# Put a delivery behind all others, where the cursor of another runtime has not been yet.
MOVE_TO_END = "UPDATE deliveries SET seq = (SELECT max(seq) + 1 FROM deliveries), session_id = ? WHERE seq = ?"
# Past their time and not taken. The index is partial: NOT NULL lets SQLite use it.
EXPIRED = """
    SELECT seq, message_id, n, agent_id, session_id, status
    FROM deliveries WHERE expires_at IS NOT NULL AND expires_at <= ?
    ORDER BY expires_at LIMIT ?
"""
NEXT_EXPIRY = "SELECT min(expires_at) FROM deliveries WHERE expires_at IS NOT NULL"

# --- receipts -------------------------------------------------------------------------------------

ADD_RECEIPT = (
    "INSERT INTO receipts (receipt_id, message_id, n, status, session_id, reason, evidence,"
    " next_attempt_at, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
RECEIPT_BY_ID = """
    SELECT message_id, n, status, reason, evidence FROM receipts WHERE receipt_id = ?
"""
# Everything that happened to a message, oldest first.
RECEIPTS = """
    SELECT r.message_id, r.n, d.agent_id, r.status, r.session_id, r.reason, r.evidence,
           r.next_attempt_at, r.at
    FROM receipts r JOIN deliveries d ON d.message_id = r.message_id AND d.n = r.n
    WHERE r.message_id = ? ORDER BY r.id
"""

# --- events ---------------------------------------------------------------------------------------

ADD_EVENTS = _insert("events", "type", "at", "agent_id", "message_id", "data")
# The log after a cursor, with the message that an event is about.
EVENTS = """
    SELECT e.seq, e.type, e.at, e.agent_id, e.message_id, e.data,
           m.sender, m.target, m.thread_id, m.mode, m.trace_id,
           CASE WHEN e.data IS NULL THEN
               (SELECT json_group_array(agent_id) FROM
                   (SELECT agent_id FROM deliveries WHERE message_id = e.message_id ORDER BY n))
           END
    FROM events e LEFT JOIN messages m ON m.id = e.message_id
    WHERE e.seq > ? ORDER BY e.seq LIMIT ?
"""
LAST_EVENT = "SELECT coalesce(max(seq), 0) FROM events"

# --- statistics -----------------------------------------------------------------------------------

COUNT_AGENTS = "SELECT status, count(*) FROM agents GROUP BY status"
COUNT_MESSAGES = "SELECT coalesce(max(id), 0) FROM messages"  # counting them reads all of them
COUNT_DELIVERIES = "SELECT status, count(*) FROM deliveries GROUP BY status"
