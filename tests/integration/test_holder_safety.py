"""Who may talk to a holder, what it keeps to itself, and what it takes to bring it down: nothing."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import HarnessGone, Io, StartFailed, StartPlan, Stream
from relay_runtime.holder import wire
from relay_runtime.holder.client import HELLO_S, MAX_QUEUE, STALL_S, Client, Gone
from relay_runtime.holder.server import MAX_CLIENTS
from relay_runtime.holder_link import (
    HolderIncompatible,
    HolderRefused,
    connect,
    launch,
)
from relay_runtime.holder_process import holder_command

from .holders import ENVIRON, NOW, SOON, Raw, end, holder, meta, output, shell, until

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.holder_link import HolderLink

pytestmark = pytest.mark.anyio

SECRET = "xyzzy-plugh-31337"


def resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


async def test_it_is_small_and_ready_at_once(tmp_path: Path) -> None:
    async with holder(tmp_path / "first"):
        pass  # the first one after a change also compiles
    begin = time.perf_counter()
    async with holder(tmp_path / "s") as link:
        ready_ms = (time.perf_counter() - begin) * 1000
        fresh = resident_kb(link.holder_pid)
        await link.start(shell("echo up; cat", Io.PTY))
        await until(link, b"up")
        used = resident_kb(link.holder_pid)
        sys.stdout.write(f"\nready after {ready_ms:.0f} ms; {fresh} kB, with a PTY {used} kB\n")
        assert used <= 12 * 1024


def test_it_keeps_nothing_open_of_whoever_started_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as inherited:
        os.set_inheritable(writer, True)
        done = subprocess.run(
            holder_command(str(tmp_path)),
            input=json.dumps({"session_id": "s", "environ": {}}).encode(),
            env={},
            close_fds=False,
            capture_output=True,
            check=True,
            timeout=SOON,
        )
        os.close(writer)
        assert inherited.read() == b"", "the last writer is gone"
    assert json.loads(done.stdout)["ready"]
    anyio.run(end, tmp_path)


async def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        with pytest.raises(StartFailed, match="another holder owns"):
            async with launch(str(folder), "s", ENVIRON):
                pass
        assert (await link.status()).holder_pid == link.holder_pid
        os.kill(link.holder_pid, 9)
        with pytest.raises(HarnessGone):
            with anyio.fail_after(SOON):
                while True:
                    await link.status()
        async with holder(folder) as heir:
            assert heir.holder_pid != link.holder_pid


async def test_a_path_of_any_length_will_do(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50) / "s"
    async with holder(folder) as link:
        await link.start(shell("echo up"))
        assert await output(link) == b"up\n"


async def test_only_the_user_can_open_anything_of_a_session(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir(mode=0o755)
    mask = os.umask(0)
    try:
        async with holder(folder) as link:
            await link.start(shell("echo out; echo err >&2"))
            await link.hook("{}")
            await link.wait_exit()
            for path, mode in modes(folder).items():
                assert mode & 0o077 == 0, f"{path} is open to others: {mode:o}"
            assert stat.S_IMODE(modes(folder)["holder.sock"]) == 0o600
    finally:
        os.umask(mask)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_mode for path in folder.rglob("*")} | {
        ".": folder.stat().st_mode
    }


async def test_secrets_are_in_memory_only(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder, ENVIRON | {"TOKEN": SECRET}) as link:
        plan = StartPlan(("/bin/sh", "-c", "echo $TOKEN $MORE | wc -c"), "/tmp", Io.PTY)
        overlay = {"MORE": SECRET + "-more"}
        await link.remember({"password": SECRET + "-memo"})
        await link.start(StartPlan(plan.argv, plan.cwd, plan.io, overlay))
        await link.wait_exit()
        assert b"41" in await output(link)
        assert dict((await link.status()).memo) == {"password": SECRET + "-memo"}
        assert (await link.environ())["TOKEN"] == SECRET
        secret = SECRET.encode()
        assert not [path for path, text in contents(folder).items() if secret in text]
        for name in ("cmdline", "environ"):
            assert secret not in contents_of(f"/proc/{link.holder_pid}/{name}")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def test_a_memo_is_merged_and_bounded(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.remember({"a": "1", "b": "1"})
        await link.remember({"b": "2"})
        assert dict((await link.status()).memo) == {"a": "1", "b": "2"}
        with pytest.raises(HolderRefused, match="may hold"):
            await link.remember({"c": "x" * 70_000})
        assert dict((await link.status()).memo) == {"a": "1", "b": "2"}


async def test_another_user_is_turned_away_though_the_doors_are_open(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    folder = tmp_path / "s"
    async with holder(folder) as link:
        open_all_doors(folder)
        answer = await anyio.to_thread.run_sync(said_to_nobody, folder / "holder.sock")
        assert b"belongs to another user" in answer
        assert SECRET.encode() not in answer
        assert (await link.status()).run == 0


def open_all_doors(folder: Path) -> None:
    (folder / "holder.sock").chmod(0o777)
    while folder != folder.parent:
        folder.chmod(0o777 if folder.name == "s" else 0o755)
        folder = folder.parent
        if folder.name == "tmp":
            break


def said_to_nobody(path: Path) -> bytes:
    """What a process of user `nobody` is told."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                with suppress(BrokenPipeError):
                    sock.sendall(wire.hello())
                while data := sock.recv(4096):
                    os.write(write, data)
        except OSError as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as said:
        return said.read()


