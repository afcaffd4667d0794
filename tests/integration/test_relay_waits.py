"""Long polls: they answer when there is something, when the wait is over, and at the end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_client import Busy
from relay_client.types import DeliveryStatus

from .relays import PATIENCE_S, agent, bodies, client, message, receipt, relay_in

if TYPE_CHECKING:
    from pathlib import Path

    from relay_client.types import DeliveryBatch, Receipts
    from relay_server.server import Relay

pytestmark = pytest.mark.anyio

# Longer than any test is patient: what comes back early came because it was woken.
FOREVER_S = 60.0


async def delivery_of(relay: Relay, to: str, **fields: object) -> tuple[int, str]:
    sent = await relay.store.send(message(to, **fields))  # type: ignore[arg-type]
    answer = json.loads(sent.answer())
    return answer["message_id"], answer["deliveries"][0]["delivery_id"]


async def test_a_waiting_runtime_is_woken_by_a_message_for_its_agents(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, client(relay) as api:
        await relay.store.register(agent("a", runtime_id="rt"))
        await relay.store.register(agent("b", runtime_id="other"))
        got: list[DeliveryBatch] = []

        async def poll() -> None:
            got.append(await api.deliveries("rt", after=0, wait_s=FOREVER_S))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll)
                await anyio.wait_all_tasks_blocked()
                await relay.store.send(message("b", "not for it"))
                await anyio.wait_all_tasks_blocked()
                assert got == []
                await relay.store.send(message("a", "for it"))
        assert bodies(got[0]) == ["for it"]


async def test_what_is_there_already_is_answered_at_once(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, client(relay) as api:
        await relay.store.register(agent("a", runtime_id="rt"))
        await relay.store.send(message("a"))
        with anyio.fail_after(PATIENCE_S):
            assert len((await api.deliveries("rt", after=0, wait_s=FOREVER_S)).deliveries) == 1


async def test_a_wait_that_runs_out_is_an_empty_batch_with_the_same_cursor(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, client(relay) as api:
        before = time.monotonic()
        batch = await api.deliveries("rt", after=0, wait_s=0.2)
        assert time.monotonic() - before >= 0.2
        assert (batch.deliveries, batch.cursor) == ([], 0)


async def test_no_message_is_missed_between_two_polls(tmp_path: Path) -> None:
    total = 300
    async with relay_in(tmp_path) as relay, client(relay) as api:
        await relay.store.register(agent("a", runtime_id="rt"))
        got: list[str] = []

        async def poll() -> None:
            cursor = 0
            while len(got) < total:
                batch = await api.deliveries("rt", after=cursor, wait_s=FOREVER_S, limit=7)
                got.extend(bodies(batch))
                cursor = batch.cursor

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll)
                for n in range(total):
                    await relay.store.send(message("a", f"{n}"))
        assert got == [f"{n}" for n in range(total)]


async def test_an_agent_that_changes_its_runtime_wakes_the_new_one(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, client(relay) as api:
        await relay.store.register(agent("a", runtime_id="old"))
        await relay.store.send(message("a", "waits"))
        got: list[DeliveryBatch] = []

        async def poll() -> None:
            got.append(await api.deliveries("new", after=0, wait_s=FOREVER_S))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll)
                await anyio.wait_all_tasks_blocked()
                await relay.store.register(agent("a", runtime_id="new"))
        assert bodies(got[0]) == ["waits"]


@pytest.mark.parametrize(
    ("until", "reports", "enough"),
    [
        ("accepted", ["accepted"], 1),
        ("accepted", ["deferred"], 1),
        ("accepted", ["failed"], 1),
        ("delivered", ["accepted", "deferred", "delivered"], 3),
        ("delivered", ["accepted", "failed"], 2),
    ],
)
async def test_a_sender_waits_until_its_message_got_as_far_as_it_wants(
    tmp_path: Path, until: str, reports: list[str], enough: int
) -> None:
    async with relay_in(tmp_path) as relay, client(relay) as api:
        await relay.store.register(agent("a"))
        message_id, name = await delivery_of(relay, "a")
        got: list[Receipts] = []

        async def wait() -> None:
            got.append(await api.receipts(message_id, until=until, wait_s=FOREVER_S))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                for number, status in enumerate(reports, start=1):
                    await anyio.wait_all_tasks_blocked()
                    assert got == []
                    await relay.store.report([receipt(name, status)])
                    if number == enough:
                        break
        assert len(got[0].receipts) == enough


async def test_a_fan_out_is_waited_for_until_its_last_delivery(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, client(relay) as api:
        for name in ("a", "b"):
            await relay.store.register(agent(name))
        sent = json.loads((await relay.store.send(message("broadcast"))).answer())
        first, second = (delivery["delivery_id"] for delivery in sent["deliveries"])
        await relay.store.report([receipt(first, "delivered")])
        found = await api.receipts(sent["message_id"], until="delivered", wait_s=0.05)
        assert {d.status.value for d in found.deliveries} == {"delivered", "pending"}
        await relay.store.report([receipt(second, "failed")])
        with anyio.fail_after(PATIENCE_S):
            await api.receipts(sent["message_id"], until="delivered", wait_s=FOREVER_S)


async def test_a_message_expires_by_itself_when_its_time_is_over(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, client(relay) as api:
        await relay.store.register(agent("a", runtime_id="rt"))
        later, _ = await delivery_of(relay, "a", ttl_s=30)
        soon, _ = await delivery_of(relay, "a", ttl_s=0.2)
        with anyio.fail_after(PATIENCE_S):
            found = await api.receipts(soon, until="delivered", wait_s=FOREVER_S)
        assert found.deliveries[0].status is DeliveryStatus.FAILED
        assert found.deliveries[0].reason == "expired"
        assert relay.store.receipts(later).deliveries[0].status is DeliveryStatus.PENDING


async def test_a_silent_agent_is_marked_offline_by_itself(tmp_path: Path) -> None:
    async with relay_in(tmp_path, stale_ttl_s=0.2) as relay:
        await relay.store.register(agent("a"))
        with relay.hub.watch("events") as watch, anyio.fail_after(PATIENCE_S):
            while relay.store.agent("a").status.value != "offline":
                await watch.wait()


async def test_a_stopping_relay_tells_those_who_wait_to_come_back(tmp_path: Path) -> None:
    """An empty answer would be asked again at once, and make the caller spin."""
    async with relay_in(tmp_path) as relay, client(relay) as api:
        codes: list[str] = []

        async def poll() -> None:
            with pytest.raises(Busy) as refused:
                await api.deliveries("rt", after=0, wait_s=FOREVER_S)
            codes.append(refused.value.code)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll)
                await anyio.wait_all_tasks_blocked()
                relay.hub.close()
            await poll()
        assert codes == ["stopping", "stopping"]
        assert (await api.deliveries("rt", after=0)).deliveries == []


async def test_an_idle_relay_does_nothing(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, client(relay) as api:
        await relay.store.register(agent("a", runtime_id="rt"))
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(lambda: api.deliveries("rt", after=0, wait_s=FOREVER_S))
            await anyio.wait_all_tasks_blocked()
            before = time.process_time()
            with relay.hub.watch("nothing") as watch:
                await watch.wait(0.5)
            assert time.process_time() - before < 0.05
            tasks.cancel_scope.cancel()
