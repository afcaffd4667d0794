"""What the tests of the claude driver share: benches, scripts and questions to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from relay_drivers.claude import harness
from relay_runtime.contract import Approval, Entry, Mode
from relay_runtime.events import Idle
from relay_runtime.testing.driver_bench import DriverBench

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import SessionSpec

NEW, OLD = "2.1.330", "2.1.197"
E = TypeVar("E")


def claude(
    environ: Mapping[str, str],
    approval: Approval | None = Approval.OPEN,
    args: tuple[str, ...] = (),
    model: str | None = None,
) -> DriverBench:
    """A bench that starts the real program; nothing asks for permission unless wanted."""

    def spec(default: SessionSpec) -> SessionSpec:
        return replace(default, mode=Mode.HEADLESS, approval=approval, args=args, model=model)

    return DriverBench(harness, environ, spec)


async def ready(bench: DriverBench) -> None:
    """Start the agent and wait until it takes input."""
    await bench.create()
    await bench.wait_for(Idle)


async def converse(bench: DriverBench, text: str) -> str:
    """Hand in `text` and wait for the end of its turn. The write's id."""
    write_id = await bench.inject(text)
    await bench.wait_for(Idle)
    return write_id


async def again(bench: DriverBench, write_id: str) -> None:
    """Hand in a write that is proven absent: the same id and text, under a new number."""
    old = bench.injections[write_id]
    seq = max(injection.seq for injection in bench.injections.values()) + 1
    bench.injections[write_id] = replace(old, seq=seq, entry=Entry.NEXT_TURN)
    await bench.reinject(write_id)


def of(bench: DriverBench, kind: type[E]) -> list[E]:
    return [event for event in bench.events if isinstance(event, kind)]
