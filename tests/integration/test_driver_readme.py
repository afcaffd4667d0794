"""The driver in `drivers/README.md` is complete: it keeps the contract as it stands there."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relay_runtime.contract import Harness, SessionSpec
from relay_runtime.events import Idle, Proven, TurnEnded, TurnStarted
from relay_runtime.testing.conformance import CHECKS, Subject
from relay_runtime.testing.driver_bench import DriverBench

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

README = Path(__file__).parents[2] / "drivers" / "README.md"
ENVIRON = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("parrot")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    for name, code in blocks:
        (folder / name).write_text(code, encoding="utf-8")
    location = importlib.util.spec_from_file_location("parrot", folder / "parrot_driver.py")
    assert location is not None and location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    assert isinstance(module.harness, Harness)

    def spec(default: SessionSpec) -> SessionSpec:
        return replace(default, argv=(str(folder / "parrot_agent.py"),))

    return Subject(module.harness, ENVIRON, spec)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_example_keeps_the_contract(
    subject: Subject, check: Callable[[Subject], Awaitable[None]]
) -> None:
    await check(subject)


@pytest.mark.parametrize("event", [TurnStarted, TurnEnded, Idle])
async def test_the_example_says_everything_once_over_a_crash(
    subject: Subject, event: type[TurnStarted | TurnEnded | Idle]
) -> None:
    async with DriverBench(subject.harness, subject.environ, subject.spec) as bench:
        await bench.create()
        await bench.wait_for(Idle)
        bench.arm(event)
        await bench.inject("hello")
        await bench.crash_before(event)
        await bench.adopt()
        await bench.wait_for(Idle)
        kinds = [type(each) for each in bench.events[2:]]
        assert [kinds.count(kind) for kind in (TurnStarted, Proven, TurnEnded)] == [1, 1, 1]
        assert kinds[-1] is Idle