READ_ONLY_REFUSES: list[tuple[str, dict[str, object]]] = [
    ("start", {"plan": {"argv": ["true"], "cwd": "/", "io": "pipes"}}),
    ("stop", {}),
    ("signal", {"signum": 9}),
    ("resize", {"rows": 1, "cols": 1}),
    ("close_input", {}),
    ("environ", {}),
    ("memo", {"set": {}}),
    ("hook", {"line": "{}"}),
    ("quit", {}),
]


async def test_a_read_only_client_can_look_and_not_touch(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.remember({"password": SECRET})
        await link.start(shell("cat"))
        with Raw(folder, wire.hello(read_only=True)) as raw:
            for op, arguments in READ_ONLY_REFUSES:
                error = raw.ask(op, **arguments)["error"]
                assert isinstance(error, dict) and error["code"] == "read_only", op
            raw.send(wire.encode_input(1, b"typed"))
            assert wire.decode_ack(raw.next().payload)[1] == wire.REFUSED
            status = raw.ask("query")["ok"]
            assert isinstance(status, dict) and status["run"] == 1
            assert "memo" not in status
            assert "ok" in raw.ask("attach", stream="out", offset=0)
        assert (await link.status()).applied_seq == 0


async def test_ten_thousand_starts_of_garbage_do_no_harm(tmp_path: Path) -> None:
    folder, dice = tmp_path / "s", random.Random(20)
    async with holder(folder) as link:
        await link.start(shell("cat"))
        await anyio.to_thread.run_sync(throw_garbage, folder, dice, 10_000)
        # A changed request may have become a proper input: its number counts like any other.
        following = (await link.status()).applied_seq + 1
        assert await link.write(b"still here\n", following) is True
        await until(link, b"still here")
        assert await fault(folder) is None
        assert len(os.listdir(f"/proc/{link.holder_pid}/fd")) < 40


def throw_garbage(folder: Path, dice: random.Random, times: int) -> None:
    frames = [wire.hello(), wire.encode_json(wire.REQUEST, {"id": 1, "op": "query"})]
    for _ in range(times):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(folder / "holder.sock"))
            data = dice.randbytes(dice.randrange(1, 60))
            kind = dice.randrange(4)
            if kind == 1:  # behind a proper hello
                data = frames[0] + data
            elif kind == 2:  # a proper frame, somewhere changed
                broken = bytearray(b"".join(frames))
                broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
                data = bytes(broken)
            elif kind == 3:  # the right frame with the wrong content
                data = frames[0] + wire.encode(dice.randrange(1, 9), data)
            with suppress(BrokenPipeError, ConnectionResetError):  # refused half way through
                sock.sendall(data)


async def fault(folder: Path) -> object:
    """What the holder itself stumbled over, if anything."""
    with Raw(folder, wire.hello()) as raw:
        status = raw.ask("query")["ok"]
        assert isinstance(status, dict)
        return status["fault"]


