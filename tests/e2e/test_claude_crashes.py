"""The claude driver and the real Claude Code when supervisor or agent are killed."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import pytest
from tests.e2e.claude_bench import NEW, again, claude, converse, of, ready

from relay_runtime.contract import Entry, StopPlan, Verdict
from relay_runtime.events import (
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
from relay_runtime.processes import alive, descendants_of
from relay_runtime.testing.clis import Cli, hermetic_env

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.events import Event
    from relay_runtime.testing.driver_bench import DriverBench
    from relay_runtime.testing.model_server import ModelServer

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

#: What one turn with a file and a shell command is made of.
ONE_TURN = {
    "TurnStarted": 1,
    "Proven": 1,
    "Transcript": 2,
    "ToolStarted": 2,
    "ToolEnded": 2,
    "FileChanged": 1,
    "TurnEnded": 1,
}


@pytest.fixture
def environ(claude_cli: Cli, tmp_path: Path, model_server: ModelServer) -> dict[str, str]:
    return hermetic_env(claude_cli, tmp_path, model_server.url)


def tool_turn(bench: DriverBench, model: ModelServer, seconds: float) -> None:
    target = {"path": f"{bench.spec.cwd}/a.txt", "content": "x"}
    model.script({"calls": [{"write": target}, {"shell": f"sleep {seconds}"}]}, "done")


def once(events: list[Event]) -> None:
    """Every event of the turn was committed exactly once."""
    counts = Counter(type(event).__name__ for event in events)
    del counts["SessionReady"], counts["Idle"]
    assert counts == ONE_TURN


# --- the supervisor dies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [SessionReady, TurnStarted, Proven, ToolStarted, ToolEnded, FileChanged, TurnEnded, Idle],
)
async def test_an_event_that_was_not_committed_comes_again_and_only_once(
    environ: dict[str, str], model_server: ModelServer, kind: type[Event]
) -> None:
    async with claude(environ) as bench:
        if kind is SessionReady:
            bench.arm(kind)
            await bench.create()
            await bench.crash_before(kind)
            await bench.adopt()
            await bench.wait_for(Idle)
        else:
            await ready(bench)
            bench.arm(kind)
        tool_turn(bench, model_server, 0.3)
        write_id = await bench.inject("go MARK-1")
        if kind is not SessionReady:
            await bench.crash_before(kind)
            await bench.adopt()
        await bench.wait_for(Idle)
        once(bench.events)
        (proven,) = of(bench, Proven)
        assert proven.write_id == write_id
        assert len(of(bench, SessionReady)) == 1
        assert model_server.requests.occurrences("MARK-1") == 1
        await converse(bench, "next MARK-2")
        assert model_server.requests.occurrences("MARK-2") == 1


@pytest.mark.parametrize("seed", range(4))
async def test_events_are_exactly_once_when_the_supervisor_dies_at_random_moments(
    environ: dict[str, str], model_server: ModelServer, seed: int
) -> None:
    dice = random.Random(seed)
    async with claude(environ) as bench:
        await ready(bench)
        tool_turn(bench, model_server, 0.6)
        await bench.inject("go MARK-1")
        for _ in range(4):
            await anyio.sleep(dice.uniform(0, 0.3))  # any moment, not a wait for something
            await bench.crash()
            await bench.adopt()
        await bench.wait_for(Idle)
        while not of(bench, TurnEnded):  # idle before the turn had begun
            bench.mark()
            await bench.wait_for(Idle)
        once(bench.events)
        assert model_server.requests.occurrences("MARK-1") == 1


async def test_an_idle_session_says_so_again_after_a_crash(environ: dict[str, str]) -> None:
    async with claude(environ) as bench:
        await ready(bench)
        await bench.crash()
        await bench.adopt()
        await bench.wait_for(Idle)
        assert len(of(bench, SessionReady)) == 1


async def test_a_write_that_is_repeated_after_a_crash_goes_in_once(
    environ: dict[str, str], model_server: ModelServer
) -> None:
    async with claude(environ) as bench:
        await ready(bench)
        bench.arm(TurnStarted)
        write_id = await bench.inject("hello MARK-1")
        await bench.crash_before(TurnStarted)
        await bench.adopt()
        await bench.reinject(write_id)
        bench.mark()
        await bench.wait_for(lambda e: isinstance(e, TurnEnded))
        await bench.wait_for(Idle)
    assert [e.write_id for e in of(bench, Proven)] == [write_id]
    assert len(of(bench, TurnEnded)) == 1
    assert len(model_server.requests.main()) == 1


# --- settling -------------------------------------------------------------------------------------------


async def test_settling_a_living_session_tells_present_from_absent(
    environ: dict[str, str], model_server: ModelServer, claude_cli: Cli
) -> None:
    model_server.script("answer", {"shell": "sleep 1"}, "done")
    never = "6f0c6a3e-7c55-4b0e-9d53-0d6f8f7b1c11"
    async with claude(environ) as bench:
        await ready(bench)
        assert (await bench.session.settle(never)).verdict is Verdict.ABSENT
        done = await converse(bench, "hello")
        present = await bench.session.settle(done)
        assert present.verdict is Verdict.PRESENT and present.evidence is not None
        assert present.evidence.kind == "claude.transcript"
        assert (await bench.session.settle(never)).verdict is Verdict.ABSENT
        running = await bench.inject("go")
        await bench.wait_for(ToolStarted)
        assert (await bench.session.settle(running)).verdict is Verdict.PRESENT
        unread = (
            await bench.session.settle(never)
        ).verdict  # only the newer one tells what it read
        assert unread is (Verdict.ABSENT if claude_cli.version == NEW else Verdict.UNKNOWN)
        waiting = await bench.inject("later")
        unknown = await bench.session.settle(waiting)
        assert unknown.verdict is Verdict.UNKNOWN and unknown.reason
        await bench.wait_for(lambda e: isinstance(e, Proven) and e.write_id == waiting)


async def test_a_write_that_waited_too_long_is_taken_back_and_goes_in_again(
    environ: dict[str, str], model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay_drivers.claude.settling.WITHDRAW_S", 0.0)
    model_server.script({"shell": "sleep 2"}, "done", "answer")
    async with claude(environ) as bench:
        await ready(bench)
        await bench.inject("go")
        await bench.wait_for(ToolStarted)
        steer = await bench.inject("hello MARK-1", Entry.STEER)
        taken = await bench.session.settle(steer)
        assert taken.verdict is Verdict.ABSENT
        await bench.wait_for(Idle)
        assert model_server.requests.occurrences("MARK-1") == 0
        await again(bench, steer)
        await bench.wait_for(Proven)
        await bench.wait_for(Idle)
    assert [e.write_id for e in of(bench, Proven)][-1] == steer
    assert model_server.requests.occurrences("MARK-1") == 1


# --- the agent dies -------------------------------------------------------------------------------------


async def test_after_a_kill_the_same_conversation_goes_on_and_knows_what_was_in_flight(
    environ: dict[str, str], model_server: ModelServer
) -> None:
    model_server.script("first", {"hang": "start", "text": "second"}, "third")
    async with claude(environ) as bench:
        await ready(bench)
        one = await converse(bench, "hello MARK-1")
        two = await bench.inject("hello MARK-2")
        await bench.wait_for(Proven)
        await model_server.requests.wait("MARK-2")
        await bench.kill_agent()
        dead = [await bench.session.settle(write_id) for write_id in (one, two)]
        assert [s.verdict for s in dead] == [Verdict.PRESENT] * 2
        await bench.recreate()
        await bench.wait_for(Idle)
        alive_again = [await bench.session.settle(write_id) for write_id in (one, two)]
        assert [s.verdict for s in alive_again] == [Verdict.PRESENT] * 2
        await converse(bench, "hello MARK-3")
        told = of(bench, SessionReady)
    assert told[0].conversation == told[1].conversation
    assert len(model_server.requests.conversations()) == 1
    marks = ["MARK-1", "MARK-2", "MARK-3"]
    assert model_server.requests.order(marks) == marks
    assert [model_server.requests.occurrences(mark) for mark in marks] == [1, 1, 1]
    first, last = of(bench, TurnEnded)
    assert first.cost_usd and last.cost_usd == pytest.approx(first.cost_usd, rel=0.5)


async def test_a_message_that_only_waited_when_the_agent_died_is_absent_and_goes_in_again(
    environ: dict[str, str], model_server: ModelServer
) -> None:
    model_server.script({"shell": "sleep 30"}, "answer")
    async with claude(environ) as bench:
        await ready(bench)
        await bench.inject("go MARK-1")
        await bench.wait_for(ToolStarted)
        waiting = await bench.inject("hello MARK-2")
        assert (await bench.session.settle(waiting)).verdict is Verdict.UNKNOWN
        await bench.kill_agent()
        assert (await bench.session.settle(waiting)).verdict is Verdict.ABSENT
        await bench.recreate()
        await bench.wait_for(Idle)
        assert (await bench.session.settle(waiting)).verdict is Verdict.ABSENT
        await again(bench, waiting)
        await bench.wait_for(Proven)
        await bench.wait_for(Idle)
    assert model_server.requests.occurrences("MARK-1") == 1
    assert model_server.requests.occurrences("MARK-2") == 1


async def test_a_steer_that_was_absorbed_when_the_agent_died_is_present(
    environ: dict[str, str], model_server: ModelServer
) -> None:
    model_server.script({"shell": "sleep 0.5"}, {"hang": "headers"}, "answer")
    async with claude(environ) as bench:
        await ready(bench)
        await bench.inject("go")
        await bench.wait_for(ToolStarted)
        steer = await bench.inject("hello MARK-1", Entry.STEER)
        await bench.wait_for(Proven)
        await bench.kill_agent()
        assert (await bench.session.settle(steer)).verdict is Verdict.PRESENT
        await bench.recreate()
        await bench.wait_for(Idle)
        await converse(bench, "go on")
    assert model_server.requests.occurrences("MARK-1") == 1


async def test_a_message_in_a_hook_of_the_user_when_the_agent_died_is_absent(
    environ: dict[str, str], model_server: ModelServer, tmp_path: Path
) -> None:
    hook = SlowHook(tmp_path)
    async with claude(environ) as bench:
        await ready(bench)
        write_id = await bench.inject("SLOW MARK-1")
        await hook.entered()
        await bench.kill_agent()
        assert (await bench.session.settle(write_id)).verdict is Verdict.ABSENT
        await bench.recreate()
        await bench.wait_for(Idle)
        await again(bench, write_id)
        await bench.wait_for(Proven)
        await bench.wait_for(Idle)
    assert model_server.requests.occurrences("MARK-1") == 1


async def test_a_message_that_an_interrupt_drops_goes_in_again_and_is_not_ignored(
    environ: dict[str, str], model_server: ModelServer, claude_cli: Cli, tmp_path: Path
) -> None:
    hook = SlowHook(tmp_path)
    async with claude(environ) as bench:
        await ready(bench)
        write_id = await bench.inject("SLOW MARK-1")
        await hook.entered()
        await bench.session.interrupt()
        await bench.wait_for(Idle)
        if claude_cli.version == NEW:
            (refused,) = of(bench, Refused)
            assert (refused.write_id, refused.retry) == (write_id, True)
            await again(bench, write_id)
            await bench.wait_for(Proven)
            await bench.wait_for(Idle)
        else:  # it keeps the message, unanswered
            await converse(bench, "go on")
    assert of(bench, TurnEnded)[0].outcome is Outcome.INTERRUPTED
    assert of(bench, Proven)[0].write_id == write_id
    assert model_server.requests.occurrences("MARK-1") == 1


class SlowHook:
    """The first message waits in a hook of the user, for longer than any test looks at it."""

    def __init__(self, home: Path) -> None:
        self._started = home / "started"
        os.mkfifo(self._started)
        mark = home / "ran"
        command = f"test -e {mark} && exit 0; touch {mark}; echo yes > {self._started}; sleep 20"
        hooks = {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": command}]}]}
        (home / ".claude").mkdir()
        (home / ".claude" / "settings.json").write_text(json.dumps({"hooks": hooks}))

    async def entered(self) -> None:
        with anyio.fail_after(20):
            await anyio.to_thread.run_sync(self._started.read_text, abandon_on_cancel=True)


async def test_an_agent_that_died_before_any_message_starts_again_under_the_same_conversation(
    environ: dict[str, str], model_server: ModelServer
) -> None:
    async with claude(environ) as bench:
        await ready(bench)
        await bench.kill_agent()
        await bench.recreate()
        await bench.wait_for(Idle)
        await converse(bench, "hello MARK-1")
        told = of(bench, SessionReady)
    assert told[0].conversation == told[1].conversation
    assert model_server.requests.conversations() == [told[0].conversation]


# --- the end --------------------------------------------------------------------------------------------


async def test_release_leaves_no_tool_that_called_setsid(
    environ: dict[str, str], model_server: ModelServer, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    command = f"setsid sleep 1000 & setsid sleep 1000 & echo yes > {started}; sleep 1000"
    model_server.script({"shell": command})
    async with claude(environ) as bench:
        await ready(bench)
        await bench.inject("go")
        with anyio.fail_after(20):
            await anyio.to_thread.run_sync(started.read_text, abandon_on_cancel=True)
        found = descendants_of(bench.link.holder_pid)
        assert len(found) >= 4  # claude, a shell, what it started
        await bench.session.release(StopPlan(drain_s=0, interrupt_s=0.5, term_s=0.5))
        assert alive(found) == [] and descendants_of(bench.link.holder_pid) == []
        await bench.wait_run()
        await bench.session.release(StopPlan())  # idempotent


async def test_the_output_before_an_exit_is_told_when_nobody_was_there(
    environ: dict[str, str], model_server: ModelServer
) -> None:
    model_server.script({"text": "the last word", "delay": 0.5})
    async with claude(environ) as bench:
        await ready(bench)
        await bench.inject("hello")
        await bench.session.drain()
        await bench.crash()
        await model_server.requests.wait_outcome(await model_server.requests.wait("hello"))
        await bench.adopt()
        await bench.wait_run()
    assert [e.text for e in of(bench, Transcript)] == ["hello", "the last word"]
    assert [e.outcome for e in of(bench, TurnEnded)] == [Outcome.COMPLETED]
    assert not of(bench, ToolEnded)
