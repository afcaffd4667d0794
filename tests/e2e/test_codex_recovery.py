"""The codex driver with the real Codex when supervisors, connections and agents are killed."""

from __future__ import annotations

import os
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from tests.e2e.codex_rig import Rig, decided, make_rig, of, ready
from tests.recordings.codex.record import trust_hooks

from relay_drivers.codex.attach import greet
from relay_drivers.codex.read import obj
from relay_drivers.codex.rpc import Peer, connect
from relay_drivers.codex.session import CodexSession
from relay_runtime.contract import Entry, HarnessGone, Json, ResumeRefused, Verdict
from relay_runtime.events import (
    Event,
    FileChanged,
    Idle,
    Outcome,
    Proven,
    Refused,
    SessionReady,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.driver_bench import DriverBench
    from relay_runtime.testing.model_server import ModelServer

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

#: A turn that takes about a second and has every kind of event that lasts.
TOOLS: tuple[dict[str, object] | str, ...] = (
    {"text": "first", "calls": [{"shell": "sleep 0.3; echo one"}, {"shell": "echo two"}]},
    {"write": {"path": "new.txt", "content": "three"}},
    {"shell": "sleep 0.3; exit 4"},
    "last",
)


@pytest.fixture
def rig(codex_cli: Cli, tmp_path: Path, model_server: ModelServer) -> Rig:
    return make_rig(codex_cli, tmp_path, model_server)


def check_the_turn(bench: DriverBench, write_id: str) -> None:
    """What `TOOLS` does was told, each part of it once, and the session waits."""
    (started,), (ended,) = of(bench, TurnStarted), of(bench, TurnEnded)
    assert started.turn_id == ended.turn_id and ended.outcome is Outcome.COMPLETED
    assert (ended.usage.input_tokens, ended.usage.output_tokens) == (400, 40)
    assert [event.write_id for event in of(bench, Proven)] == [write_id]
    begun = [event.tool_id for event in of(bench, ToolStarted)]
    over = [event.tool_id for event in of(bench, ToolEnded)]
    assert len(begun) == 4 and sorted(begun) == sorted(over) and len(set(begun)) == 4
    assert sorted(event.output for event in of(bench, ToolEnded)) == [
        "",
        "completed",
        "one\n",
        "two\n",
    ]
    assert [event.text for event in of(bench, Transcript)] == ["first", "last"]
    assert len(of(bench, FileChanged)) == 1
    assert isinstance(bench.events[-1], Idle)


# --- kill -9 of the supervisor ------------------------------------------------------------------------


async def test_an_idle_session_is_adopted_and_waits_again(rig: Rig) -> None:
    async with rig.bench() as bench:
        await ready(bench)
        before = (await bench.link.status()).pid
        for _ in range(3):
            await bench.adopt()
            await bench.wait_for(Idle)
        await bench.inject("MARK-1")
        await bench.wait_for(Idle)
        assert (await bench.link.status()).pid == before
        assert len(of(bench, SessionReady)) == 1 and len(of(bench, TurnStarted)) == 1
    assert rig.model.requests.occurrences("MARK-1") == 1


@pytest.mark.parametrize(
    "lost", [TurnStarted, Proven, ToolStarted, ToolEnded, FileChanged, Transcript, TurnEnded, Idle]
)
async def test_an_event_that_a_supervisor_lost_is_told_by_the_next(
    rig: Rig, lost: type[Event]
) -> None:
    rig.model.script(*TOOLS)
    async with rig.bench() as bench:
        await ready(bench)
        bench.arm(lost)
        write_id = await bench.inject("go")
        await bench.crash_before(lost)
        await bench.adopt()
        await bench.wait_for(Idle)
        check_the_turn(bench, write_id)


@pytest.mark.parametrize("seed", range(6))
async def test_supervisors_that_die_at_any_moment_of_a_turn_lose_and_repeat_nothing(
    rig: Rig, seed: int
) -> None:
    rig.model.script(*TOOLS)
    chance = random.Random(seed)
    async with rig.bench() as bench:
        await ready(bench)
        write_id = await bench.inject("go")
        for _ in range(4):
            await anyio.sleep(chance.uniform(0, 0.35))  # the moment of the crash
            await bench.adopt()
        await bench.wait_for(Idle)
        check_the_turn(bench, write_id)


async def test_turns_that_ran_while_nobody_looked_are_told_in_order(rig: Rig) -> None:
    rig.model.script({"shell": "echo one"}, "first", "second")
    async with rig.bench() as bench:
        await ready(bench)
        await bench.crash()
        async with human(bench) as (peer, conversation):
            for number in (1, 2):
                await say(peer, conversation, f"MARK-{number}.")
                await rig.model.requests.wait(f"MARK-{number}.")
                await until(peer, "turn/completed")
        await bench.adopt()
        await bench.wait_for(Idle)
        first, second = of(bench, TurnStarted)
        texts = [(event.text, event.turn_id) for event in of(bench, Transcript)]
        assert texts == [
            ("MARK-1.", first.turn_id),
            ("first", first.turn_id),
            ("MARK-2.", second.turn_id),
            ("second", second.turn_id),
        ]
        ends = [(event.turn_id, event.usage.input_tokens) for event in of(bench, TurnEnded)]
        assert ends == [(first.turn_id, 200), (second.turn_id, 100)]
        assert not of(bench, Proven)


@pytest.mark.parametrize("after_ms", [0, 1, 2, 4, 8, 15, 30])
async def test_a_write_that_was_going_in_when_the_supervisor_died_is_settled_truly(
    rig: Rig, after_ms: int
) -> None:
    async with rig.bench() as bench:
        await ready(bench)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.inject, "MARK-1.")
            await anyio.sleep(after_ms / 1000)
            tasks.cancel_scope.cancel()
        await bench.adopt()
        await bench.wait_for(Idle)
        (write_id,) = bench.injections
        settled = (await bench.session.settle(write_id)).verdict
        assert settled is not Verdict.UNKNOWN
        if settled is Verdict.ABSENT:
            assert not rig.model.requests.main()
            await bench.reinject(write_id)
            await bench.wait_for(Idle)
        await bench.inject("MARK-2.")
        await bench.wait_for(Idle)
        assert [event.write_id for event in of(bench, Proven)] == list(bench.injections)
    assert rig.model.requests.order(["MARK-1.", "MARK-2."]) == ["MARK-1.", "MARK-2."]
    assert rig.model.requests.occurrences("MARK-1.") == 1


