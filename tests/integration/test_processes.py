"""Finding and ending what a session left when its holder was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import HarnessGone, Io
from relay_runtime.holder.proc import boot_id
from relay_runtime.processes import (
    Process,
    alive,
    descendants_of,
    holder_alive,
    marked,
    reap_orphans,
    start_ticks,
    vanished,
)

from .holders import SOON, holder, meta, processes, shell, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from relay_runtime.contract import Json

pytestmark = pytest.mark.anyio

#: Ignores what a closing terminal sends, and has children that called setsid or lost their parent.
FAMILY = (
    "trap '' HUP; echo $$; setsid sleep 1000 & echo $!; "
    "(setsid sh -c 'sleep 1000 & echo $!; exec sleep 1000' & echo $!); "
    "while :; do sleep 1000; done"
)


@contextmanager
def bystander(session_id: str | None = None) -> Iterator[Process]:
    """A process that has nothing to do with a session, unless it is given the mark of one."""
    env = {"RELAY_RUNTIME_SESSION": session_id} if session_id else {}
    with subprocess.Popen(["/bin/sleep", "1000"], env=env) as process:
        ticks = start_ticks(process.pid)
        assert ticks is not None
        try:
            yield Process(process.pid, ticks)
        finally:
            process.kill()


@pytest.mark.parametrize("io", Io)
async def test_what_a_killed_holder_left_is_ended_and_nothing_else(tmp_path: Path, io: Io) -> None:
    folder = tmp_path / "session-with-a-killed-holder"
    async with holder(folder) as link:
        await link.start(shell(FAMILY, io))
        family = processes(await until(link, b"\n", times=4))
        assert set(family) <= set(descendants_of(link.holder_pid))
        assert set(family) <= set(marked(folder.name))
        record = meta(folder)
        assert holder_alive(record)
        pidfd = os.pidfd_open(link.holder_pid)
        os.kill(link.holder_pid, signal.SIGKILL)
        with anyio.fail_after(SOON), pytest.raises(HarnessGone):
            await link.wait_exit()
        with anyio.fail_after(SOON):
            await anyio.wait_readable(pidfd)  # a dying process closes its sockets first
        os.close(pidfd)
        assert not holder_alive(record)
        with bystander() as innocent, bystander("session-with-a-killed-holder-2") as other:
            ended = await reap_orphans(folder.name, record)
            assert alive([innocent, other]) == [innocent, other]
        assert alive(family) == []
        assert marked(folder.name) == []
        assert set(ended) & set(family)
        assert await reap_orphans(folder.name, record) == []


async def test_the_mark_alone_is_enough_when_the_record_is_lost() -> None:
    with bystander("a-session-without-record") as left:
        assert marked("a-session-without-record") == [left]
        assert await reap_orphans("a-session-without-record", {}) == [left]
        assert alive([left]) == []


async def test_a_process_is_never_taken_for_another_that_had_its_pid() -> None:
    with bystander() as innocent:
        later: dict[str, Json] = {
            "child_pid": innocent.pid,
            "child_start_ticks": innocent.start_ticks + 1,
            "boot_id": boot_id(),
        }
        other_boot: dict[str, Json] = {
            "child_pid": innocent.pid,
            "child_start_ticks": innocent.start_ticks,
            "boot_id": "of-last-week",
        }
        assert await reap_orphans("nobodys", later) == []
        assert await reap_orphans("nobodys", other_boot) == []
        assert alive([innocent]) == [innocent]
        assert alive([Process(innocent.pid, innocent.start_ticks + 1)]) == []


@pytest.mark.parametrize(
    "record", [{}, {"child_pid": "1"}, {"child_pid": 1, "child_start_ticks": None}]
)
async def test_a_record_that_says_nothing_ends_nobody(record: dict[str, str | int | None]) -> None:
    assert await reap_orphans("nobodys", record) == []
    assert not holder_alive(record)


def test_whoever_asks_is_not_part_of_the_session_that_started_it() -> None:
    program = "from relay_runtime.processes import marked; print(marked('outer-session'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"RELAY_RUNTIME_SESSION": "outer-session"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"[]\n"


async def test_a_process_that_stays_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay_runtime.processes.VANISH_S", 0.05)
    with bystander() as process, pytest.raises(TimeoutError, match=str(process.pid)):
        await vanished([process])


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        ticks = start_ticks(process.pid)
        assert ticks is not None
        zombie = Process(process.pid, ticks)
        assert alive([zombie]) == [zombie]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert alive([zombie]) == []
        assert descendants_of(os.getpid()) == []
    assert start_ticks(process.pid) is None
