"""Group commit: many callers, one connection, one thread, one fsync for all who wait at that moment.

    writer = await Writer.open(path, MIGRATIONS)
    row_id = await writer.run(lambda conn: conn.execute(INSERT, values).lastrowid)
    await writer.aclose()

`run` returns when what the function wrote is on disk. The thread takes whatever is queued into one
transaction, so batches form by themselves under load and a lone caller never waits for others.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from .database import WriteLock, connect, connect_readonly

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from types import TracebackType

T = TypeVar("T")
I = TypeVar("I")

# Beyond this the commit is a small part of the time, and the first caller waits for the last.
MAX_BATCH = 256
# About a tenth of a second of work on a fast disk. Callers beyond it wait for room.
MAX_QUEUED = 4_096


class WriterClosed(Exception):
    """Raised by `run` when the writer is closing or closed: nothing was written."""

    def __init__(self) -> None:
        super().__init__("the database is closed")


class _Job:
    """One call of `run` or `run_together`, on its way through the thread and back."""

    __slots__ = ("error", "fn", "future", "item", "result", "then", "together")

    def __init__(
        self,
        fn: Callable[..., Any],
        item: object,
        together: bool,
        then: Callable[[Any], object] | None,
        future: asyncio.Future[Any],
    ) -> None:
        self.fn = fn
        self.item = item
        self.together = together
        self.then = then
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def run_alone(self, conn: sqlite3.Connection) -> None:
        """Sets `result`, or `error` when nothing was written; raises what `fn` raises."""
        if self.together:
            self.settle(self.fn(conn, [self.item])[0])
        else:
            self.result = self.fn(conn)

    def settle(self, outcome: object) -> None:
        """Take what a function that ran for several returned for this one."""
        if isinstance(outcome, Exception):
            self.error = outcome
        else:
            self.result = outcome


class Writer:
    """The only writer of a database. Used from the event loop that opened it.

    What a function must keep to:

    - It runs in the writer's thread, inside a transaction: no BEGIN, COMMIT, savepoint or DDL.
    - It has no effect outside `conn` except on caches that `reload` rebuilds, and changes those last:
      it runs again when another function of its batch failed after it had written.
    - It is short: everyone else's commit waits for it.

    If a function raises, what it wrote is undone, its caller gets the exception, and nobody else
    notices. If the commit fails (disk full), all callers of that batch get the error.
    """

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        migrations: Sequence[str],
        reload: Callable[[sqlite3.Connection], object] | None = None,
    ) -> Self:
        """Lock and open the database, bring its schema up to date, start the thread.

        `migrations` are SQL scripts; the first creates the schema, each later one changes it, none
        is ever edited. `reload` is called with the connection before the first function and again
        after every rollback, in the writer's thread: (re)build there what is kept beside the file.
        Raises `database.DatabaseError` (in use, too new, unusable).
        """
        self = cls(Path(path), reload)
        self._lock.acquire()
        try:
            self._conn = connect(self.path, migrations)
        except BaseException:
            self._lock.release()
            raise
        self._thread.start()
        return self

    def __init__(
        self, path: Path, reload: Callable[[sqlite3.Connection], object] | None = None
    ) -> None:
        """Not for callers: `open` makes a usable one."""
        self.path = path
        self._lock = WriteLock(path)
        self._reload = reload
        self._stale = reload is not None
        self._conn: sqlite3.Connection
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Job] = []
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._queued = 0
        self._room = anyio.Event()
        self._closing = False
        self._ended = anyio.Event()
        # A daemon, so that a program that dies without `aclose` is not kept alive; an unfinished
        # transaction is then rolled back by whoever opens the file next.
        self._thread = threading.Thread(target=self._work, name=f"writer {path.name}", daemon=True)

    async def run(
        self,
        fn: Callable[[sqlite3.Connection], T],
        then: Callable[[T], object] | None = None,
    ) -> T:
        """Run `fn` in a transaction and return its result when it is durable.

        Calls of one task commit in order, and calls that found room in the order they were made.
        `then(result)` runs on the event loop right after the commit, also when the caller was
        cancelled meanwhile; it must not raise. Cancelling the caller does not cancel `fn`: all of
        it is committed, or nothing. Raises what `fn` raised, `WriterClosed`, or `sqlite3.Error`.
        """
        if self._queued >= MAX_QUEUED or self._closing:
            await self._wait_for_room()
        result: T = await self._submit(fn, None, False, then)
        return result

    async def run_together(
        self,
        fn: Callable[[sqlite3.Connection, Sequence[I]], Sequence[T | Exception]],
        item: I,
        then: Callable[[T], object] | None = None,
    ) -> T:
        """Like `run`, for writes of one kind that are cheaper together than one by one.

        Calls with the same `fn` (the same object) that wait one behind the other become one call
        of it. It returns one outcome per item, in order; an exception among them goes to its caller
        alone, and `fn` must not have written anything for that item. If `fn` raises, everything is
        undone and each item tried by itself.
        """
        if self._queued >= MAX_QUEUED or self._closing:
            await self._wait_for_room()
        result: T = await self._submit(fn, item, True, then)
        return result

    async def _wait_for_room(self) -> None:
        while self._queued >= MAX_QUEUED and not self._closing:
            await self._room.wait()
        if self._closing:
            raise WriterClosed

    def _submit(
        self,
        fn: Callable[..., Any],
        item: object,
        together: bool,
        then: Callable[[Any], object] | None,
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queued += 1
        self._gathered.append(_Job(fn, item, together, then, future))
        if len(self._gathered) == 1:
            self._loop.call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        """All of one turn of the event loop at once: waking the thread costs more than a job."""
        jobs, self._gathered = self._gathered, []
        for start in range(0, len(jobs), MAX_BATCH):
            self._queue.put(jobs[start : start + MAX_BATCH])

    @property
    def full(self) -> bool:
        """True when `run` would wait for room: a server may refuse work instead."""
        return self._queued >= MAX_QUEUED

    def reader(self) -> sqlite3.Connection:
        """A read-only connection to the same file, for short reads on the event loop."""
        return connect_readonly(self.path)

    async def aclose(self) -> None:
        """Commit everything that was handed in, then close. Idempotent; safe to cancel."""
        if not self._closing:
            self._closing = True
            self._room.set()
            self._hand_over()
            self._queue.put(None)
        with anyio.CancelScope(shield=True):  # bounded by what is queued, at most MAX_QUEUED
            await self._ended.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    # Event loop: called by the thread.

    def _settle(self, jobs: list[_Job]) -> None:
        self._queued -= len(jobs)
        for job in jobs:
            if job.error is None:
                if job.then is not None:
                    job.then(job.result)
                if not job.future.done():
                    job.future.set_result(job.result)
            elif not job.future.done():
                job.future.set_exception(_raisable(job.error))
        if self._room.statistics().tasks_waiting:
            self._room.set()
            self._room = anyio.Event()

    # The thread.

    def _work(self) -> None:
        # RuntimeError: the loop was closed without `aclose`, so nobody waits for an answer.
        with suppress(RuntimeError):
            while jobs := self._take():
                self._commit(jobs)
                self._loop.call_soon_threadsafe(self._settle, jobs)
        with suppress(sqlite3.Error):  # what is in the log stays there, and is as durable
            self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._conn.close()
        self._lock.release()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended.set)

    def _take(self) -> list[_Job]:
        """What is queued now; waits for the first. Empty after the last."""
        jobs = self._queue.get() or []
        while jobs and len(jobs) < MAX_BATCH and not self._queue.empty():
            more = self._queue.get_nowait()
            if more is None:
                self._queue.put(None)  # nothing comes after it: it ends the next round
                break
            jobs += more
        return jobs

    def _commit(self, jobs: list[_Job]) -> None:
        """Run `jobs` in one transaction; each ends with a result or an error. Never raises."""
        conn = self._conn
        try:
            self._begin()
            if not self._run_all(jobs):
                self._rollback()
                self._begin()
                self._run_each(jobs)
            conn.execute("COMMIT")
        except BaseException as exc:  # noqa: BLE001 (it is handed to the caller)
            for job in jobs:
                job.error = job.error or exc
            self._rollback()

    def _begin(self) -> None:
        self._conn.execute("BEGIN IMMEDIATE")
        if self._stale and self._reload is not None:
            self._reload(self._conn)
            self._stale = False

    def _rollback(self) -> None:
        self._stale = True
        with suppress(sqlite3.Error):  # then the next BEGIN fails, and says so to its callers
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")

    def _run_all(self, jobs: list[_Job]) -> bool:
        """Run without savepoints, which cost a tenth of a small job. False: undo and run each."""
        start = 0
        while start < len(jobs):
            end = start + 1
            first = jobs[start]
            while first.together and end < len(jobs) and jobs[end].fn is first.fn:
                end += 1
            if not (self._run_group(jobs[start:end]) if end - start > 1 else self._run_one(first)):
                return False
            start = end
        return True

    def _run_one(self, job: _Job) -> bool:
        """A function that raised before it wrote anything needs no undoing."""
        conn = self._conn
        before = conn.total_changes
        try:
            job.run_alone(conn)
        except BaseException as exc:  # noqa: BLE001 (it is handed to the caller)
            job.error = exc
            return conn.total_changes == before and conn.in_transaction
        return True

    def _run_group(self, jobs: list[_Job]) -> bool:
        try:
            outcomes = jobs[0].fn(self._conn, [job.item for job in jobs])
            for job, outcome in zip(jobs, outcomes, strict=True):
                job.settle(outcome)
        except BaseException:  # noqa: BLE001 (which of them it was is found by running each)
            return False
        return True

    def _run_each(self, jobs: list[_Job]) -> None:
        """Run each in a savepoint of its own."""
        conn = self._conn
        for job in jobs:
            job.error = None
            conn.execute("SAVEPOINT job")
            try:
                job.run_alone(conn)
            except BaseException as exc:
                job.error = exc
                if not conn.in_transaction:  # SQLite gave up the whole transaction (disk full)
                    raise
                conn.execute("ROLLBACK TO job")
                if self._reload is not None:
                    self._reload(conn)
            conn.execute("RELEASE job")


def _raisable(error: BaseException) -> BaseException:
    """`error` as a future takes it: StopIteration would end the awaiting coroutine silently."""
    if isinstance(error, StopIteration):
        return RuntimeError(f"a database function raised {error!r}")
    return error


__all__ = ["MAX_BATCH", "MAX_QUEUED", "Writer", "WriterClosed"]
