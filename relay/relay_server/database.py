"""Opening a SQLite file: pragmas, schema migrations, and one writing process at a time."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Another process only reads or makes a backup, so a lock held this long means that it hangs.
BUSY_TIMEOUT_MS = 5_000
# 4 MB of pages is SQLite's own default for a checkpoint; after a burst the log file shrinks to this.
WAL_LIMIT_BYTES = 16 * 1024 * 1024
# Holds the upper levels of every index we write to; more only grows the process.
CACHE_KIB = 4_096

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}",
    f"PRAGMA cache_size = -{CACHE_KIB}",
)


# --- errors ---------------------------------------------------------------------------------------
#
# DatabaseError
# ├── DatabaseInUse      another process writes to this file: stop it or choose another file
# ├── DatabaseTooNew     a newer version wrote this file: upgrade or choose another file
# └── DatabaseUnusable   it cannot be opened or is no database of ours


class DatabaseError(Exception):
    """Base of what opening a database raises. The message says what to do, in one line."""


class DatabaseInUse(DatabaseError):
    """Raised when another process holds the database for writing."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is in use by another process: stop it, or use another file")


class DatabaseTooNew(DatabaseError):
    """Raised when the schema is newer than this program knows."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path} has schema version {found}, this program knows up to {known}: "
            "upgrade relay-runtime, or use another file"
        )


class DatabaseUnusable(DatabaseError):
    """Raised when SQLite cannot open the file or bring its schema up to date."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"cannot use {path} as a database: {reason}")


class WriteLock:
    """Held by the one process that writes to a database; gone with the process, however it ends.

    A file of its own: SQLite's locks on the database are POSIX locks, which a process loses when it
    closes any descriptor of that file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Creates the folder if there is none. Raises `DatabaseInUse` or `DatabaseUnusable`."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DatabaseUnusable(self._path, exc) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise DatabaseInUse(self._path) from None
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def connect(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """A connection for writing, in autocommit mode, with the schema up to date.

    The file is created with mode 0600; SQLite gives its journal files the same. Raises
    `DatabaseTooNew` or `DatabaseUnusable`. The connection may be used from any one thread.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as exc:
        raise DatabaseUnusable(path, exc) from exc
    try:
        for pragma in PRAGMAS:
            conn.execute(pragma)
        migrate(conn, path, migrations)
    except sqlite3.Error as exc:
        conn.close()
        raise DatabaseUnusable(path, exc) from exc
    except DatabaseError:
        conn.close()
        raise
    return conn


def connect_readonly(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for short reads beside the writer. One thread uses it."""
    conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    conn.execute("PRAGMA query_only = ON")
    conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return conn


def migrate(conn: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Run the scripts that the database has not seen; `PRAGMA user_version` counts them.

    Each script and its count are one transaction, so a crash leaves the version before or after.
    """
    found: int = conn.execute("PRAGMA user_version").fetchone()[0]
    if found > len(migrations):
        raise DatabaseTooNew(path, found, len(migrations))
    for version, script in enumerate(migrations[found:], start=found + 1):
        try:
            conn.executescript(f"BEGIN IMMEDIATE;{script};PRAGMA user_version = {version};COMMIT;")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                conn.execute("ROLLBACK")
            raise


__all__ = [
    "PRAGMAS",
    "DatabaseError",
    "DatabaseInUse",
    "DatabaseTooNew",
    "DatabaseUnusable",
    "WriteLock",
    "connect",
    "connect_readonly",
    "migrate",
]
