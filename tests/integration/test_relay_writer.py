"""Group commit: one failing call harms nobody else, and what is acknowledged is on disk."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_server import writer as writer_module
from relay_server.database import DatabaseInUse, DatabaseTooNew, DatabaseUnusable
from relay_server.writer import Writer, WriterClosed

from .relays import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    Fn = Callable[[sqlite3.Connection], int]

pytestmark = pytest.mark.anyio

SCHEMA = "CREATE TABLE numbers (n INTEGER PRIMARY KEY, padding BLOB) STRICT"


def add(n: int) -> Fn:
    def fn(conn: sqlite3.Connection) -> int:
        conn.execute("INSERT INTO numbers (n) VALUES (?)", (n,))
        return n

    return fn


def add_and_fail(n: int, error: BaseException) -> Fn:
    def fn(conn: sqlite3.Connection) -> int:
        add(n)(conn)
        raise error

    return fn


def fail(error: BaseException) -> Fn:
    def fn(conn: sqlite3.Connection) -> int:
        raise error

    return fn


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Writer]:
    async with await Writer.open(folder / "test.db", [SCHEMA]) as writer:
        yield writer


def numbers(folder: Path) -> list[int]:
    conn = sqlite3.connect(folder / "test.db")
    try:
        return [n for (n,) in conn.execute("SELECT n FROM numbers ORDER BY n")]
    finally:
        conn.close()


async def in_one_batch(writer: Writer, *fns: Fn) -> list[int | BaseException]:
    """The outcomes of `fns`, which were all waiting when the thread took its next batch."""
    started, gate = threading.Event(), threading.Event()
    outcomes: list[int | BaseException] = [0] * len(fns)

    def hold(conn: sqlite3.Connection) -> None:
        started.set()
        assert gate.wait(PATIENCE_S)

    async def call(index: int) -> None:
        try:
            outcomes[index] = await writer.run(fns[index])
        except Exception as exc:  # noqa: BLE001 (it is what the test looks at)
            outcomes[index] = exc

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run, hold)
            await anyio.to_thread.run_sync(started.wait, PATIENCE_S)
            for index in range(len(fns)):
                tasks.start_soon(call, index)
            await anyio.wait_all_tasks_blocked()
            gate.set()
    return outcomes


async def test_what_was_acknowledged_is_in_the_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        assert await writer.run(add(7)) == 7
        assert numbers(tmp_path) == [7]


async def test_a_call_that_fails_before_it_writes_harms_nobody_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        outcomes = await in_one_batch(writer, add(1), fail(ValueError("no")), add(2))
        assert outcomes[0] == 1
        assert isinstance(outcomes[1], ValueError)
        assert outcomes[2] == 2
    assert numbers(tmp_path) == [1, 2]


async def test_a_call_that_fails_after_it_wrote_is_undone_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        outcomes = await in_one_batch(
            writer, add(1), add_and_fail(2, ValueError("no")), add(3), add_and_fail(4, KeyError())
        )
        assert [type(outcome) for outcome in outcomes] == [int, ValueError, int, KeyError]
        assert await writer.run(add(5)) == 5
    assert numbers(tmp_path) == [1, 3, 5]


async def test_an_error_of_the_database_goes_to_its_caller_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        outcomes = await in_one_batch(writer, add(1), add(1), add(2))
        assert [type(outcome) for outcome in outcomes] == [int, sqlite3.IntegrityError, int]
    assert numbers(tmp_path) == [1, 2]


async def test_a_full_disk_is_told_and_the_writer_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    def limit(pages: int) -> Fn:
        return lambda conn: conn.execute(f"PRAGMA max_page_count = {pages}").fetchone()[0]

    def add_large(n: int) -> Fn:
        def fn(conn: sqlite3.Connection) -> int:
            conn.execute("INSERT INTO numbers VALUES (?, zeroblob(500000))", (n,))
            return n

        return fn

    async with opened(tmp_path) as writer:
        await writer.run(limit(50))
        outcomes = await in_one_batch(writer, add(1), add_large(2), add(3))
        assert isinstance(outcomes[1], sqlite3.OperationalError)
        told = [n for n in (1, 3) if n in outcomes]
        await writer.run(limit(10_000))
        assert await writer.run(add_large(4)) == 4
    assert numbers(tmp_path) == [*told, 4]


async def test_a_stop_iteration_does_not_end_the_caller_silently(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await writer.run(fail(StopIteration()))
        assert await writer.run(add(1)) == 1


async def test_a_cancelled_call_is_committed_and_announced(tmp_path: Path) -> None:
    announced: list[int] = []
    async with opened(tmp_path) as writer:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await writer.run(add(1), announced.append)
        assert scope.cancelled_caught
    assert announced == [1]
    assert numbers(tmp_path) == [1]


async def test_what_follows_a_commit_runs_before_the_caller_goes_on(tmp_path: Path) -> None:
    order: list[str] = []
    async with opened(tmp_path) as writer:
        await writer.run(add(1), lambda _: order.append("announced"))
        order.append("returned")
    assert order == ["announced", "returned"]


async def test_calls_commit_in_the_order_they_were_made(tmp_path: Path) -> None:
    seen: list[int] = []
    async with opened(tmp_path) as writer, anyio.create_task_group() as tasks:
        for n in range(1000):
            tasks.start_soon(writer.run, add(n), seen.append)
    assert seen == list(range(1000))


async def test_closing_commits_what_was_handed_in_and_takes_no_more(tmp_path: Path) -> None:
    writer = await Writer.open(tmp_path / "test.db", [SCHEMA])
    async with anyio.create_task_group() as tasks:
        for n in range(600):  # several batches
            tasks.start_soon(writer.run, add(n))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(PATIENCE_S):
            await writer.aclose()
            await writer.aclose()
    assert numbers(tmp_path) == list(range(600))
    with pytest.raises(WriterClosed):
        await writer.run(add(1000))
    assert not (tmp_path / "test.db-wal").exists()  # nothing is left to recover


async def test_a_full_queue_makes_callers_wait_and_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_QUEUED", 3)
    async with opened(tmp_path) as writer:
        assert not writer.full
        outcomes = await in_one_batch(writer, *(add(n) for n in range(40)))
        assert outcomes == list(range(40))
    assert numbers(tmp_path) == list(range(40))


async def test_callers_that_wait_for_room_learn_that_the_writer_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_QUEUED", 1)
    writer = await Writer.open(tmp_path / "test.db", [SCHEMA])
    gate = threading.Event()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run, lambda conn: gate.wait(PATIENCE_S))

            async def late() -> None:
                with pytest.raises(WriterClosed):
                    await writer.run(add(1))

            tasks.start_soon(late)
            await anyio.wait_all_tasks_blocked()
            assert writer.full
            tasks.start_soon(writer.aclose)
            await anyio.wait_all_tasks_blocked()
            gate.set()
    assert numbers(tmp_path) == []


def add_some(conn: sqlite3.Connection, items: Sequence[int]) -> list[int | Exception]:
    """Refuses negative numbers one by one, and breaks after writing when there is a 13."""
    outcomes: list[int | Exception] = []
    for n in items:
        if n < 0:
            outcomes.append(ValueError(n))
        else:
            outcomes.append(add(n)(conn))
    if 13 in items:
        raise KeyError(13)
    return outcomes


async def together(writer: Writer, *items: int) -> list[int | BaseException]:
    outcomes: dict[int, int | BaseException] = {}

    async def call(n: int) -> None:
        try:
            outcomes[n] = await writer.run_together(add_some, n)
        except Exception as exc:  # noqa: BLE001 (it is what the test looks at)
            outcomes[n] = exc

    async with anyio.create_task_group() as tasks:
        for n in items:
            tasks.start_soon(call, n)
    return [outcomes[n] for n in items]


async def test_calls_of_one_kind_become_one_call(tmp_path: Path) -> None:
    sizes: list[int] = []

    def count(conn: sqlite3.Connection, items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return [n * n for n in items]

    async with opened(tmp_path) as writer:
        results: list[int] = []
        async with anyio.create_task_group() as tasks:
            for n in range(100):
                tasks.start_soon(writer.run_together, count, n, results.append)
        assert results == [n * n for n in range(100)]
        assert await writer.run_together(count, 12) == 144
    assert sum(sizes) == 101
    assert max(sizes) > 10


async def test_one_refused_item_of_a_joint_call_harms_nobody_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        outcomes = await together(writer, 1, -2, 3)
        assert [type(outcome) for outcome in outcomes] == [int, ValueError, int]
    assert numbers(tmp_path) == [1, 3]


async def test_a_joint_call_that_breaks_is_tried_item_by_item(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        outcomes = await together(writer, 1, 13, -2, 3)
        assert [type(outcome) for outcome in outcomes] == [int, KeyError, ValueError, int]
    assert numbers(tmp_path) == [1, 3]


async def test_caches_are_read_again_after_every_rollback(tmp_path: Path) -> None:
    cache: set[int] = set()

    def reload(conn: sqlite3.Connection) -> None:
        cache.clear()
        cache.update(n for (n,) in conn.execute("SELECT n FROM numbers"))

    def remember(n: int, then: BaseException | None = None) -> Fn:
        def fn(conn: sqlite3.Connection) -> int:
            assert n not in cache
            add(n)(conn)
            cache.add(n)
            if then is not None:
                raise then
            return n

        return fn

    writer = await Writer.open(tmp_path / "test.db", [SCHEMA], reload)
    async with writer:
        await in_one_batch(writer, remember(1), remember(2, KeyError()), remember(3))
        await in_one_batch(writer, remember(4, KeyError()))
        await writer.run(lambda conn: None)
        assert cache == {1, 3}
    writer = await Writer.open(tmp_path / "test.db", [SCHEMA], reload)
    async with writer:
        await writer.run(remember(2))
    assert cache == {1, 2, 3}


async def test_only_one_process_writes_to_a_database(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(DatabaseInUse, match=r"test\.db is in use"):
            await Writer.open(tmp_path / "test.db", [SCHEMA])
    async with opened(tmp_path) as writer:
        assert await writer.run(add(1)) == 1


async def test_a_reader_sees_what_was_committed_and_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        reader = writer.reader()
        try:
            await writer.run(add(1))
            assert reader.execute("SELECT n FROM numbers").fetchall() == [(1,)]
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.execute("INSERT INTO numbers (n) VALUES (2)")
        finally:
            reader.close()


async def test_the_database_is_for_its_owner_and_durable(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    async with opened(folder) as writer:
        await writer.run(add(1))
        for file in folder.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        told = await writer.run(
            lambda conn: [
                conn.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
        )
        assert told == ["wal", 2, 1]


async def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    first = "CREATE TABLE log (n INTEGER)"
    second = "INSERT INTO log VALUES (1); INSERT INTO log VALUES (2)"
    third = "ALTER TABLE log ADD COLUMN extra TEXT"
    for migrations in ([first], [first, second], [first, second], [first, second, third]):
        async with await Writer.open(tmp_path / "m.db", migrations) as writer:
            found = await writer.run(lambda conn: conn.execute("SELECT * FROM log").fetchall())
            version = await writer.run(
                lambda conn: conn.execute("PRAGMA user_version").fetchone()[0]
            )
            assert version == len(migrations)
    assert found == [(1, None), (2, None)]


async def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    broken = "INSERT INTO numbers (n) VALUES (1); INSERT INTO nowhere VALUES (1)"
    async with opened(tmp_path):
        pass
    with pytest.raises(DatabaseUnusable, match="nowhere"):
        await Writer.open(tmp_path / "test.db", [SCHEMA, broken])
    assert numbers(tmp_path) == []
    async with opened(tmp_path) as writer:
        assert await writer.run(add(1)) == 1


async def test_a_database_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    async with await Writer.open(tmp_path / "test.db", [SCHEMA, "SELECT 1"]):
        pass
    with pytest.raises(DatabaseTooNew, match="version 2, this program knows up to 1: upgrade"):
        await Writer.open(tmp_path / "test.db", [SCHEMA])


async def test_what_is_no_database_gets_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database, it only looks like one" * 50)
    with pytest.raises(DatabaseUnusable, match=r"text\.db.*not a database"):
        await Writer.open(tmp_path / "text.db", [SCHEMA])
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(DatabaseUnusable, match=r"folder\.db"):
        await Writer.open(tmp_path / "folder.db", [SCHEMA])
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatabaseUnusable, match="file"):
        await Writer.open(tmp_path / "file" / "x.db", [SCHEMA])


def test_it_works_on_uvloop_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as writer, anyio.create_task_group() as tasks:
            for n in range(300):
                tasks.start_soon(writer.run, add(n))

    anyio.run(main, backend_options={"use_uvloop": True})
    assert numbers(tmp_path) == list(range(300))
