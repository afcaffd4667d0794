"""Send → model request, and spawn → ready: through us, and straight to the same CLI, interleaved.

python bench/delivery.py [claude] [claude-tui] [codex] [opencode]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import anyio

from bench.direct import DIRECT
from relay_runtime.testing.clis import Cli, CliName, find_cli, hermetic_env
from relay_runtime.testing.fleet import Fleet
from relay_runtime.testing.model_server import run_model_server

if TYPE_CHECKING:
    from bench.direct import Agent
    from relay_runtime.contract import Json
    from relay_runtime.testing.model_server import ModelServer

PAIRS = 16  #: of agents: two processes of the same program differ by more than what we add
MESSAGES = 20  #: to each agent, alternating; the first warms up and does not count
QUIET_S = 0.2  #: before each, for what an agent still does after its turn
SPAWNS = 11
ADDED_MS = (10.0, 25.0)  #: what we may add: median, 95th percentile
TYPED_ADDED_MS = (40.0, 100.0)  #: the same where it is typed into a terminal
SPAWN_MS = 100.0


async def bench(name: str) -> list[str]:
    """Table rows for one CLI, or one of its interfaces."""
    cli = find_cli(cast("CliName", name.partition("-")[0]))
    if cli is None:
        return [f"{name:10s} not installed: make clis"]
    with tempfile.TemporaryDirectory(prefix="rr-") as folder:
        root = Path(folder)
        async with run_model_server() as model, Fleet(root / "f") as fleet:
            await fleet.up()
            direct: list[float] = []
            ours: list[float] = []
            for number in range(PAIRS):
                pair = made(root / str(number))
                some_direct, some_of_ours = await latencies(name, cli, pair, model, fleet)
                direct += some_direct
                ours += some_of_ours
            rows = [latency_row(name, direct, ours)]
            rows.append(spawn_row(name, *await spawns(name, cli, root, model, fleet)))
            return rows


async def latencies(
    name: str, cli: Cli, root: Path, model: ModelServer, fleet: Fleet
) -> tuple[list[float], list[float]]:
    """Milliseconds from the call to the model's request, for MESSAGES to each of a pair."""
    direct: list[float] = []
    ours: list[float] = []
    request = spawn_request(name, cli, root / "ours", model.url)
    session = await fleet.spawn(cli.name, name=f"{name}-{root.name}", **request)
    async with DIRECT[name](cli, made(root / "direct"), model.url) as agent:
        for number in range(MESSAGES + 1):
            await anyio.sleep(QUIET_S)
            direct.append(await one_direct(agent, model, f"direct-{root.name}-{number}-"))
            await anyio.sleep(QUIET_S)
            marker = f"ours-{root.name}-{number}-"
            ours.append(await one_of_ours(fleet, session["name"], model, marker))
    await fleet.order(session["name"], "release", force=True)
    return direct[1:], ours[1:]


async def one_direct(agent: Agent, model: ModelServer, marker: str) -> float:
    began = time.time()
    await agent.write(marker)
    seen = await model.requests.wait(marker, 60)
    await agent.idle()
    return (seen.at - began) * 1000


async def one_of_ours(fleet: Fleet, name: str, model: ModelServer, marker: str) -> float:
    cursor = max((event["cursor"] for event in await fleet.events(name)), default=0)
    began = time.time()
    await fleet.send(name, marker)
    seen = await model.requests.wait(marker, 60)
    await fleet.wait_event(name, "session.idle", since=cursor)
    return (seen.at - began) * 1000


async def spawns(
    name: str, cli: Cli, root: Path, model: ModelServer, fleet: Fleet
) -> tuple[list[float], list[float]]:
    """Milliseconds from the call to readiness; each in a home that was used before."""
    direct: list[float] = []
    ours: list[float] = []
    for number in range(SPAWNS + 1):
        async with DIRECT[name](cli, root / "direct", model.url) as agent:
            direct.append(agent.ready_s * 1000)
        request = spawn_request(name, cli, root / "ours", model.url)
        began = time.perf_counter()
        session = await fleet.spawn(cli.name, name=f"{name}-s{number}", **request)
        ours.append((time.perf_counter() - began) * 1000)
        await fleet.order(session["name"], "release", force=True)
    return direct[1:], ours[1:]


def spawn_request(name: str, cli: Cli, home: Path, url: str) -> dict[str, Json]:
    environ = hermetic_env(cli, made(home), url)
    mode = "pty" if name.endswith("-tui") else "headless"
    return {"environ": environ, "cwd": str(home / "work"), "approval": "open", "mode": mode}


def made(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def latency_row(name: str, direct: list[float], ours: list[float]) -> str:
    p50 = statistics.median(ours) - statistics.median(direct)
    p95 = at95(ours) - at95(direct)
    limit = TYPED_ADDED_MS if name.endswith("-tui") else ADDED_MS
    verdict = "ok" if p50 <= limit[0] and p95 <= limit[1] else "OVER"
    return (
        f"{name:10s} send→request  direct {statistics.median(direct):7.1f}/{at95(direct):7.1f} ms"
        f"   ours {statistics.median(ours):7.1f}/{at95(ours):7.1f} ms"
        f"   added {p50:6.1f}/{p95:6.1f} ms (limit {limit[0]:g}/{limit[1]:g})  {verdict}"
    )


def spawn_row(name: str, direct: list[float], ours: list[float]) -> str:
    added = statistics.median(ours) - statistics.median(direct)
    verdict = "ok" if added <= SPAWN_MS else "OVER"
    return (
        f"{name:10s} spawn→ready   direct {statistics.median(direct):7.1f}         ms"
        f"   ours {statistics.median(ours):7.1f}         ms"
        f"   added {added:6.1f}        ms (limit {SPAWN_MS:g})     {verdict}"
    )


def at95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def main(names: list[str]) -> None:
    known = [*get_args(CliName), "claude-tui"]
    wanted = [name for name in sorted(known) if not names or name in names]
    print(
        f"median/95th percentile of {PAIRS} agents x {MESSAGES} messages; spawn: median of {SPAWNS}"
    )
    for name in wanted:
        for row in await bench(name):
            print(row, flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
