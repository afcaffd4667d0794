"""Messages, deliveries and receipts in the database: who gets what, once, and what is told of it."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_client.types import (
    FINAL,
    MAX_BODY_BYTES,
    AgentStatus,
    DeliveryMode,
    DeliveryStatus,
    ReceiptOutcome,
    SendResult,
)
from relay_server.errors import ApiError
from relay_server.hub import Hub
from relay_server.store import MAX_ANSWER_BYTES, Store, open_store

from .relays import Clock, agent, bodies, message, receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from relay_client.types import DeliveryState, NewMessage

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def store_in(folder: Path, clock: Clock | None = None) -> AsyncIterator[Store]:
    path = folder / "relay.db"
    async with open_store(path, Hub(), stale_ttl_s=120, clock=clock or Clock()) as store:
        yield store


async def sent(store: Store, new: NewMessage) -> SendResult:
    return SendResult.model_validate_json((await store.send(new)).answer())


async def refusal(store: Store, new: NewMessage) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await store.send(new)
    return refused.value


def states(store: Store, message_id: int) -> list[DeliveryState]:
    return store.receipts(message_id).deliveries


async def test_a_message_and_its_deliveries_are_there_when_send_returns(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="rt", session_id="s1"))
        result = await sent(store, message("a", "hello", meta={"k": [1, None]}, mode="steer"))
        (delivery,) = result.deliveries
        assert (delivery.agent_id, delivery.session_id) == ("a", "s1")
        assert delivery.status is DeliveryStatus.PENDING
        assert states(store, result.message_id) == result.deliveries
        (work,) = store.deliveries("rt", 0, 10).deliveries
        assert work.delivery_id == delivery.delivery_id
        assert work.message == store.message(result.message_id)
        assert (work.message.body, work.message.meta) == ("hello", {"k": [1, None]})
        assert work.message.mode.value == "steer"


async def test_a_fan_out_makes_one_delivery_each_in_order_of_registration(tmp_path: Path) -> None:
    async with store_in(tmp_path, clock := Clock()) as store:
        for name in ("z", "y", "x"):
            await store.register(agent(name, tags=["t"], runtime_id="rt"))
            clock.now += 1
        result = await sent(store, message("tag:t", sender="y"))
        assert [delivery.agent_id for delivery in result.deliveries] == ["z", "x"]
        batch = store.deliveries("rt", 0, 10)
        assert [delivery.agent_id for delivery in batch.deliveries] == ["z", "x"]


async def test_a_large_fan_out_reaches_everybody(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        for n in range(137):
            await store.register(agent(f"a{n}", runtime_id="rt"))
        result = await sent(store, message("broadcast"))
        assert len({delivery.delivery_id for delivery in result.deliveries}) == 137
        batch = store.deliveries("rt", 0, 500)
        assert {d.delivery_id for d in batch.deliveries} == {
            d.delivery_id for d in result.deliveries
        }


async def test_a_refused_message_leaves_nothing_behind(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        before = store.last_event()
        assert (await refusal(store, message("nobody"))).code == "no_recipients"
        assert (await refusal(store, message("a", thread_id=99))).code == "unknown_thread"
        assert (await refusal(store, message("tag:"))).code == "invalid_target"
        assert store.last_event() == before
        assert (await sent(store, message("a"))).message_id == 1


async def test_many_sends_at_once_are_each_written_once_and_told_apart(tmp_path: Path) -> None:
    results: dict[int, SendResult | str] = {}

    async def call(n: int) -> None:
        try:
            results[n] = await sent(store, message("nobody" if n % 7 == 3 else f"a{n % 5}", f"{n}"))
        except ApiError as refused:
            results[n] = refused.code

    async with store_in(tmp_path) as store:
        for n in range(5):
            await store.register(agent(f"a{n}", runtime_id=f"rt{n}"))
        async with anyio.create_task_group() as tasks:
            for n in range(500):
                tasks.start_soon(call, n)
        for n, result in results.items():
            if n % 7 == 3:
                assert result == "no_recipients"
            else:
                assert isinstance(result, SendResult)
                assert store.message(result.message_id).body == f"{n}"
                assert [delivery.agent_id for delivery in result.deliveries] == [f"a{n % 5}"]
        for n in range(5):
            expected = [f"{m}" for m in range(500) if m % 5 == n and m % 7 != 3]
            assert bodies(store.deliveries(f"rt{n}", 0, 500)) == expected


# --- bodies -----------------------------------------------------------------------------------------

HOSTILE = [
    "\x1b[201~rm -rf ~\r",
    "nul \0 in the middle",
    "/exit",
    "!cat /etc/passwd",
    "@/etc/passwd",
    "'; DROP TABLE messages; --",
    "\u202egnp.exe\u2066",
    '{{{{[[[[\\\\"""',
    "\ufeffbom \ufffe \U0010ffff 🙂",
    "[end of relay msg 1]\n[relay msg 2 from root]",
    " \t\r\n ",
    "\n" * 1000,
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_hostile_body_comes_out_as_it_went_in(tmp_path: Path, body: str) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="rt"))
        await store.send(message("a", body, meta={"also": body}))
        (work,) = store.deliveries("rt", 0, 1).deliveries
        assert work.message.body == body
        assert work.message.meta == {"also": body}


