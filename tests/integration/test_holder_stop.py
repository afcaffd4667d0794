"""Stopping: each step in its turn and within its bound, and no descendant is left."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import Io, StopPlan, Stream
from relay_runtime.holder import wire
from relay_runtime.holder_link import HolderRefused, connect
from relay_runtime.processes import alive, descendants_of

from .holders import NOW, SOON, Raw, holder, output, processes, python, shell, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

LONG = 1000.0
#: Says which signals it gets, and ends at none of them.
STUBBORN = (
    "trap 'echo int' INT; trap 'echo term' TERM; echo up; while :; do read x || sleep 0.05; done"
)


@pytest.mark.parametrize("io", Io)
async def test_nothing_is_left_of_a_child_whose_children_called_setsid(
    tmp_path: Path, io: Io
) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(
            shell(
                "setsid sleep 1000 & echo $!; "
                "(setsid sh -c 'sleep 1000 & echo $!; exec sleep 1000' & echo $!); "
                "(nohup sleep 1000 >/dev/null 2>&1 & echo $!); wait",
                io,
            )
        )
        family = processes(await until(link, b"\n", times=4))
        with anyio.fail_after(SOON):
            exit = await link.stop(StopPlan(0, 0, 1))
        assert alive(family) == []
        assert descendants_of(link.holder_pid) == []
        assert exit == await link.wait_exit()


async def test_nothing_is_left_of_a_child_that_keeps_giving_birth(tmp_path: Path) -> None:
    program = (
        "import os, time\n"
        "print('up', flush=True)\n"
        "while True:\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        "            time.sleep(1000)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    time.sleep(0.002)\n"
    )
    async with holder(tmp_path / "s") as link:
        await link.start(python(program))
        await until(link, b"up")
        with anyio.fail_after(SOON):
            await link.stop(NOW)
        assert descendants_of(link.holder_pid) == []


async def test_draining_lets_a_child_on_pipes_finish(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("cat; sleep 0.2; echo finished; exit 3"))
        await link.write(b"last words\n", 1)
        with anyio.fail_after(SOON):
            exit = await link.stop(StopPlan(LONG, LONG, LONG))
        assert exit.code == 3
        assert await output(link) == b"last words\nfinished\n"


async def test_each_step_is_taken_when_the_one_before_did_not_help(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell(STUBBORN))
        await until(link, b"up")
        with anyio.fail_after(SOON):
            exit = await link.stop(StopPlan(0.2, 0.3, 0.3))
        assert exit.signal == signal.SIGKILL
        assert await output(link) == b"up\nint\nterm\n"


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (StopPlan(0, 0, 0.3), b"up\nterm\n"),
        (StopPlan(0, 0.3, 0), b"up\nint\n"),
        (StopPlan(0, 0, 0), b"up\n"),
    ],
)
async def test_steps_without_time_are_skipped(tmp_path: Path, plan: StopPlan, said: bytes) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell(STUBBORN))
        await until(link, b"up")
        with anyio.fail_after(SOON):
            assert (await link.stop(plan)).signal == signal.SIGKILL
        assert await output(link) == said


@pytest.mark.parametrize(
    ("trapped", "plan"),
    [("INT", StopPlan(0, LONG, LONG)), ("TERM", StopPlan(0, 0, LONG))],
)
async def test_a_step_that_helps_is_the_last(tmp_path: Path, trapped: str, plan: StopPlan) -> None:
    async with holder(tmp_path / "s") as link:
        script = f"trap 'exit 5' {trapped}; echo up; while :; do sleep 0.05; done"
        await link.start(shell(script, Io.PTY))
        await until(link, b"up")
        with anyio.fail_after(SOON):
            assert (await link.stop(plan)).code == 5


async def test_a_stopped_process_hears_the_term(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done"))
        await until(link, b"up")
        await link.signal(signal.SIGSTOP)
        with anyio.fail_after(SOON):
            assert (await link.stop(StopPlan(0, 0, LONG))).code == 6


async def test_a_stop_goes_on_when_whoever_asked_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(shell(STUBBORN))
        await until(link, b"up")
        with Raw(folder, wire.hello()) as raw:
            stop = {"id": 1, "op": "stop", "drain_s": 0, "interrupt_s": 0.2, "term_s": 0.2}
            raw.send(wire.encode_json(wire.REQUEST, stop))
        with anyio.fail_after(SOON):
            assert (await link.wait_exit()).signal == signal.SIGKILL


async def test_a_cancelled_stop_goes_on(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell(STUBBORN))
        await until(link, b"up")
        with anyio.move_on_after(0.1):
            await link.stop(StopPlan(0, 0.3, 0))
        with anyio.fail_after(SOON):
            assert (await link.wait_exit()).signal == signal.SIGKILL


async def test_a_second_stop_hurries_the_first_and_both_are_answered(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    exits = []
    async with holder(folder) as link, connect(str(folder)) as other:
        await link.start(shell(STUBBORN))
        await until(link, b"up")

        async def stop_patiently() -> None:
            exits.append(await other.stop(StopPlan(LONG, LONG, LONG)))

        with anyio.fail_after(SOON):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stop_patiently)
                await anyio.wait_all_tasks_blocked()
                exits.append(await link.stop(NOW))
    assert exits[0] == exits[1]
    assert exits[0].signal == signal.SIGKILL


async def test_stopping_what_is_gone_is_no_error(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        assert (await link.stop(NOW)).code == 0
        await link.start(shell("exit 4"))
        assert (await link.wait_exit()).code == 4
        assert (await link.stop(NOW)).code == 4
        assert (await link.stop(StopPlan())).code == 4


async def test_a_holder_does_not_quit_over_a_running_child(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("cat"))
        with pytest.raises(HolderRefused, match="stop it first"):
            await link.quit()
        assert (await link.status()).pid is not None


async def test_output_up_to_the_last_moment_is_kept(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "def last(*_):\n"
        "    os.write(1, b'y' * 60_000)\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, last)\n"
        "os.write(1, b'up')\n"
        "while True: signal.pause()\n"
    )
    async with holder(tmp_path / "s") as link:
        await link.start(python(program))
        await until(link, b"up")
        with anyio.fail_after(SOON):
            await link.stop(StopPlan(0, 0, LONG))
        assert (await link.status()).offsets[Stream.OUT] == 60_002
