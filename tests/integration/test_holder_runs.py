"""A holder starts programs, keeps what they say, and knows how they ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import anyio
import pytest

from relay_runtime.contract import HarnessGone, Io, StartFailed, StartPlan, Stream
from relay_runtime.holder.proc import scan
from relay_runtime.holder_link import connect
from relay_runtime.processes import alive, descendants_of

from .holders import ENVIRON, NOW, SOON, holder, meta, output, processes, python, shell, until

pytestmark = pytest.mark.anyio


async def test_pipes_keep_the_three_streams_apart(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("read line; echo out $line; echo err $line >&2"))
        await link.write(b"hello\n", 1)
        assert await output(link, Stream.OUT) == b"out hello\n"
        assert await output(link, Stream.ERR) == b"err hello\n"
        assert await output(link, Stream.HOOKS) == b""


async def test_a_terminal_has_its_size_its_type_and_is_the_controlling_one(tmp_path: Path) -> None:
    plan = StartPlan(
        ("/bin/sh", "-c", "stty size; echo $TERM; : </dev/tty && echo mine; echo err >&2"),
        str(tmp_path),
        Io.PTY,
        rows=33,
        cols=101,
    )
    async with holder(tmp_path / "s") as link:
        await link.start(plan)
        assert await output(link) == b"33 101\r\nxterm-256color\r\nmine\r\nerr\r\n"


async def test_a_terminal_can_be_resized_and_the_program_is_told(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(
            shell("trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.1; done", Io.PTY)
        )
        await until(link, b"up")
        await link.resize(12, 34)
        assert b"12 34" in await output(link)


async def test_the_child_has_the_sessions_environment_with_the_plans_over_it(
    tmp_path: Path,
) -> None:
    environ = ENVIRON | {"KEPT": "1", "CHANGED": "1", "REMOVED": "1", "BYTES": "\udcff"}
    async with holder(tmp_path / "s", environ) as link:
        await link.start(shell("env", CHANGED="2", REMOVED=None, ADDED="ü"))
        env = dict(line.split(b"=", 1) for line in (await output(link)).splitlines())
        assert await link.environ() == environ
    assert env[b"KEPT"] == b"1"
    assert env[b"CHANGED"] == b"2"
    assert env[b"ADDED"] == "ü".encode()
    assert env[b"BYTES"] == b"\xff"
    assert env[b"RELAY_RUNTIME_SESSION"] == b"s"
    assert b"REMOVED" not in env
    assert env.keys() <= {name.encode() for name in environ} | {
        b"ADDED",
        b"PWD",
        b"RELAY_RUNTIME_SESSION",
        b"_",
        b"SHLVL",
        b"OLDPWD",
    }


@pytest.mark.parametrize("io", Io)
async def test_the_child_inherits_nothing_of_the_holder(tmp_path: Path, io: Io) -> None:
    program = (
        "import os\n"
        f"GLIBC = {3 << 31}\n"  # signals 32 and 33: nobody but glibc can change them
        "print(sorted(os.listdir('/proc/self/fd'))[:4])\n"  # the fourth is that of the listing
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(*[hex(int(status[name], 16) & ~GLIBC) for name in ('SigBlk', 'SigIgn')])\n"
        "print(os.getsid(0) == os.getpid(), os.getcwd(), oct(os.umask(0)))\n"
    )
    mask = os.umask(0o027)
    try:
        async with holder(tmp_path / "s") as link:
            await link.start(StartPlan((sys.executable, "-S", "-c", program), "/tmp", io))
            lines = (await output(link)).decode().splitlines()
    finally:
        os.umask(mask)
    assert lines[0] == "['0', '1', '2', '3']"
    # Python ignores SIGPIPE (13) and SIGXFSZ (25) by itself.
    assert lines[1] == "0x0 0x1001000"
    assert lines[2] == "True /tmp 0o27"


@pytest.mark.parametrize("io", Io)
@pytest.mark.parametrize("case", ["missing", "not executable", "no interpreter", "no folder"])
async def test_what_cannot_be_executed_is_reported_and_leaves_nothing(
    tmp_path: Path, io: Io, case: str
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o644 if case == "not executable" else 0o755)
    program = "no-such-program" if case == "missing" else str(script)
    cwd = str(tmp_path / "nowhere") if case == "no folder" else str(tmp_path)
    async with holder(tmp_path / "s") as link:
        with pytest.raises(StartFailed) as failure:
            await link.start(StartPlan((program,), cwd, io))
        message = str(failure.value)
        assert "\n" not in message
        assert (cwd if case == "no folder" else program) in message
        status = await link.status()
        assert (status.run, status.pid, status.exit) == (0, None, None)
        assert descendants_of(link.holder_pid) == []
        await link.start(shell("echo works"))
        assert await output(link) == b"works\n"


async def test_a_program_is_looked_up_on_the_sessions_own_path(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    async with holder(tmp_path / "s") as link:
        with pytest.raises(StartFailed, match="PATH"):
            await link.start(StartPlan(("tool",), "/tmp", Io.PIPES))
        path = f"{tool.parent}:/bin"
        await link.start(StartPlan(("tool",), "/tmp", Io.PIPES, {"PATH": path}))
        assert await output(link) == b"found\n"
        await link.start(StartPlan(("bin/tool",), str(tmp_path), Io.PIPES))
        assert await output(link, offset=6) == b"found\n"


async def test_a_second_child_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        first = await link.start(shell("cat"))
        with pytest.raises(StartFailed, match="stop it first"):
            await link.start(shell("cat"))
        assert (await link.status()).pid == first.pid


async def test_one_holder_runs_child_after_child_in_one_log(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        for run in (1, 2, 3):
            started = await link.start(shell(f"echo run {run}; exit {run}"))
            assert started.run == run
            assert started.offsets[Stream.OUT] == 6 * (run - 1)
            assert await output(link, offset=started.offsets[Stream.OUT]) == b"run %d\n" % run
            assert (await link.wait_exit()).code == run
            record = json.loads((folder / "exit.json").read_text())
            assert (record["run"], record["code"], record["signal"]) == (run, run, None)
        assert await output(link) == b"run 1\nrun 2\nrun 3\n"


async def test_a_reader_ends_where_its_run_ended_though_the_child_runs_again(
    tmp_path: Path,
) -> None:
    async with holder(tmp_path / "s") as link:
        size = 5_000_000  # more than fits between the reader and the holder
        await link.start(python(f"print('x' * {size - 1})"))
        reader = link.read(Stream.OUT, 0)
        first = await anext(reader)
        await link.wait_exit()
        started = await link.start(shell("echo next; cat"))
        assert started.offsets[Stream.OUT] == size
        await until(link, b"next")
        with anyio.fail_after(SOON):
            rest = b"".join([chunk.data async for chunk in reader])
        assert first.data + rest == b"x" * (size - 1) + b"\n"


async def test_a_reader_may_come_before_the_first_start(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link, anyio.create_task_group() as tasks:
        seen: list[bytes] = []

        async def read() -> None:
            seen.append(await output(link))

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        await link.start(shell("echo here"))
        await link.wait_exit()
    assert seen == [b"here\n"]


async def test_meta_names_holder_and_child_by_pid_and_start(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        before = meta(folder)
        assert (before["holder_pid"], before["child_pid"], before["run"]) == (
            link.holder_pid,
            None,
            0,
        )
        status = await link.start(shell("cat"))
        found = meta(folder)
        assert found["child_pid"] == status.pid
        assert found["child_start_ticks"] == status.start_ticks
        assert found["argv"] == ["/bin/sh", "-c", "cat"]
        assert (found["protocol"], found["session_id"], found["run"]) == (1, "s", 1)


async def test_a_signal_that_ended_the_child_is_told_apart_from_a_code(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        status = await link.start(shell("cat"))
        await link.signal(signal.SIGSTOP)
        await link.signal(signal.SIGCONT)
        await link.signal(signal.SIGTERM)
        with anyio.fail_after(SOON):
            exit = await link.wait_exit()
        assert (exit.code, exit.signal) == (None, signal.SIGTERM)
        await link.signal(signal.SIGTERM)  # gone: no error
        after = await link.status()
        assert (after.pid, after.start_ticks, after.exit) == (None, None, exit)
        assert status.pid is not None


@pytest.mark.parametrize("io", Io)
async def test_all_that_was_written_before_the_exit_is_in_the_log_when_it_is_told(
    tmp_path: Path, io: Io
) -> None:
    async with holder(tmp_path / "s") as link:
        for _ in range(20):
            before = (await link.status()).offsets[Stream.OUT]
            await link.start(python("import os; os.write(1, b'x' * 50_000)", io))
            with anyio.fail_after(SOON):
                await link.wait_exit()
            assert (await link.status()).offsets[Stream.OUT] == before + 50_000


def output_of(pid: int | None) -> BinaryIO:
    """Another writer of a process's output."""
    return open(f"/proc/{pid}/fd/1", "wb")