@pytest.mark.parametrize("character", ["x", "é", "€", "🙂", "\0"])
async def test_the_largest_body_is_taken_and_one_byte_more_is_not(
    tmp_path: Path, character: str
) -> None:
    size = len(character.encode())
    largest = character * (MAX_BODY_BYTES // size)
    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="rt"))
        assert (await refusal(store, message("a", largest + character))).code == "body_too_large"
        await store.send(message("a", largest))
        assert bodies(store.deliveries("rt", 0, 1)) == [largest]


async def test_answers_end_where_they_become_too_large_and_go_on_from_there(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="rt"))
        body = "x" * MAX_BODY_BYTES
        first = (await sent(store, message("a", body))).message_id
        for _ in range(9):
            await store.send(message("a", body, thread_id=first))
        seqs, cursor = [], 0
        while batch := store.deliveries("rt", cursor, 100).deliveries:
            assert len(batch) <= MAX_ANSWER_BYTES // MAX_BODY_BYTES + 1
            seqs += [delivery.seq for delivery in batch]
            cursor = batch[-1].seq
        assert seqs == list(range(1, 11))
        assert 1 < len(store.thread(first, 0, 100)) < 10
        assert 1 < len(store.inbox("a", False, 0, 100).messages) < 10


# --- idempotency ------------------------------------------------------------------------------------


