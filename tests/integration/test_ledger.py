"""The ledger: what a session knows is on disk before anything comes of it."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_client.types import Delivery, Message
from relay_runtime.contract import Mode, SessionSpec, Verdict
from relay_runtime.events import (
    ErrorClass,
    ErrorInfo,
    Evidence,
    Idle,
    Outcome,
    PermissionRequested,
    Proven,
    SessionReady,
    TurnEnded,
    TurnStarted,
    Usage,
)
from relay_runtime.supervisor.journal import MIGRATIONS, Journal
from relay_runtime.supervisor.ledger import Inject, Ledger
from relay_runtime.supervisor.records import SessionRecord
from relay_runtime.turn_types import Abilities, Closed, SessionState, Settle, Settled
from relay_server.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from relay_runtime.events import Event

pytestmark = pytest.mark.anyio

PROOF = Evidence("test", "ref", "t1")


def record() -> SessionRecord:
    spec = SessionSpec("s1", "host-project-1", "one", "command", Mode.PTY, "/", "/tmp/s1")
    return SessionRecord(spec, created_at=time.time())


def delivery(number: int, body: str = "hello", mode: str = "next-turn") -> Delivery:
    message = Message.model_validate(
        {
            "id": number,
            "from": "backend",
            "to": "one",
            "body": body,
            "thread_id": None,
            "mode": mode,
            "trace_id": "t",
            "created_at": 0.0,
            "expires_at": None,
        }
    )
    return Delivery(delivery_id=f"d{number}", seq=number, agent_id="a", message=message)


@asynccontextmanager
async def journal(folder: Path) -> AsyncIterator[Journal]:
    opened = Journal(await Writer.open(folder / "journal.db", MIGRATIONS), folder / "journal.db")
    try:
        yield opened
    finally:
        await opened.aclose()


def ledger(book: Journal, until: float | None = None) -> Ledger:
    return Ledger(
        book.session("s1"),
        book,
        Abilities(steer=True),
        lambda error, failures, now: until,
        lambda: None,
        lambda: None,
    )


@asynccontextmanager
async def fresh(folder: Path) -> AsyncIterator[tuple[Journal, Ledger]]:
    async with journal(folder) as book:
        await book.add_session(record(), "starting")
        yield book, ledger(book)


def statuses(book: Journal) -> list[tuple[str, str]]:
    return [(r.delivery_id, r.status) for _, r in book.unreported(0, 1000)]


async def test_nothing_is_shown_that_the_disk_does_not_have_yet(tmp_path: Path) -> None:
    async with fresh(tmp_path) as (_, one), anyio.create_task_group() as tasks:
        other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        with closing(other), anyio.fail_after(10):
            other.execute("BEGIN IMMEDIATE")
            before = one.shown
            became: list[Event] = [SessionReady("c1"), Idle()]
            tasks.start_soon(one.observe, became)
            while one.state is not SessionState.IDLE:
                await anyio.lowlevel.checkpoint()
            assert one.shown == before
            changed = one.changed
            other.execute("COMMIT")
            await changed.wait()
        assert (before.state, before.live.conversation) == ("starting", None)
        assert (one.shown.state, one.shown.live.conversation) == ("idle", "c1")


async def test_the_intent_and_its_receipts_are_on_disk_when_the_effect_comes_out(
    tmp_path: Path,
) -> None:
    async with fresh(tmp_path) as (book, one):
        await one.observe([SessionReady("c1"), Idle()])
        await one.offer(delivery(7, "review this"))
        effect = one.effects.popleft()
        assert isinstance(effect, Inject)
        written = book.open_write("s1")
        assert written is not None
        assert (written.write_id, written.seq) == (effect.injection.write_id, effect.injection.seq)
        text = "[relay msg 7 from backend]\nreview this\n[end of relay msg 7]"
        assert effect.injection.text == written.text == text
        assert statuses(book) == [("d7", "accepted")]


async def test_a_delivery_offered_twice_is_taken_once_also_by_the_next_supervisor(
    tmp_path: Path,
) -> None:
    async with fresh(tmp_path) as (book, one):
        await one.offer(delivery(1))
        await one.offer(delivery(1))
        again = ledger(book)
        await again.offer(delivery(1))
        assert [d.delivery_id for d in book.open_deliveries("s1")] == ["d1"]
        assert again.queued == 1


async def test_a_write_in_doubt_is_settled_after_a_restart_and_written_again_under_a_new_number(
    tmp_path: Path,
) -> None:
    async with fresh(tmp_path) as (book, one):
        await one.observe([SessionReady("c1"), Idle()])
        await one.offer(delivery(1))
        first = one.effects.popleft()
        assert isinstance(first, Inject)

        again = ledger(book)
        assert again.state is SessionState.UNSURE
        await again.observe([Idle()])
        settle = again.effects.popleft()
        assert settle == Settle(first.injection.write_id)
        await again.control(Settled(first.injection.write_id, Verdict.ABSENT))
        with anyio.fail_after(5):
            while again.deadline is not None and not again.effects:
                await anyio.sleep(max(again.deadline - time.time(), 0))
                await again.tick()
        second = again.effects.popleft()
        assert isinstance(second, Inject)
        assert second.injection == replace(first.injection, seq=first.injection.seq + 1)


async def test_proof_makes_it_delivered_and_nothing_stays_open(tmp_path: Path) -> None:
    async with fresh(tmp_path) as (book, one):
        await one.observe([SessionReady("c1"), Idle()])
        await one.offer(delivery(1))
        effect = one.effects.popleft()
        assert isinstance(effect, Inject)
        await one.observe([TurnStarted("t1"), Proven(effect.injection.write_id, PROOF)])
        assert statuses(book) == [("d1", "accepted"), ("d1", "delivered")]
        assert book.open_write("s1") is None
        assert book.open_deliveries("s1") == []
        assert ledger(book).state is SessionState.BUSY


async def test_open_requests_turn_and_usage_survive_a_restart(tmp_path: Path) -> None:
    async with fresh(tmp_path) as (book, one):
        ended = TurnEnded("t0", Outcome.COMPLETED, Usage(10, 5), cost_usd=0.5)
        await one.observe([SessionReady("c1"), Idle(), TurnStarted("t0"), ended, Idle()])
        await one.observe([TurnStarted("t1"), PermissionRequested("r1", "Bash", "rm x")])
        again = ledger(book)
        assert again.state is SessionState.WAITING
        assert again.shown.turn == "t1"
        assert [r.request_id for r in again.live.requests] == ["r1"]
        assert again.live.usage.input_tokens == 10
        assert again.live.usage.cost_usd == 0.5
        assert again.live.conversation == "c1"


async def test_events_and_checkpoint_are_committed_together(tmp_path: Path) -> None:
    async with fresh(tmp_path) as (book, one):
        await one.observe([TurnStarted("t1")], checkpoint={"offset": 12})
        row = book.session("s1")
        assert row.checkpoint == {"offset": 12}
        kinds = [event.type for event in book.events(0, "s1", 100)]
        assert kinds == ["turn.started", "session.state"]


async def test_a_rate_limited_turn_holds_before_the_next_write_can_come_out(tmp_path: Path) -> None:
    async with fresh(tmp_path) as (book, one):
        held = ledger(book, until=time.time() + 100)
        limited = TurnEnded("t1", Outcome.FAILED, error=ErrorInfo(ErrorClass.RATE_LIMIT, "429"))
        await held.offer(delivery(1))
        await held.observe([SessionReady("c1"), TurnStarted("t1"), limited, Idle()])
        assert held.state is SessionState.HELD
        assert not held.effects
        last = [r for _, r in book.unreported(0, 100)][-1]
        assert (last.status, last.reason) == ("deferred", "held")
        assert last.next_attempt_at is not None
        assert one.queued == 0
        told = len(book.unreported(0, 100))
        await ledger(book).tick()
        assert len(book.unreported(0, 100)) == told, "the next supervisor tells it again"


async def test_the_task_is_the_users_own_words_and_is_given_once(tmp_path: Path) -> None:
    async with fresh(tmp_path) as (book, one):
        await one.observe([SessionReady("c1"), Idle()])
        await one.offer_task("fix the tests")
        await one.offer_task("fix the tests")
        effect = one.effects.popleft()
        assert isinstance(effect, Inject)
        assert effect.injection.text == "fix the tests"
        assert not one.effects
        assert statuses(book) == []  # nobody on the relay waits for it
        assert json.loads(book.open_deliveries("s1")[0].message) == {"task": "fix the tests"}


async def test_silence_counts_from_the_write_not_from_the_idle_hours_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fresh(tmp_path) as (_, one):
        now = time.time()
        await one.observe([SessionReady("c1"), Idle()])
        monkeypatch.setattr(time, "time", lambda: now + 7200)
        await one.offer(delivery(1))
        assert one.state is SessionState.BUSY
        assert one.silent_since == now + 7200


async def test_what_is_over_for_long_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    async with fresh(tmp_path) as (book, one):
        await one.observe([SessionReady("c1"), Idle()])
        await one.offer(delivery(1))
        effect = one.effects.popleft()
        assert isinstance(effect, Inject)
        await one.observe([Proven(effect.injection.write_id, PROOF)])
        await one.offer(delivery(2))
        assert await book.prune(time.time() + 1) == []
        assert book.events(0, None, 100) == []
        assert [d.delivery_id for d in book.open_deliveries("s1")] == ["d2"]
        assert len(book.unreported(0, 100)) == 3  # not told to the relay yet
        await one.control(Closed("done"), live=replace(one.live, ended=True))
        assert await book.prune(time.time() + 1) == ["s1"]
        assert list(book.sessions()) == []