async def test_a_stranger_that_keeps_the_pipe_open_does_not_hide_the_exit(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        status = await link.start(shell("read x; echo last"))
        with output_of(status.pid):
            await link.write(b"\n", 1)
            with anyio.fail_after(SOON):
                await link.wait_exit()
            assert await output(link) == b"last\n"


async def test_a_program_that_leaves_its_terminal_for_a_while_keeps_it(tmp_path: Path) -> None:
    program = (
        "import os, time, tty\n"
        "print('up', flush=True)\n"
        "[os.close(fd) for fd in range(3)]\n"
        "time.sleep(0.3)\n"
        "fd = os.open('/dev/tty', os.O_RDWR)\n"
        "os.write(fd, b'back ' + os.read(fd, 100))\n"
    )
    async with holder(tmp_path / "s") as link:
        await link.start(python(program, Io.PTY))
        await until(link, b"up")
        await link.write(b"again\n", 1)
        assert b"back again" in await output(link)


async def test_what_the_child_leaves_behind_when_it_ends_by_itself_is_ended_too(
    tmp_path: Path,
) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(
            shell("setsid sleep 1000 & echo $!; (setsid sleep 1000 & echo $!); read x")
        )
        pids = processes(await until(link, b"\n", times=2))
        await link.write(b"\n", 1)
        with anyio.fail_after(SOON):
            await link.wait_exit()
        assert alive(pids) == []
        assert descendants_of(link.holder_pid) == []


_CLIENT = """
import anyio, sys
from relay_runtime.contract import Io, StartPlan
from relay_runtime.holder_link import launch

async def main():
    async with launch(sys.argv[1], "s", {"PATH": "/usr/bin:/bin"}) as link:
        await link.start(StartPlan(("/bin/sh", "-c", sys.argv[2]), "/tmp", Io.PIPES))
        assert await link.write(b"first\\n", 1)
        print(link.holder_pid, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


def start_and_kill_a_supervisor(folder: Path, script: str) -> int:
    """Runs `_CLIENT` until it has written once, kills it with -9, returns the holder's pid."""
    command = [sys.executable, "-c", _CLIENT, str(folder), script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        supervisor.kill()
    return pid


async def test_holder_and_child_survive_kill_9_of_their_supervisor(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    script = 'while read line; do echo "got $line"; done; echo unheard; exit 7'
    holder_pid = start_and_kill_a_supervisor(folder, script)
    async with connect(str(folder)) as link:
        status = await link.status()
        assert (status.holder_pid, status.run, status.applied_seq) == (holder_pid, 1, 1)
        assert status.pid is not None
        assert await link.write(b"first, again\n", 1) is False
        assert await link.write(b"second\n", 2) is True
        await link.close_input()
    # Nobody is connected while it ends.
    async with connect(str(folder)) as link:
        with anyio.fail_after(SOON):
            assert (await link.wait_exit()).code == 7
        assert await output(link) == b"got first\ngot second\nunheard\n"
        assert await output(link, offset=10) == b"got second\nunheard\n"
        await link.quit()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def zombies_of_ours() -> list[int]:
    return [stat.pid for stat in scan() if stat.parent == os.getpid() and stat.state == "Z"]


async def test_the_holder_is_nobodys_zombie_and_ends_only_when_told(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        assert parent_of(link.holder_pid) != os.getpid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            os.kill(link.holder_pid, number)
        status = await link.start(shell("cat"))
        assert status.pid is not None
        await link.stop(NOW)
        pid = processes(b"%d" % link.holder_pid)
        await link.quit()
        assert alive(pid) == []
        with pytest.raises(HarnessGone):
            await link.status()
        with pytest.raises(HarnessGone, match="no holder serves"):
            async with connect(str(folder)):
                pass
    assert zombies_of_ours() == []
