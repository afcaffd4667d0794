"""One real OpenCode with the driver on it, and what every test of it asks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from relay_drivers.opencode import api, harness
from relay_runtime.contract import (
    Approval,
    SessionSpec,
    StopPlan,
)
from relay_runtime.events import (
    Event,
    Idle,
    Outcome,
    Proven,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    TurnStarted,
)
from relay_runtime.testing.clis import Cli, hermetic_env
from relay_runtime.testing.driver_bench import DriverBench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relay_runtime.testing.model_server import ModelServer


TOOL_TURN = ({"text": "let me", "calls": [{"shell": "sleep 0.3"}, {"shell": "echo x"}]}, "fin")
STOP = StopPlan(drain_s=0, interrupt_s=1, term_s=1)


def bench_of(
    cli: Cli, home: Path, model: ModelServer, env: dict[str, str] | None = None, **wishes: object
) -> DriverBench:
    wishes = {"approval": Approval.OPEN} | wishes

    def spec(default: SessionSpec) -> SessionSpec:
        return replace(default, **wishes)  # type: ignore[arg-type]

    return DriverBench(harness, hermetic_env(cli, home, model.url) | (env or {}), spec)


def proofs(bench: DriverBench) -> Counter[str]:
    return Counter(event.write_id for event in bench.events if isinstance(event, Proven))


def check_each_once(bench: DriverBench) -> None:
    """No event came twice, and every turn and tool that began has ended."""
    assert set(proofs(bench).values()) <= {1}
    started = [event.turn_id for event in bench.events if isinstance(event, TurnStarted)]
    ended = [event.turn_id for event in bench.events if isinstance(event, TurnEnded)]
    assert started == ended
    assert len(set(started)) == len(started)
    tools = [event.tool_id for event in bench.events if isinstance(event, ToolStarted)]
    tools_ended = [event.tool_id for event in bench.events if isinstance(event, ToolEnded)]
    assert sorted(tools) == sorted(tools_ended)
    assert len(set(tools)) == len(tools)


def said(bench: DriverBench, role: str = "assistant") -> list[str]:
    return [e.text for e in bench.events if isinstance(e, Transcript) and e.role == role]


async def ready(bench: DriverBench) -> None:
    await bench.create()
    await bench.wait_for(Idle)


async def turn(bench: DriverBench, text: str) -> TurnEnded:
    """One whole turn."""
    await bench.inject(text)
    ended = await bench.wait_for(TurnEnded)
    await bench.wait_for(Idle)
    assert isinstance(ended, TurnEnded)
    return ended


def ended(outcome: Outcome) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, TurnEnded) and event.outcome is outcome


async def dispose(bench: DriverBench) -> None:
    """As `opencode` itself may: every turn is aborted and every event stream closed."""
    url = bench.tail("out").split()[-1]
    password = (await bench.link.status()).memo["opencode.password"]
    async with api.open_api(url, password) as server:
        await server.post("/global/dispose")


def check_files(folder: Path, secret: str) -> None:
    """Nobody else may read them, and the secret is in none."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    assert not [path for path in files if path.stat().st_mode & 0o077]


# --- delivery -----------------------------------------------------------------------------------------
