"""The opencode driver when somebody dies: what is told afterwards, and what is left behind."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_drivers.opencode import harness
from relay_runtime.contract import (
    Approval,
    Entry,
    Handed,
    HarnessGone,
    ResumeRefused,
    StartFailed,
    Verdict,
)
from relay_runtime.events import (
    Idle,
    Outcome,
    Proven,
    Refused,
    SessionReady,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from relay_runtime.processes import alive, descendants_of, vanished
from relay_runtime.testing.clis import Cli, hermetic_env

from .opencode_rig import (
    STOP,
    TOOL_TURN,
    bench_of,
    check_each_once,
    check_files,
    dispose,
    ended,
    proofs,
    ready,
    said,
    turn,
)

if TYPE_CHECKING:
    from relay_runtime.testing.model_server import ModelServer

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


async def test_events_survive_a_crash_before_any_of_them_is_committed(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    async with bench_of(opencode_cli, tmp_path, model_server) as bench:
        await ready(bench)
        agent = (await bench.link.status()).pid
        turns = 0
        for moment in (TurnStarted, Proven, ToolStarted, ToolEnded, TurnEnded, Idle):
            model_server.script(*TOOL_TURN)
            bench.arm(moment)
            await bench.inject(f"MARK-{turns:02}")
            await bench.crash_before(moment)
            await bench.adopt()
            await bench.wait_for(Idle)
            turns += 1
            assert len(bench.of(TurnEnded)) == turns, moment
        rng = random.Random(18)
        for _ in range(6):
            model_server.script(*TOOL_TURN)
            await bench.inject(f"MARK-{turns:02}")
            await anyio.sleep(rng.uniform(0, 0.7))  # any moment of the turn will do
            await bench.crash()
            await bench.adopt()
            await bench.wait_for(Idle)
            turns += 1
        marks = [f"MARK-{number:02}" for number in range(turns)]
        assert model_server.requests.order(marks) == marks
        assert [model_server.requests.occurrences(mark) for mark in marks] == [1] * turns
        assert len(proofs(bench)) == len(bench.of(TurnEnded)) == turns
        assert len(bench.of(ToolStarted)) == 2 * turns
        assert said(bench, "user") == marks
        assert said(bench) == ["let me", "fin"] * turns
        assert len(bench.of(SessionReady)) == 1
        assert (await bench.link.status()).pid == agent
        check_each_once(bench)


async def test_what_happens_while_nobody_listens_is_told_afterwards(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    async with bench_of(opencode_cli, tmp_path, model_server) as bench:
        await ready(bench)
        model_server.script({"shell": "sleep 60"})
        await bench.inject("MARK-A")
        await bench.wait_for(ToolStarted)
        steer = await bench.inject("MARK-B", Entry.STEER)

        # The server drops its streams and aborts everything; the process lives.
        await dispose(bench)
        refused = await bench.wait_for(Refused)
        assert isinstance(refused, Refused)
        assert refused.write_id == steer
        await bench.wait_for(Idle)

        # What is handed in at that moment may go down with the old instance; it is never just gone.
        write = await bench.inject("MARK-C")
        decided = await bench.wait_for(lambda e: isinstance(e, Proven | Refused))
        await bench.wait_for(Idle)
        if isinstance(decided, Refused):
            assert decided.retry
            await bench.reinject(write)
            await bench.wait_for(Proven)
            await bench.wait_for(Idle)
        assert model_server.requests.occurrences("MARK-C") == 1

        model_server.script({"shell": "sleep 0.5"}, "alone")
        await bench.inject("MARK-D")
        await bench.wait_for(Proven)
        await bench.crash()
        request = await model_server.requests.wait(
            lambda r: "MARK-D" in str(r.body) and r.index > 2
        )
        await model_server.requests.wait_outcome(request)
        await bench.adopt()
        await bench.wait_for(ended(Outcome.COMPLETED))
        await bench.wait_for(Idle)
        assert said(bench)[-1] == "alone"
        check_each_once(bench)


async def test_a_killed_agent_goes_on_with_its_conversation(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    async with bench_of(opencode_cli, tmp_path, model_server) as bench:
        await ready(bench)
        model_server.script({"shell": "sleep 60"})
        opener = await bench.inject("MARK-OPENER")
        await bench.wait_for(ToolStarted)
        steer = await bench.inject("MARK-STEER", Entry.STEER)
        await bench.kill_agent()
        assert bench.failure is None
        assert [e.ok for e in bench.events if isinstance(e, ToolEnded)] == [False]
        assert [e.outcome for e in bench.events if isinstance(e, TurnEnded)] == [
            Outcome.INTERRUPTED
        ]
        assert (await bench.session.settle(steer)).verdict is Verdict.UNKNOWN

        await bench.recreate()
        await bench.wait_for(Idle)
        first, second = (e for e in bench.events if isinstance(e, SessionReady))
        assert first.conversation == second.conversation
        assert (await bench.session.settle(opener)).verdict is Verdict.PRESENT
        assert (await bench.session.settle(steer)).verdict is Verdict.ABSENT
        await turn(bench, "MARK-NEXT")
        assert model_server.requests.occurrences("MARK-STEER") == 0
        await bench.reinject(steer)
        await bench.wait_for(Proven)
        await bench.wait_for(Idle)
        marks = ["MARK-OPENER", "MARK-NEXT", "MARK-STEER"]
        assert model_server.requests.order(marks) == marks
        assert [model_server.requests.occurrences(mark) for mark in marks] == [1, 1, 1]

        # Killed while the supervisor was away: the adopter closes what was open.
        model_server.script({"shell": "sleep 60"})
        await bench.inject("MARK-LAST")
        await bench.wait_for(ToolStarted)
        agent = (await bench.link.status()).pid
        await bench.crash()
        assert agent is not None
        os.kill(agent, signal.SIGKILL)
        await bench.adopt()
        await bench.wait_run()
        assert bench.failure is None
        check_each_once(bench)


async def test_two_sessions_of_one_user_do_not_disturb_each_other(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    async with (
        bench_of(opencode_cli, tmp_path, model_server) as one,
        bench_of(opencode_cli, tmp_path, model_server) as two,
    ):
        async with anyio.create_task_group() as starting:
            starting.start_soon(ready, one)
            starting.start_soon(ready, two)
        for number in range(4):
            await one.inject(f"MARK-ONE-{number}")
            await two.inject(f"MARK-TWO-{number}")
            await one.wait_for(Idle)
            await two.wait_for(Idle)
        for bench, name in ((one, "ONE"), (two, "TWO")):
            assert said(bench, "user") == [f"MARK-{name}-{number}" for number in range(4)]
            assert len(proofs(bench)) == 4
            check_each_once(bench)
        assert len(model_server.requests) == 8


# --- beginning and end --------------------------------------------------------------------------------


async def test_release_leaves_no_process_and_no_secret(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    async with bench_of(
        opencode_cli, tmp_path, model_server, instructions="ANSWER IN VERSE", name="verse"
    ) as bench:
        await ready(bench)
        password = (await bench.link.status()).memo["opencode.password"]
        up = tmp_path / "up"
        os.mkfifo(up)
        model_server.script({"shell": f"setsid sleep 300 & echo up > {up}; sleep 300"})
        await bench.inject("MARK-1")
        with anyio.fail_after(20):
            await anyio.to_thread.run_sync(up.read_text, abandon_on_cancel=True)
        request = await model_server.requests.wait("MARK-1")
        assert "ANSWER IN VERSE" in str(request.body)
        assert len(model_server.requests) == 1, "no request for a title"

        status = await bench.link.status()
        family = descendants_of(status.holder_pid)
        assert len(family) >= 3
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.session.drain)
            await anyio.wait_all_tasks_blocked()
            deferred = await bench.inject("MARK-2")
            assert bench.receipts[deferred].status is Handed.DEFERRED
            await bench.session.release(STOP)
        await bench.wait_run()
        assert bench.failure is None
        await vanished(family)
        assert not alive(family)
        await bench.session.release(STOP)  # again: no error
        with pytest.raises(HarnessGone):
            await bench.session.interrupt()

        check_files(Path(bench.session_dir), password)
        assert password not in json.dumps(bench.checkpoint)
        assert not [event for event in bench.events if password in str(event)]
        check_each_once(bench)


async def test_read_only_has_no_shell_and_no_editor(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    theirs = {"agent": {"build": {"permission": {"bash": "allow", "edit": "allow"}}}}
    env = {"OPENCODE_CONFIG_CONTENT": json.dumps(theirs), "OPENCODE_PERMISSION": '{"bash":"allow"}'}
    async with bench_of(
        opencode_cli, tmp_path, model_server, env, approval=Approval.READ_ONLY
    ) as bench:
        await ready(bench)
        await turn(bench, "MARK-1")
        body = model_server.requests.main()[-1].body
        assert isinstance(body, dict)
        tools = {tool["function"]["name"] for tool in body["tools"]}
        assert "read" in tools
        assert not tools & {"bash", "edit", "write", "apply_patch"}


async def test_what_prevents_a_start_is_said_in_one_line(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    async def refusal(kind: type[Exception], env: dict[str, str], **wishes: object) -> str:
        async with bench_of(opencode_cli, tmp_path, model_server, env, **wishes) as bench:
            conversation = wishes.get("conversation")
            try:
                await bench.create(conversation=str(conversation) if conversation else None)
                await bench.wait_run()
            except StartFailed as error:
                bench.failure = error
            assert type(bench.failure) is kind, bench.failure
            assert not bench.events
            assert "\n" not in str(bench.failure)
            return str(bench.failure)

    assert "npm install -g opencode-ai" in await refusal(StartFailed, {"PATH": "/nowhere"})
    assert "its arguments" in await refusal(StartFailed, {}, args=("--bogus",))
    wrong = {"config": {"model": 5}}
    assert "Expected string" in await refusal(StartFailed, {}, options=wrong)
    unknown = {"conversation": "ses_e0202171debffe1Z4DT4kjP"}
    assert "Session not found" in await refusal(ResumeRefused, {}, **unknown)


async def test_the_probe_finds_program_version_and_login_but_shows_no_key(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    env = hermetic_env(opencode_cli, tmp_path, model_server.url)
    found = await harness.probe(env)
    assert found.found == str(tmp_path / "bin" / "opencode")
    assert (found.version, found.login) == (opencode_cli.version, "unknown")
    auth = anyio.Path(env["XDG_DATA_HOME"], "opencode", "auth.json")
    await auth.parent.mkdir(parents=True, exist_ok=True)
    await auth.write_text('{"anthropic": {"type": "api", "key": "SECRET"}}')
    found = await harness.probe(env)
    assert found.login == "yes"
    assert "SECRET" not in str(found)
    missing = await harness.probe(env | {"PATH": "/nowhere"})
    assert missing.found is None
    assert missing.advice is not None
