"""The codex driver with the real Codex behind a real holder: turns, steering, requests."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest
from tests.e2e.codex_rig import Rig, decided, make_rig, of, ready, running, working_file

from relay_runtime.contract import Approval, Entry, Handed, Verdict
from relay_runtime.events import (
    FileChanged,
    Idle,
    Outcome,
    PermissionRequested,
    PermissionResolved,
    Proven,
    Refused,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relay_runtime.events import Event
    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.model_server import ModelServer

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


@pytest.fixture
def rig(codex_cli: Cli, tmp_path: Path, model_server: ModelServer) -> Rig:
    return make_rig(codex_cli, tmp_path, model_server)


# --- turns --------------------------------------------------------------------------------------------


async def test_a_message_to_an_idle_session_reaches_the_model_once_and_is_proven(rig: Rig) -> None:
    async with rig.bench() as bench:
        begun = await ready(bench)
        assert begun.version == rig.cli.version and begun.model == "gpt-5.5"
        write_id = await bench.inject("hello MARK-1")
        proven = await bench.wait_for(Proven)
        await bench.wait_for(Idle)
        assert bench.receipts[write_id].status is Handed.ACCEPTED
        assert isinstance(proven, Proven) and proven.write_id == write_id
        assert proven.evidence.kind == "codex.user_message"
        (started,), (ended,) = of(bench, TurnStarted), of(bench, TurnEnded)
        assert proven.evidence.turn_id == started.turn_id == ended.turn_id
        assert ended.outcome is Outcome.COMPLETED and ended.usage.output_tokens == 10
        assert len(of(bench, Proven)) == 1
        assert (await bench.session.settle(write_id)).verdict is Verdict.PRESENT
    assert rig.model.requests.occurrences("MARK-1") == 1
    assert len(rig.model.requests.main()) == 1
    assert begun.conversation == rig.model.requests.main()[0].conversation


async def test_tools_files_and_words_of_a_turn_are_told(rig: Rig) -> None:
    rig.model.script(
        {"shell": "echo one"}, {"write": {"path": "new.txt", "content": "two"}}, "three"
    )
    async with rig.bench() as bench:
        await ready(bench)
        await bench.inject("go")
        await bench.wait_for(Idle)
        began = [(e.tool_id, e.name) for e in of(bench, ToolStarted)]
        ended = [(e.tool_id, e.ok) for e in of(bench, ToolEnded)]
        assert [name for _, name in began] == ["shell", "apply_patch"]
        assert ended == [(tool, True) for tool, _ in began]
        (change,) = of(bench, FileChanged)
        assert change.change == "created"
        assert working_file(bench, change.path) == "two\n"
        assert [e.text for e in of(bench, Transcript)] == ["three"]


async def test_several_turns_go_in_one_after_the_other(rig: Rig) -> None:
    async with rig.bench() as bench:
        await ready(bench)
        for number in range(5):
            await bench.inject(f"MARK-{number}.")
            await bench.wait_for(Idle)
        assert len(of(bench, TurnEnded)) == len(of(bench, Proven)) == 5
    marks = [f"MARK-{number}." for number in range(5)]
    assert rig.model.requests.order(marks) == marks
    assert all(rig.model.requests.occurrences(mark) == 1 for mark in marks)


async def test_model_approval_and_instructions_are_those_of_the_spec(rig: Rig) -> None:
    before = 'developer_instructions = "WORDS-OF-THE-USER"\n' + rig.config.read_text()
    rig.config.write_text(before)
    rig.model.script({"shell": "touch not-allowed"}, "done")
    bench = rig.bench(model="some-model", approval=Approval.READ_ONLY, instructions="WORDS-OF-OURS")
    async with bench:
        begun = await ready(bench)
        await bench.inject("go")
        await bench.wait_for(Idle)
        assert begun.model == "some-model"
        assert working_file(bench, "not-allowed") is None
        assert not of(bench, PermissionRequested)
    first = rig.model.requests.main()[0]
    body = json.dumps(first.body)
    assert first.model == "some-model"
    assert body.count("WORDS-OF-THE-USER") == body.count("WORDS-OF-OURS") == 1
    assert body.index("WORDS-OF-THE-USER") < body.index("WORDS-OF-OURS")
    assert "Read-only file system" in json.dumps(rig.model.requests.main()[1].body)
    assert rig.config.read_text() == before


def _proof_of(write_id: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Proven) and event.write_id == write_id


# --- steering -----------------------------------------------------------------------------------------


async def test_a_steer_enters_the_running_turn_when_its_tool_is_done(rig: Rig) -> None:
    rig.model.script({"shell": "sleep 1"}, "done")
    async with rig.bench() as bench:
        await ready(bench)
        await bench.inject("go")
        await bench.wait_for(ToolStarted)
        steer = await bench.inject("MARK-STEER", Entry.STEER)
        assert bench.receipts[steer].status is Handed.ACCEPTED
        assert (await bench.session.settle(steer)).verdict is Verdict.UNKNOWN
        await bench.wait_for(_proof_of(steer))
        await bench.wait_for(Idle)
        assert len(of(bench, TurnStarted)) == 1 and len(of(bench, Proven)) == 2
    assert len(rig.model.requests.main()) == 2
    assert rig.model.requests.first_seen("MARK-STEER") is rig.model.requests.main()[1]


async def test_a_steer_lets_the_model_finish_what_it_is_saying(rig: Rig) -> None:
    rig.model.script({"chunks": ["half ", "and whole"], "chunk_delay": 0.7}, "done")
    async with rig.bench() as bench:
        await ready(bench)
        await bench.inject("go")
        await rig.model.requests.wait("go")
        await bench.wait_for(Proven)
        await bench.inject("MARK-STEER", Entry.STEER)
        await bench.wait_for(Idle)
        texts = [e.text for e in of(bench, Transcript)]
        assert texts == ["half and whole", "done"]
    assert rig.model.requests.occurrences("MARK-STEER") == 1


async def test_a_steer_that_an_interrupt_swallowed_is_refused_and_may_go_in_again(rig: Rig) -> None:
    rig.model.script({"shell": "sleep 30"})
    async with rig.bench() as bench:
        await ready(bench)
        await bench.inject("go")
        await bench.wait_for(ToolStarted)
        steer = await bench.inject("MARK-STEER", Entry.STEER)
        await bench.session.interrupt()
        refused = await bench.wait_for(Refused)
        await bench.wait_for(Idle)
        assert isinstance(refused, Refused) and refused.write_id == steer and refused.retry
        assert await decided(bench, steer) is Verdict.ABSENT
        bench.injections[steer] = replace(bench.injections[steer], entry=Entry.NEXT_TURN)
        await bench.reinject(steer)
        await bench.wait_for(_proof_of(steer))
        await bench.wait_for(Idle)
    assert rig.model.requests.occurrences("MARK-STEER") == 1


async def test_what_cannot_go_in_now_is_deferred(rig: Rig) -> None:
    rig.model.script({"shell": "sleep 1"}, "done")
    async with rig.bench() as bench:
        await ready(bench)
        steer = await bench.inject("too early", Entry.STEER)
        assert bench.receipts[steer].status is Handed.DEFERRED
        await bench.inject("go")
        await bench.wait_for(ToolStarted)
        second = await bench.inject("MARK-2")
        assert bench.receipts[second].status is Handed.DEFERRED
        await bench.wait_for(Idle)
    assert rig.model.requests.occurrences("MARK-2") == 0


# --- interrupt ----------------------------------------------------------------------------------------


async def test_an_interrupt_ends_the_turn_and_the_command_it_was_running(rig: Rig) -> None:
    rig.model.script({"shell": "sleep 600"})
    async with rig.bench() as bench:
        await ready(bench)
        await bench.session.interrupt()  # nothing runs: nothing happens
        await bench.inject("go")
        await bench.wait_for(ToolStarted)
        assert running("sleep 600", bench)
        await bench.session.interrupt()
        await bench.wait_for(TurnEnded)
        await bench.wait_for(ToolEnded)
        await bench.wait_for(Idle)
        (ended,) = of(bench, TurnEnded)
        assert ended.outcome is Outcome.INTERRUPTED
        with anyio.fail_after(5):
            while running("sleep 600", bench):  # the kernel tells nobody
                await anyio.lowlevel.checkpoint()
        await bench.inject("MARK-NEXT")
        await bench.wait_for(Idle)
    assert rig.model.requests.occurrences("MARK-NEXT") == 1


async def test_an_interrupt_spares_what_an_earlier_turn_left_running(rig: Rig) -> None:
    server: dict[str, object] = {
        "tool": "exec_command",
        "args": {"cmd": "sleep 601", "yield_time_ms": 250},
    }
    rig.model.script(server, "it runs", {"shell": "sleep 602"})
    async with rig.bench() as bench:
        await ready(bench)
        await bench.inject("start the server")
        await bench.wait_for(Idle)
        await bench.inject("go")
        await bench.wait_for(ToolStarted)
        await bench.session.interrupt()
        await bench.wait_for(ToolEnded)
        assert running("sleep 601", bench)
        assert not running("sleep 602", bench)


async def test_an_interrupt_right_after_a_message_stops_its_turn(rig: Rig) -> None:
    rig.model.script({"hang": "start"})
    async with rig.bench() as bench:
        await ready(bench)
        write_id = await bench.inject("MARK-1")
        await bench.session.interrupt()
        await bench.wait_for(Idle)
        (ended,) = of(bench, TurnEnded)
        assert ended.outcome is Outcome.INTERRUPTED
        proven, refused = of(bench, Proven), of(bench, Refused)
        assert [e.write_id for e in proven] + [e.write_id for e in refused] == [write_id]
        assert all(e.retry for e in refused)
        wanted = Verdict.PRESENT if proven else Verdict.ABSENT
        assert await decided(bench, write_id) is wanted


# --- requests for a person ----------------------------------------------------------------------------


async def test_a_guarded_tool_call_waits_for_an_answer(rig: Rig) -> None:
    rig.model.script(
        {"shell": "touch allowed"},
        {"shell": "touch denied"},
        {"write": {"path": "patched", "content": "x"}},
        "done",
    )
    async with rig.bench(approval=Approval.GUARDED) as bench:
        await ready(bench)
        await bench.inject("go")
        for allow in (True, False, True):
            request = await bench.wait_for(PermissionRequested)
            assert isinstance(request, PermissionRequested)
            bench.mark()
            await bench.session.answer(request.request_id, allow)
            resolved = await bench.wait_for(PermissionResolved)
            assert isinstance(resolved, PermissionResolved)
            assert resolved.decision == ("allow" if allow else "deny")
            assert resolved.request_id == request.request_id
            with pytest.raises(KeyError):
                await bench.session.answer(request.request_id, True)
        await bench.wait_for(Idle)
        assert working_file(bench, "allowed") == "" and working_file(bench, "patched") == "x\n"
        assert working_file(bench, "denied") is None
        requests = of(bench, PermissionRequested)
        assert [e.tool for e in requests] == ["shell", "shell", "apply_patch"]
        assert "touch allowed" in requests[0].detail and "patched" in requests[2].detail


async def test_a_request_survives_a_supervisor_and_is_answered_by_the_next(rig: Rig) -> None:
    rig.model.script({"shell": "touch allowed"}, "done")
    async with rig.bench(approval=Approval.GUARDED) as bench:
        await ready(bench)
        await bench.inject("go")
        request = await bench.wait_for(PermissionRequested)
        assert isinstance(request, PermissionRequested)
        await bench.adopt()
        await bench.session.answer(request.request_id, True)
        await bench.wait_for(Idle)
        assert working_file(bench, "allowed") == ""
        assert len(of(bench, PermissionRequested)) == len(of(bench, PermissionResolved)) == 1


async def test_a_request_that_ended_unseen_is_closed(rig: Rig) -> None:
    rig.model.script({"shell": "touch asked"}, "done")
    async with rig.bench(approval=Approval.GUARDED) as bench:
        await ready(bench)
        await bench.inject("go")
        request = await bench.wait_for(PermissionRequested)
        assert isinstance(request, PermissionRequested)
        bench.arm(PermissionResolved)
        await bench.session.interrupt()
        await bench.crash_before(PermissionResolved)
        await bench.adopt()
        await bench.wait_for(Idle)
        (resolved,) = of(bench, PermissionResolved)
        assert resolved == PermissionResolved(request.request_id, "withdrawn")