# --- the connection alone -----------------------------------------------------------------------------


async def test_a_lost_connection_is_made_anew_and_nothing_is_missed(rig: Rig) -> None:
    rig.model.script(*TOOLS)
    async with rig.bench() as bench:
        await ready(bench)
        write_id = await bench.inject("go")
        for _ in range(3):
            await anyio.sleep(0.15)  # the moment at which it is lost
            cut(bench)
        await bench.wait_for(Idle)
        check_the_turn(bench, write_id)
        assert bench.lives == 1
        await bench.inject("MARK-1")
        await bench.wait_for(Idle)
    assert rig.model.requests.occurrences("MARK-1") == 1


def cut(bench: DriverBench) -> None:
    """End the driver's connection from outside, as the system would."""
    session = bench.session
    assert isinstance(session, CodexSession)
    if (peer := session._pump.peer) is not None:
        peer._socket.transport.abort()


# --- kill -9 of the agent -----------------------------------------------------------------------------


async def test_the_conversation_goes_on_after_the_agent_was_killed_in_a_turn(rig: Rig) -> None:
    rig.model.script({"shell": "sleep 600"})
    async with rig.bench() as bench:
        begun = await ready(bench)
        first = await bench.inject("MARK-1.")
        await bench.wait_for(ToolStarted)
        await bench.kill_agent()
        assert bench.failure is None
        assert (await bench.session.settle(first)).verdict is Verdict.PRESENT
        assert await decided(bench, "never-sent") is Verdict.ABSENT
        await bench.recreate()
        await bench.wait_for(Idle)
        again = of(bench, SessionReady)[-1]
        assert again.conversation == begun.conversation
        assert (await bench.session.settle(first)).verdict is Verdict.PRESENT
        await bench.inject("MARK-2.")
        await bench.wait_for(Idle)
        last = of(bench, TurnEnded)[-1]
        assert last.outcome is Outcome.COMPLETED and last.usage.input_tokens == 100
        assert len(of(bench, Proven)) == 2
    marks = ["MARK-1.", "MARK-2."]
    assert rig.model.requests.order(marks) == marks
    assert [rig.model.requests.occurrences(mark) for mark in marks] == [1, 1]


async def test_a_conversation_goes_on_that_had_no_turn_yet(rig: Rig) -> None:
    async with rig.bench() as bench:
        begun = await ready(bench)
        await bench.kill_agent()
        await bench.recreate()
        await bench.wait_for(Idle)
        assert of(bench, SessionReady)[-1].conversation == begun.conversation


@pytest.mark.parametrize("after_ms", [0, 2, 5, 8, 10, 12, 14, 16, 20, 30])
async def test_a_write_in_flight_when_the_agent_was_killed_is_settled_truly(
    rig: Rig, after_ms: int
) -> None:
    async with rig.bench() as bench:
        await ready(bench)

        async def kill() -> None:
            await anyio.sleep(after_ms / 1000)
            await bench.kill_agent()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            try:
                await bench.inject("MARK-1.")
            except HarnessGone:
                pass
        (write_id,) = bench.injections
        await bench.recreate()
        await bench.wait_for(Idle)
        settled = (await bench.session.settle(write_id)).verdict
        assert settled is not Verdict.UNKNOWN
        if of(bench, Proven):
            assert settled is Verdict.PRESENT
        await bench.inject("MARK-2.")
        await bench.wait_for(Idle)
    # What the model reads is the truth, whatever was seen of it before the kill.
    assert rig.model.requests.occurrences("MARK-1.") == (settled is Verdict.PRESENT)


