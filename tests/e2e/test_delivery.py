"""Messages to a session of each real CLI: when they enter, how often, and what the sender is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_client.client import RelayClient

from .fleets import EVIDENCE, numbered, real_session

if TYPE_CHECKING:
    from pathlib import Path

    from relay_client.types import RelayEvent
    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.fleet import Answer, Fleet

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

#: A turn whose tool call takes three seconds.
LONG_TURN = ({"shell": "sleep 3"}, "that took long")


async def test_a_message_to_an_idle_session_is_one_model_request_and_its_receipts_are_true(
    any_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(any_cli, tmp_path) as session:
        number = await session.send("hello MARK-1")
        receipts = await session.fleet.final(number)
        session.check_delivered(receipts)
        assert [receipt["status"] for receipt in receipts] == ["accepted", "delivered"]
        wanted = EVIDENCE[any_cli.name, any_cli.version, any_cli.mode]
        assert receipts[-1]["evidence"]["kind"] in wanted
        await session.idle()
        assert len([r for r in session.model.requests.main() if r.holds("MARK-1")]) == 1
        session.check_in_context(["MARK-1"])
        (turn,) = await session.events("turn.started")
        assert receipts[-1]["evidence"]["turn_id"] == turn["data"]["turn_id"]
        await check_that_all_doors_say_the_same(session.fleet, number, receipts)


async def check_that_all_doors_say_the_same(
    fleet: Fleet, number: int, receipts: list[Answer]
) -> None:
    """The relay's HTTP API, its event stream and the command line tell what the sender was told."""
    url = (await fleet.status())["relay_url"]
    async with RelayClient(url) as relay:
        by_api = await relay.receipts(number)
        assert [receipt.model_dump(mode="json") for receipt in by_api.receipts] == receipts
        by_sse = await receipts_by_sse(relay, number, len(receipts))
    assert [(e.data["status"], e.data["reason"], e.data["evidence"]) for e in by_sse] == [
        (r["status"], r["reason"], r["evidence"]) for r in receipts
    ]
    by_command = await fleet.command("receipts", str(number), "--json")
    assert by_command.returncode == 0, by_command.stderr
    shown = json.loads(by_command.stdout)
    assert (shown["message_id"], shown["receipts"]) == (number, receipts)


async def receipts_by_sse(relay: RelayClient, number: int, count: int) -> list[RelayEvent]:
    found: list[RelayEvent] = []
    with anyio.fail_after(10):
        async with relay.events(after=0) as events:
            async for event in events:
                if event.type == "delivery.receipt" and event.message_id == number:
                    found.append(event)
                    if len(found) == count:
                        break
    return found


async def test_messages_sent_while_a_turn_runs_enter_after_it_in_order_and_once(
    any_cli: Cli, tmp_path: Path
) -> None:
    markers = numbered("MARK", 20)
    async with real_session(any_cli, tmp_path) as session:
        requests = session.model.requests
        session.model.script(*LONG_TURN)
        first = await session.send("work BUSY-1")
        await requests.wait("BUSY-1")
        await session.fleet.wait_event(session.name, "tool.started")
        numbers = [await session.send(f"while busy {marker}") for marker in markers]
        assert len(requests.main()) == 1, "the tool must still run while they are sent"
        every = [await session.fleet.final(number) for number in [first, *numbers]]
        await session.idle()
        session.check_in_context(["BUSY-1", *markers])
        ended = (await session.events("turn.ended"))[0]
        result = requests.main()[1]
        for marker in markers:
            seen = requests.first_seen(marker)
            assert seen is not None and seen.index > result.index, marker
            assert seen.at >= ended["at"], "it entered before the turn was over"
        for receipts in every:
            session.check_delivered(receipts)
        for receipts in every[1:]:
            states = [(receipt["status"], receipt["reason"]) for receipt in receipts]
            assert states == [("accepted", None), ("deferred", "busy"), ("delivered", None)]
            assert receipts[1]["at"] <= ended["at"] <= receipts[2]["at"]
        assert len({receipts[0]["delivery_id"] for receipts in every}) == 21
