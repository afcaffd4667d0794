"""The claude driver with the real Claude Code behind a real holder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from relay_drivers.claude import harness
from relay_runtime.contract import Approval, Handed
from relay_runtime.events import Idle, Outcome, Proven, SessionReady, TurnEnded, TurnStarted
from relay_runtime.testing.clis import Cli, hermetic_env
from relay_runtime.testing.driver_bench import DriverBench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relay_runtime.contract import SessionSpec
    from relay_runtime.testing.model_server import ModelServer

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

BY_LIFECYCLE = {"2.1.330": "claude.command_lifecycle", "2.1.197": "claude.replay"}


@pytest.fixture
def environ(claude_cli: Cli, tmp_path: Path, model_server: ModelServer) -> dict[str, str]:
    return hermetic_env(claude_cli, tmp_path, model_server.url)


def approval(chosen: Approval | None) -> Callable[[SessionSpec], SessionSpec]:
    return lambda spec: replace(spec, approval=chosen)


OPEN = approval(Approval.OPEN)


async def test_a_message_to_an_idle_session_reaches_the_model_once_and_is_proven(
    environ: dict[str, str], model_server: ModelServer, claude_cli: Cli
) -> None:
    async with DriverBench(harness, environ, OPEN) as bench:
        await bench.create()
        ready = await bench.wait_for(SessionReady)
        await bench.wait_for(Idle)
        write_id = await bench.inject("hello MARK-1")
        proven = await bench.wait_for(Proven)
        await bench.wait_for(Idle)
        started, ended = bench.of(TurnStarted), bench.of(TurnEnded)
    assert isinstance(ready, SessionReady) and isinstance(proven, Proven)
    assert ready.version == claude_cli.version and ready.model
    assert bench.receipts[write_id].status is Handed.ACCEPTED
    assert proven.write_id == write_id
    assert proven.evidence.kind == BY_LIFECYCLE[claude_cli.version]
    assert proven.evidence.reference == write_id
    assert [proven.evidence.turn_id] == [turn.turn_id for turn in started]
    (end,) = ended
    assert isinstance(end, TurnEnded)
    assert end.outcome is Outcome.COMPLETED and end.usage.output_tokens and end.cost_usd
    assert model_server.requests.occurrences("MARK-1") == 1
    assert len(model_server.requests.main()) == 1
    kinds = [type(event).__name__ for event in bench.events]
    assert kinds.count("Proven") == 1, kinds