WRONG_REQUESTS: list[dict[str, object]] = [
    {"op": "nonsense"},
    {"op": "__class__"},
    {},
    {"op": None},
    {"op": ["start"]},
    {"op": "attach", "stream": "in", "offset": 0},
    {"op": "attach", "stream": "out", "offset": -1},
    {"op": "attach", "stream": "out", "offset": "0"},
    {"op": "attach", "stream": "out", "offset": True},
    {"op": "attach", "stream": "out", "offset": 0, "run": 99},
    {"op": "attach", "stream": "out", "offset": 0, "run": {}},
    {"op": "start"},
    {"op": "start", "plan": []},
    {"op": "start", "plan": {"argv": "sh", "cwd": "/", "io": "pty"}},
    {"op": "start", "plan": {"argv": [], "cwd": "/", "io": "pty"}},
    {"op": "start", "plan": {"argv": ["a\0b"], "cwd": "/", "io": "pty"}},
    {"op": "start", "plan": {"argv": ["\ud800"], "cwd": "/", "io": "pty"}},
    {"op": "start", "plan": {"argv": ["true"], "cwd": "tmp", "io": "pty"}},
    {"op": "start", "plan": {"argv": ["true"], "cwd": "/", "io": "tty"}},
    {"op": "start", "plan": {"argv": ["true"], "cwd": "/", "io": "pty", "rows": 0}},
    {"op": "start", "plan": {"argv": ["true"], "cwd": "/", "io": "pty", "cols": 1 << 16}},
    {"op": "start", "plan": {"argv": ["true"], "cwd": "/", "io": "pipes", "env": {"A=B": "1"}}},
    {"op": "start", "plan": {"argv": ["true"], "cwd": "/", "io": "pipes", "env": {"A": 1}}},
    {"op": "stop", "drain_s": -1},
    {"op": "stop", "term_s": "1"},
    {"op": "signal", "signum": 0},
    {"op": "signal", "signum": 10_000},
    {"op": "signal", "signum": "TERM"},
    {"op": "resize", "rows": 10, "cols": 10},
    {"op": "memo", "set": {"a": 1}},
    {"op": "memo"},
    {"op": "hook", "line": "not json"},
    {"op": "hook", "line": "[]"},
    {"op": "hook", "line": '{"two":\n1}'},
    {"op": "hook", "line": json.dumps({"a": "x" * (1 << 20)})},
    {"op": "hook", "line": '{"\ud800": 1}'},
]


async def test_a_wrong_request_gets_a_clear_answer_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        with Raw(folder, wire.hello()) as raw:
            for request in WRONG_REQUESTS:
                raw.send(wire.encode_json(wire.REQUEST, {"id": 7, **request}))
                reply = wire.decode_json(raw.next().payload)
                error = reply["error"]
                assert isinstance(error, dict), request
                assert error["code"] != "internal", (request, error)
                assert error["message"] and "\n" not in error["message"], request
        status = await link.status()
        assert (status.run, dict(status.memo), status.offsets[Stream.HOOKS]) == (0, {}, 0)
        assert await fault(folder) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (wire.encode_json(wire.REQUEST, {"id": 1, "op": "query"}), "must be a hello"),
        (wire.encode_json(wire.HELLO, {"protocol": 9, "min": 5}), "no protocol in common"),
        (wire.encode_json(wire.HELLO, {}), "names no protocol"),
        (wire.encode(wire.HELLO, b"hello"), "not JSON"),
        (b"GET / HTTP/1.1\r\n\r\n", "no such frame"),
        (wire.hello() + wire.hello(), "does not send"),
        (wire.hello() + wire.encode(wire.INPUT, b"short"), "too short"),
    ],
)
async def test_who_does_not_speak_the_protocol_is_told_so(
    tmp_path: Path, data: bytes, message: str
) -> None:
    folder = tmp_path / "s"
    async with holder(folder):
        with Raw(folder) as raw:
            raw.send(data)
            error = raw.error()
            assert error["code"] == "protocol"
            assert message in str(error["message"])
            with pytest.raises(EOFError):
                raw.next()