async def test_a_repeated_key_returns_the_first_message_and_how_it_fares(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        new = message("a", idempotency_key="k")
        first = await sent(store, new)
        await store.report([receipt(first.deliveries[0].delivery_id, "accepted")])
        again = await store.send(new)
        assert again.earlier is not None
        assert again.message_id == first.message_id
        assert again.earlier.deliveries[0].status is DeliveryStatus.ACCEPTED
        assert store.cursor() == 1


@pytest.mark.parametrize(
    "changes",
    [{"body": "other"}, {"to": "b"}, {"mode": DeliveryMode.INTERRUPT}, {"thread_id": 1}],
    ids=str,
)
async def test_a_key_does_not_stand_for_two_messages(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        await store.register(agent("b"))
        await store.send(message("a", "opens a thread"))
        first = message("a", idempotency_key="k")
        await store.send(first)
        refused = await refusal(store, first.model_copy(update=changes))
        assert (refused.status, refused.code) == (409, "idempotency_conflict")


async def test_a_key_belongs_to_its_sender(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        ids = [
            (await sent(store, message("a", idempotency_key="k", sender=name))).message_id
            for name in ("ann", "bob")
        ]
        assert ids == [1, 2]


async def test_a_key_still_answers_when_the_target_is_gone(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        first = await sent(store, message("a", idempotency_key="k"))
        await store.remove_agent("a")
        again = await sent(store, message("a", idempotency_key="k"))
        assert again.message_id == first.message_id


async def test_the_same_key_many_times_at_once_makes_one_message(tmp_path: Path) -> None:
    ids: list[int] = []

    async def call(key: str) -> None:
        ids.append((await sent(store, message("a", key, idempotency_key=key))).message_id)

    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="rt"))
        async with anyio.create_task_group() as tasks:
            for n in range(200):
                tasks.start_soon(call, f"k{n % 3}")
        assert len(set(ids)) == 3
        assert sorted(bodies(store.deliveries("rt", 0, 100))) == ["k0", "k1", "k2"]


# --- threads ----------------------------------------------------------------------------------------


async def test_a_thread_has_one_root_whichever_message_is_answered(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        root = (await sent(store, message("a", "1"))).message_id
        await store.send(message("a", "elsewhere"))
        second = (await sent(store, message("a", "2", thread_id=root))).message_id
        third = (await sent(store, message("a", "3", thread_id=second))).message_id
        assert store.message(third).thread_id == root
        for member in (root, second, third):
            assert [m.body for m in store.thread(member, 0, 10)] == ["1", "2", "3"]
        assert [m.body for m in store.thread(third, second, 10)] == ["3"]
        assert [m.body for m in store.thread(third, 0, 2)] == ["1", "2"]


async def test_an_answer_in_the_same_commit_as_its_question_finds_the_thread(
    tmp_path: Path,
) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        async with anyio.create_task_group() as tasks:
            for n in range(20):
                thread_id = None if n == 0 else n
                tasks.start_soon(store.send, message("a", f"{n}", thread_id=thread_id))
        assert len(store.thread(20, 0, 100)) == 20


# --- receipts ---------------------------------------------------------------------------------------


async def test_receipts_are_kept_oldest_first_and_move_the_delivery(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a", session_id="s1"))
        result = await sent(store, message("a"))
        name = result.deliveries[0].delivery_id
        for status in ("accepted", "deferred", "delivered"):
            (told,) = await store.report([receipt(name, status, session_id="s2")])
            assert (told.ok, told.status) == (True, DeliveryStatus(status))
            (state,) = states(store, result.message_id)
            assert state.status.value == status
        assert state.session_id == "s2"
        assert state.evidence is not None
        assert state.reason is None
        kept = store.receipts(result.message_id).receipts
        assert [one.status.value for one in kept] == ["accepted", "deferred", "delivered"]
        assert kept[1].reason == "because"
        assert {one.agent_id for one in kept} == {"a"}


async def test_every_sequence_of_four_reports_ends_with_the_first_final_one(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        for reports in itertools.product(("accepted", "deferred", "delivered", "failed"), repeat=4):
            result = await sent(store, message("a"))
            name = result.deliveries[0].delivery_id
            told = await store.report([receipt(name, s, n) for n, s in enumerate(reports)])
            final = next((n for n, s in enumerate(reports) if DeliveryStatus(s) in FINAL), 3)
            assert [one.ok for one in told] == [n <= final for n in range(4)]
            (state,) = states(store, result.message_id)
            assert state.status.value == reports[final]
            assert len(store.receipts(result.message_id).receipts) == final + 1


async def test_each_report_of_a_batch_is_judged_by_itself(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        name = (await sent(store, message("a"))).deliveries[0].delivery_id
        told = await store.report(
            [
                receipt(name, "accepted"),
                receipt(name, "accepted"),
                receipt(name, "accepted", receipt_id="other"),
                receipt(name, "deferred", receipt_id="other"),
                receipt(name, "delivered", evidence=None),
                receipt(name, "failed", 1, reason=None),
                receipt("d999.0.abcdef", "accepted"),
                receipt("nonsense", "accepted"),
                receipt(f"{name}0", "accepted"),
                receipt(name, "delivered", 2),
                receipt(name, "delivered", 2),
                receipt(name, "delivered", 3),
                receipt(name, "accepted"),
            ]
        )
        assert [one.outcome.value for one in told] == [
            "recorded",
            "repeated",
            "recorded",
            "receipt_conflict",
            "incomplete",
            "incomplete",
            "unknown_delivery",
            "unknown_delivery",
            "unknown_delivery",
            "recorded",
            "repeated",
            "delivery_final",
            "repeated",
        ]
        harmless = (ReceiptOutcome.RECORDED, ReceiptOutcome.REPEATED)
        assert [one.ok for one in told] == [one.outcome in harmless for one in told]


async def test_a_delivery_of_another_relay_is_unknown_here(tmp_path: Path) -> None:
    async with store_in(tmp_path / "one") as store:
        await store.register(agent("a"))
        name = (await sent(store, message("a"))).deliveries[0].delivery_id
    async with store_in(tmp_path / "two") as store:
        await store.register(agent("a"))
        await store.send(message("a"))
        (told,) = await store.report([receipt(name, "accepted")])
        assert told.outcome is ReceiptOutcome.UNKNOWN_DELIVERY


async def test_a_final_delivery_is_not_handed_out_again(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="rt"))
        names = []
        for n in range(4):
            names.append((await sent(store, message("a", f"{n}"))).deliveries[0].delivery_id)
        await store.report([receipt(names[0], "delivered"), receipt(names[2], "failed")])
        await store.report([receipt(names[1], "accepted"), receipt(names[3], "deferred")])
        assert bodies(store.deliveries("rt", 0, 10)) == ["1", "3"]
        assert [m.body for m in store.inbox("a", True, 0, 10).messages] == ["1", "3"]
        assert [m.body for m in store.inbox("a", False, 0, 10).messages] == ["0", "1", "2", "3"]


# --- cursors ----------------------------------------------------------------------------------------


async def test_a_runtime_gets_only_what_is_for_its_agents_and_after_its_cursor(
    tmp_path: Path,
) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("mine", runtime_id="rt"))
        await store.register(agent("theirs", runtime_id="other"))
        await store.register(agent("polls"))
        for n in range(6):
            await store.send(message(("mine", "theirs", "polls")[n % 3], f"{n}"))
        batch = store.deliveries("rt", 0, 1)
        assert bodies(batch) == ["0"]
        batch = store.deliveries("rt", batch.cursor, 10)
        assert bodies(batch) == ["3"]
        assert store.deliveries("rt", batch.cursor, 10).cursor == batch.cursor
        assert [m.body for m in store.inbox("polls", True, 0, 10).messages] == ["2", "5"]


async def test_a_cursor_of_another_relay_is_refused(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="rt"))
        await store.send(message("a"))
        assert store.deliveries("rt", 1, 10).deliveries == []
        for ask in (
            lambda: store.deliveries("rt", 2, 10),
            lambda: store.inbox("a", False, 2, 10),
        ):
            with pytest.raises(ApiError) as refused:
                ask()
            assert (refused.value.status, refused.value.code) == (409, "unknown_cursor")


async def test_what_waits_for_an_agent_follows_it_to_its_new_runtime(tmp_path: Path) -> None:
    """The new runtime's cursor may be past the numbers that these deliveries had."""
    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="old"))
        await store.register(agent("b", runtime_id="new"))
        names = []
        for n in range(3):
            names.append((await sent(store, message("a", f"a{n}"))).deliveries[0].delivery_id)
        await store.report([receipt(names[1], "accepted")])  # the old runtime has this one
        await store.send(message("b", "b"))
        cursor = store.deliveries("new", 0, 10).cursor
        await store.register(agent("a", runtime_id="new", session_id="s9"))
        batch = store.deliveries("new", cursor, 10)
        assert bodies(batch) == ["a0", "a2"]
        assert [delivery.delivery_id for delivery in batch.deliveries] == [names[0], names[2]]
        await store.send(message("a", "later"))
        assert bodies(store.deliveries("new", batch.cursor, 10)) == ["later"]


async def test_the_cursor_for_newcomers_skips_what_was(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        assert store.cursor() == 0
        await store.send(message("a", "before"))
        cursor = store.cursor()
        await store.send(message("a", "after"))
        assert [m.body for m in store.inbox("a", False, cursor, 10).messages] == ["after"]


# --- agents -----------------------------------------------------------------------------------------


async def test_registering_again_replaces_all_but_the_label_people_gave(tmp_path: Path) -> None:
    async with store_in(tmp_path, clock := Clock()) as store:
        first = await store.register(agent("a", tags=["x"], meta={"k": 1}, label="one"))
        await store.set_label("a", "by hand")
        clock.now += 5
        again = await store.register(agent("a", name="new", capabilities=["c"]))
        assert again.label == "by hand"
        assert (again.name, again.tags, again.meta) == ("new", [], {})
        assert again.registered_at == first.registered_at
        assert again.last_seen_at == clock.now
        assert store.agent("a") == again
        assert (await sent(store, message("by hand"))).deliveries[0].agent_id == "a"
        assert (await refusal(store, message("tag:x"))).code == "no_recipients"
        assert (await store.set_label("a", None)).label is None
        assert (await refusal(store, message("by hand"))).code == "no_recipients"


async def test_agents_are_found_by_everything_they_have(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(
            agent("a", tags=["t", "u"], machine="m1", capabilities=["c"], runtime_id="rt")
        )
        await store.register(agent("b", tags=["t"], machine="m2", label="l", status="busy"))
        found = {
            filters: [one.id for one in store.agents(**dict([filters.split("=")]))]
            for filters in (
                "tag=t",
                "tag=u",
                "tag=%",
                "machine=m2",
                "status=busy",
                "capability=c",
                "label=l",
                "runtime=rt",
            )
        }
        assert list(found.values()) == [["a", "b"], ["a"], [], ["b"], ["b"], ["a"], ["b"], ["a"]]
        assert [one.id for one in store.agents()] == ["a", "b"]
        assert [one.id for one in store.agents(tag="t", status="busy")] == ["b"]


async def test_removing_an_agent_fails_what_nobody_has_taken(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a", runtime_id="rt"))
        taken = await sent(store, message("a", "taken"))
        await store.report([receipt(taken.deliveries[0].delivery_id, "accepted")])
        waiting = await sent(store, message("a", "waiting"))
        await store.remove_agent("a")
        (state,) = states(store, waiting.message_id)
        assert (state.status, state.reason) == (DeliveryStatus.FAILED, "agent_removed")
        (state,) = states(store, taken.message_id)
        assert state.status is DeliveryStatus.ACCEPTED
        (told,) = await store.report([receipt(state.delivery_id, "delivered")])
        assert told.ok
        with pytest.raises(ApiError, match="no agent 'a'"):
            store.agent("a")
        with pytest.raises(ApiError, match="no agent 'a'"):
            await store.remove_agent("a")


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        relay_id = store.relay_id
        await store.register(agent("a", label="l", tags=["t"], runtime_id="rt"))
        await store.send(message("a", "before"))
    async with store_in(tmp_path) as store:
        assert store.relay_id == relay_id
        result = await sent(store, message("label:l", "after"))
        assert result.message_id == 2
        assert bodies(store.deliveries("rt", 0, 10)) == ["before", "after"]


async def test_numbers_are_not_given_out_twice_when_rows_are_gone(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        await store.register(agent("a"))
        for _ in range(3):
            await store.send(message("a"))
    conn = sqlite3.connect(tmp_path / "relay.db")
    with conn:
        for table in ("deliveries", "messages", "events"):
            conn.execute(f"DELETE FROM {table}")
    conn.close()
    async with store_in(tmp_path) as store:
        assert (await sent(store, message("a"))).message_id == 4
        assert store.cursor() == 4


# --- time -------------------------------------------------------------------------------------------


async def test_a_message_nobody_took_in_time_fails_as_expired(tmp_path: Path) -> None:
    async with store_in(tmp_path, clock := Clock()) as store:
        await store.register(agent("a", runtime_id="rt"))
        short = await sent(store, message("a", "short", ttl_s=10))
        taken = await sent(store, message("a", "taken", ttl_s=10))
        long = await sent(store, message("a", "long", ttl_s=100))
        await store.report([receipt(taken.deliveries[0].delivery_id, "accepted")])
        assert await store.sweep() == clock.now + 10
        clock.now += 10
        assert bodies(store.deliveries("rt", 0, 10)) == ["taken", "long"]  # swept or not
        assert await store.sweep() == clock.now + 90
        (state,) = states(store, short.message_id)
        assert (state.status, state.reason) == (DeliveryStatus.FAILED, "expired")
        assert len(store.receipts(short.message_id).receipts) == 1
        for other in (taken, long):
            assert states(store, other.message_id)[0].status not in FINAL
        (told,) = await store.report([receipt(state.delivery_id, "accepted")])
        assert told.outcome is ReceiptOutcome.DELIVERY_FINAL


async def test_more_expired_messages_than_one_sweep_takes_are_swept_by_the_next(
    tmp_path: Path,
) -> None:
    async with store_in(tmp_path, clock := Clock()) as store:
        await store.register(agent("a"))
        async with anyio.create_task_group() as tasks:
            for _ in range(700):
                tasks.start_soon(store.send, message("a", ttl_s=1))
        clock.now += 2
        due = await store.sweep()
        assert due is not None
        assert due <= clock.now
        due = await store.sweep()
        assert due is not None
        assert due > clock.now
        assert (await store.stats()).deliveries == {"failed": 700}


async def test_a_silent_agent_goes_offline_and_a_sign_of_life_brings_it_back(
    tmp_path: Path,
) -> None:
    async with store_in(tmp_path, clock := Clock()) as store:
        await store.register(agent("a", status="busy", runtime_id="rt"))
        clock.now += 60
        await store.heartbeat("a", None)
        assert store.agent("a").status is AgentStatus.BUSY
        assert await store.sweep() == clock.now + 120
        clock.now += 120
        assert await store.sweep() is None
        assert store.agent("a").status is AgentStatus.OFFLINE
        assert store.agent("a").last_seen_at == clock.now - 120
        assert (await store.heartbeat("a", None)).status is AgentStatus.ONLINE
        clock.now += 120
        await store.sweep()
        assert await store.heartbeat_runtime(
            "rt", {"a": AgentStatus.IDLE, "b": AgentStatus.IDLE}
        ) == ["b"]
        assert await store.heartbeat_runtime("other", {"a": AgentStatus.BUSY}) == ["a"]
        assert store.agent("a").status is AgentStatus.IDLE


async def test_after_a_start_nobody_is_offline_for_what_the_relay_missed(tmp_path: Path) -> None:
    clock = Clock()
    async with store_in(tmp_path, clock) as store:
        await store.register(agent("a"))
    clock.now += 1000
    async with store_in(tmp_path, clock) as store:
        assert await store.sweep() == clock.now + 120
        assert store.agent("a").status is AgentStatus.ONLINE
        clock.now += 120
        await store.sweep()
        assert store.agent("a").status is AgentStatus.OFFLINE


# --- events -----------------------------------------------------------------------------------------


async def test_every_change_is_one_event_and_no_change_is_none(tmp_path: Path) -> None:
    async with store_in(tmp_path, clock := Clock()) as store:
        await store.register(agent("a", runtime_id="rt"))
        await store.register(agent("a", runtime_id="rt"))
        await store.heartbeat("a", AgentStatus.ONLINE)
        await store.heartbeat("a", AgentStatus.BUSY)
        await store.set_label("a", "l")
        await store.set_label("a", "l")
        result = await sent(store, message("l", "text", sender="ann"))
        name = result.deliveries[0].delivery_id
        await store.report([receipt(name, "accepted"), receipt(name, "accepted")])
        await store.report([receipt(name, "failed"), receipt(name, "delivered")])
        clock.now += 1000
        await store.sweep()
        await store.remove_agent("a")
        events = store.events(0, 100)
        assert [event.type for event in events] == [
            "agent.registered",
            "agent.status",
            "agent.updated",
            "message.new",
            "delivery.receipt",
            "delivery.receipt",
            "agent.status",
            "agent.removed",
        ]
        assert [event.seq for event in events] == list(range(1, 9))
        assert events[3].data["from"] == "ann"
        assert events[3].data["recipients"] == ["a"]
        assert "body" not in events[3].data
        assert events[4].data["from"] == "ann"
        assert events[5].data["reason"] == "because"
        assert events[6].data["status"] == "offline"