async def test_a_steer_that_waited_when_the_agent_was_killed_is_absent(rig: Rig) -> None:
    rig.model.script({"shell": "sleep 600"})
    async with rig.bench() as bench:
        await ready(bench)
        await bench.inject("go")
        await bench.wait_for(ToolStarted)
        steer = await bench.inject("MARK-STEER", Entry.STEER)
        await bench.kill_agent()
        await bench.recreate()
        await bench.wait_for(Idle)
        assert await decided(bench, steer) is Verdict.ABSENT
        await bench.inject("MARK-2")
        await bench.wait_for(Idle)
    assert rig.model.requests.occurrences("MARK-STEER") == 0


async def test_a_conversation_that_codex_does_not_know_is_refused(rig: Rig) -> None:
    async with rig.bench() as bench:
        await bench.create(conversation="01a1fde7-6089-7db1-af19-ddb4051f03ce")
        await bench.wait_run()
        assert isinstance(bench.failure, ResumeRefused)
        assert "no rollout found" in str(bench.failure)


# --- a person at the same thread ----------------------------------------------------------------------


def socket_behind(bench: DriverBench) -> str:
    return os.path.realpath(f"{bench.spec.state_dir}/codex.sock")


@asynccontextmanager
async def human(bench: DriverBench) -> AsyncIterator[tuple[Peer, str]]:
    """Another client of the session's app-server, as an attached terminal is."""
    conversation = of(bench, SessionReady)[-1].conversation
    async with connect(socket_behind(bench)) as peer:
        await greet(peer)
        await peer.call("thread/resume", {"threadId": conversation, "excludeTurns": True})
        yield peer, conversation


async def say(peer: Peer, conversation: str, words: str) -> None:
    given: Json = [{"type": "text", "text": words, "text_elements": []}]
    await peer.call("turn/start", {"threadId": conversation, "input": given})


async def queue(peer: Peer, conversation: str, words: str) -> None:
    given: Json = [{"type": "text", "text": words, "text_elements": []}]
    params: Json = {"clientUserMessageId": words, "input": given, "threadId": conversation}
    await peer.call("thread/queue/add", obj(params))


async def until(peer: Peer, method: str) -> None:
    while not any(message.method == method for message in await peer.batch()):
        pass


async def test_what_a_person_has_queued_runs_before_we_say_idle(rig: Rig) -> None:
    rig.model.script({"shell": "sleep 1"}, "first", "second", "third")
    async with rig.bench() as bench:
        await ready(bench)
        async with human(bench) as (peer, conversation):
            await bench.inject("go")
            await bench.wait_for(ToolStarted)
            for number in (1, 2):
                await queue(peer, conversation, f"queued {number}")
            await bench.wait_for(Idle)
            await bench.inject("MARK-OURS")
            await bench.wait_for(Idle)
        texts = [event.text for event in of(bench, Transcript)]
        assert texts == ["first", "queued 1", "second", "queued 2", "third", "ok"]
        assert len(of(bench, TurnStarted)) == len(of(bench, TurnEnded)) == 4
        assert len(of(bench, Idle)) == 3
    assert rig.model.requests.occurrences("MARK-OURS") == 1


async def test_a_queue_that_an_interrupt_paused_does_not_hold_up_ours(rig: Rig) -> None:
    rig.model.script({"shell": "sleep 600"}, "ours", "queued one")
    async with rig.bench() as bench:
        await ready(bench)
        async with human(bench) as (peer, conversation):
            await bench.inject("go")
            await bench.wait_for(ToolStarted)
            await queue(peer, conversation, "queued")
            await bench.session.interrupt()
            await bench.wait_for(Idle)
            assert len(of(bench, TurnStarted)) == 1
            await bench.inject("MARK-OURS")
            await bench.wait_for(Idle)
        assert [event.text for event in of(bench, Transcript)] == ["ours", "queued", "queued one"]
        assert len(of(bench, Idle)) == 3


async def test_a_blocked_prompt_is_refused_with_the_words_of_the_hook(rig: Rig) -> None:
    args = await trust_hooks(rig.environ, rig.home)
    async with rig.bench(args=tuple(args)) as bench:
        await ready(bench)
        write_id = await bench.inject("BLOCKED MARK-1")
        await bench.wait_for(Idle)
        (refused,) = of(bench, Refused)
        assert refused.write_id == write_id and not refused.retry
        assert "hook blocked it: not here" in refused.reason
        assert await decided(bench, write_id) is Verdict.ABSENT
        await bench.inject("MARK-2")
        await bench.wait_for(Idle)
    assert rig.model.requests.occurrences("MARK-1") == 0
