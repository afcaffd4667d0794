-- Schema version 1. Never edited once released: a change is a further script in sql.MIGRATIONS.
-- Times are seconds since the epoch; lists and objects are JSON. AUTOINCREMENT where a number is a
-- cursor or an id that others keep: it is never given out twice, also after deletions.

CREATE TABLE relay (
    id TEXT PRIMARY KEY                     -- new with every database; part of each delivery id
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    label TEXT,
    tags TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    channels TEXT NOT NULL,
    machine TEXT,
    project TEXT,
    harness TEXT,
    session_id TEXT,
    runtime_id TEXT,
    status TEXT NOT NULL,
    meta TEXT NOT NULL,
    registered_at REAL NOT NULL,
    last_seen_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sender TEXT NOT NULL,
    target TEXT NOT NULL,
    body TEXT NOT NULL,
    thread_id INTEGER REFERENCES messages (id),    -- the first message of the thread
    mode TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    idempotency_key TEXT,
    meta TEXT
) STRICT;
CREATE INDEX messages_by_thread ON messages (thread_id) WHERE thread_id IS NOT NULL;
CREATE UNIQUE INDEX messages_by_key ON messages (sender, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the cursor of runtimes and inboxes
    message_id INTEGER NOT NULL REFERENCES messages (id),
    n INTEGER NOT NULL,                     -- which of the message's deliveries
    agent_id TEXT NOT NULL,                 -- stays when the agent is removed
    session_id TEXT,
    status TEXT NOT NULL DEFAULT 'pending',
    open INTEGER NOT NULL DEFAULT 1,        -- 0 when status is final
    reason TEXT,
    evidence TEXT,
    expires_at REAL                         -- the message's, until a runtime took the delivery
) STRICT;
CREATE UNIQUE INDEX deliveries_by_message ON deliveries (message_id, n);
CREATE INDEX deliveries_by_agent ON deliveries (agent_id, open);
CREATE INDEX deliveries_by_expiry ON deliveries (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE receipts (
    id INTEGER PRIMARY KEY,
    receipt_id TEXT NOT NULL UNIQUE,
    message_id INTEGER NOT NULL REFERENCES messages (id),
    n INTEGER NOT NULL,
    status TEXT NOT NULL,
    session_id TEXT,
    reason TEXT,
    evidence TEXT,
    next_attempt_at REAL,
    at REAL NOT NULL
) STRICT;
CREATE INDEX receipts_by_message ON receipts (message_id);

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the resume cursor
    type TEXT NOT NULL,
    at REAL NOT NULL,
    agent_id TEXT,
    message_id INTEGER,
    data TEXT                               -- NULL for message.new: all of it is in the message
) STRICT;