async def test_a_client_of_the_future_is_welcome_as_long_as_it_speaks_the_old_way(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    future = wire.encode_json(wire.HELLO, {"protocol": 7, "min": 1, "shiny": {"new": True}})
    async with holder(folder):
        with Raw(folder, future) as raw:
            assert "ok" in raw.ask("query", sparkling=True)


async def test_a_holder_that_is_too_new_is_told_apart_from_one_that_is_gone(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "holder.sock"))
        listener.listen()

        def answer() -> None:
            with listener.accept()[0] as sock:
                sock.sendall(wire.encode_json(wire.HELLO, {"protocol": 9, "min": 8}))
                sock.recv(1000)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, answer)
            with pytest.raises(HolderIncompatible, match="of another version"):
                async with connect(str(tmp_path)):
                    pass


@pytest.mark.parametrize("what", ["nothing", "a socket nobody serves", "a file"])
async def test_where_no_holder_serves_a_clear_error_says_so(tmp_path: Path, what: str) -> None:
    if what == "a socket nobody serves":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "holder.sock"))
    elif what == "a file":
        (tmp_path / "holder.sock").write_text("")
    expected = HolderIncompatible if what == "a file" else HarnessGone
    with pytest.raises(expected, match=str(tmp_path)):
        async with connect(str(tmp_path)):
            pass


async def test_clients_beyond_the_bound_are_turned_away_and_the_others_stay(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        many = [Raw(folder, wire.hello()) for _ in range(MAX_CLIENTS - 1)]
        try:
            with Raw(folder) as late:
                assert late.error()["code"] == "busy"
            assert (await link.status()).run == 0
            many.pop().socket.close()
            with anyio.fail_after(SOON):
                async with connect(str(folder)):
                    pass
            with Raw(folder), pytest.raises(HolderRefused, match="clients are connected"):
                async with connect(str(folder)):
                    pass
        finally:
            for raw in many:
                raw.socket.close()


def test_a_client_that_takes_nothing_or_says_nothing_has_a_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        client = Client(ours, 100.0)
        assert client.deadline == 100.0 + HELLO_S
        client.greet({"protocol": 1, "min": 1})
        assert client.deadline is None
        client.put(b"x", 200.0)
        client.put(b"y", 205.0)
        assert client.deadline == 200.0 + STALL_S
        with pytest.raises(Gone):
            for _ in range(20):
                client.put(bytes(MAX_QUEUE // 10), 206.0)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "Expecting value"),
        (b"[]", "must be a JSON object"),
        (b'{"session_id": "", "environ": {}}', "session_id"),
        (b'{"session_id": "a\\nb", "environ": {}}', "session_id"),
        (b'{"session_id": "s", "environ": []}', "environ"),
        (b'{"session_id": "s", "environ": {"A": 1}}', "environ"),
        (b'{"session_id": "s", "environ": {}, "log_bytes": "1"}', "log_bytes"),
    ],
)
async def test_a_start_that_makes_no_sense_is_refused(
    tmp_path: Path, start: bytes, message: str
) -> None:
    done = await anyio.run_process(holder_command(str(tmp_path)), input=start, env={})
    word = json.loads(done.stdout)
    assert message in word["error"]
    assert os.listdir(tmp_path) == []


async def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(StartFailed, match="belongs to another user"):
        async with launch(str(tmp_path), "s", ENVIRON):
            pass


async def test_a_dropped_reader_comes_back_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(shell("echo one; read x; echo two; read x; echo three"))
        reader = link.read(Stream.OUT, 0)
        assert (await anext(reader)).data == b"one\n"
        drop_readers(link)
        await link.write(b"\n", 1)
        await link.write(b"\n", 2)
        with anyio.fail_after(SOON):
            assert b"".join([chunk.data async for chunk in reader]) == b"two\nthree\n"


def drop_readers(link: HolderLink) -> None:
    """Cut every connection of this process to the holder, as the holder does to one that stalls."""
    for name in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with sock:
            ours = sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM
            if (
                ours
                and sock.getpeername() == "holder.sock"
                and int(name) != link._connection._socket.fileno()
            ):
                sock.shutdown(socket.SHUT_RDWR)


async def test_a_holder_that_died_takes_its_terminal_along_and_says_who_was_there(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        status = await link.start(shell("echo up; cat", Io.PTY))
        await until(link, b"up")
        os.kill(link.holder_pid, 9)
        with anyio.fail_after(SOON), pytest.raises(HarnessGone):
            await link.wait_exit()
        assert meta(folder)["child_pid"] == status.pid
        await end(folder)
        with pytest.raises(HarnessGone):
            await link.stop(NOW)
