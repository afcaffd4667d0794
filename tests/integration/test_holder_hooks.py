"""Hooks of the agent, people at a terminal, and input in steps that neither can come between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import HarnessGone, Io, Stream, Typed
from relay_runtime.holder import hook as hook_program
from relay_runtime.holder import wire
from relay_runtime.holder_link import HolderRefused, launch

from .holders import ENVIRON, NOW, SOON, Raw, end, holder, shell, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from anyio.abc import Process

    from relay_runtime.contract import Json
    from relay_runtime.holder_link import HolderLink

pytestmark = pytest.mark.anyio

#: Shows every byte that it gets, as soon as it gets it.
RAW_CAT = shell("stty raw -echo; echo up; exec cat", Io.PTY)
LONG = 1_500  # milliseconds; a test that passes never waits it out


async def hooks(link: HolderLink, count: int) -> list[dict[str, Json]]:
    """The first lines of the hooks log."""
    seen = b""
    with anyio.fail_after(SOON):
        async for chunk in link.read(Stream.HOOKS, 0):
            seen += chunk.data
            if seen.count(b"\n") >= count:
                return [json.loads(line) for line in seen.splitlines()]
    raise AssertionError(f"the log ended: {seen!r}")


@asynccontextmanager
async def running_hook(folder: Path, mode: str, line: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-I", "-S", hook_program.__file__, f"{folder}/holder.sock", mode]
    async with await anyio.open_process(command) as process:
        assert process.stdin is not None
        await process.stdin.send(line.encode())
        await process.stdin.aclose()
        yield process


async def ended(process: Process) -> tuple[int, bytes, bytes]:
    assert process.stdout is not None and process.stderr is not None
    with anyio.fail_after(SOON):
        out = b"".join([piece async for piece in process.stdout])
        err = b"".join([piece async for piece in process.stderr])
        return await process.wait(), out, err


def person(folder: Path, name: str = "pts/9") -> Raw:
    return Raw(folder, wire.hello(person=name))


def press(raw: Raw, keys: bytes) -> int:
    """The result of the ACK."""
    raw.send(wire.encode_input(0, keys))
    while (frame := raw.next()).kind != wire.ACK:
        pass
    return wire.decode_ack(frame.payload)[1]


async def test_steps_arrive_in_order_and_what_people_type_meanwhile_after_them(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link, anyio.create_task_group() as tasks:
        await link.start(RAW_CAT)
        await until(link, b"up")
        typed = anyio.Event()

        async def type_it() -> None:
            steps = [("<paste>", 1500), ("<enter>", 0)]
            assert await link.type(steps, 3, hooks=0, quiet_s=1.0) is Typed.TYPED
            typed.set()

        tasks.start_soon(type_it)
        await until(link, b"<paste>")
        with person(folder) as raw:
            assert press(raw, b"human") == wire.TAKEN
        seen = await until(link, b"human")
        assert seen.replace(b"\r\n", b"\n").removeprefix(b"up\n") == b"<paste><enter>human"
        with anyio.fail_after(SOON):
            await typed.wait()
        assert await link.type([("again", 0)], 3, hooks=10**9, quiet_s=0) is Typed.REPEATED
        assert await link.write(b"!", 3) is False


async def test_typing_does_not_begin_under_a_hook_or_a_person_that_was_there_first(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        await until(link, b"up")
        await link.hook("{}")
        assert await link.type([("a", 0)], 1, hooks=0, quiet_s=0) is Typed.CHANGED
        assert await link.type([("b", 0)], 1, hooks=3, quiet_s=0) is Typed.TYPED
        with person(folder) as raw:
            press(raw, b"\x1b[?62c")  # an answer of the terminal
            assert await link.type([("c", 0)], 2, hooks=3, quiet_s=60) is Typed.TYPED
            press(raw, b"x")
            offset = (await link.status()).offsets[Stream.HOOKS]
            assert await link.type([("d", 0)], 3, hooks=3, quiet_s=60) is Typed.CHANGED
            assert await link.type([("e", 0)], 3, hooks=offset, quiet_s=60) is Typed.HUMAN
            assert await link.type([("f", 0)], 3, hooks=offset, quiet_s=0) is Typed.TYPED
        seen = await until(link, b"f")
        assert seen.removeprefix(b"up\r\n").removeprefix(b"up\n") == b"b\x1b[?62ccxf"


async def test_typing_goes_on_when_the_one_who_asked_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        await until(link, b"up")
        with Raw(folder, wire.hello()) as raw:
            request = {"id": 1, "op": "type", "seq": 1, "hooks": 0, "quiet_s": 0}
            steps = [["<paste>", 1500], ["<enter>", 0]]
            raw.send(wire.encode_json(wire.REQUEST, request | {"steps": steps}))
            await until(link, b"<paste>")
        assert b"<paste><enter>" in await until(link, b"<enter>")


async def test_a_hook_is_answered_only_when_typing_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link, anyio.create_task_group() as tasks:
        await link.start(RAW_CAT)
        await until(link, b"up")
        order: list[str] = []

        async def type_it() -> None:
            await link.type([("<paste>", 1000), ("<enter>", 0)], 1, hooks=0, quiet_s=0)
            order.append("typed")

        tasks.start_soon(type_it)
        await until(link, b"<paste>")
        assert await link.hook('{"hook":1}') == 0
        order.append("hook")
        assert b"<enter>" in await until(link, b"<enter>")
        assert order == ["typed", "hook"]


async def test_typing_ends_with_the_child(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link, anyio.create_task_group() as tasks:
        await link.start(RAW_CAT)
        await until(link, b"up")
        failed = anyio.Event()

        async def type_it() -> None:
            with pytest.raises(HarnessGone):
                await link.type([("a", LONG), ("b", 0)], 1, hooks=0, quiet_s=0)
            failed.set()

        tasks.start_soon(type_it)
        await until(link, b"a")
        await link.stop(NOW)
        with anyio.fail_after(SOON):
            await failed.wait()
        with pytest.raises(HarnessGone):
            await link.type([("c", 0)], 2, hooks=0, quiet_s=0)


@pytest.mark.parametrize("steps", [[], [("a", -1)], [("a", 3000)]])
async def test_steps_that_make_no_sense_are_refused(
    tmp_path: Path, steps: list[tuple[str, int]]
) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(RAW_CAT)
        with pytest.raises(HolderRefused, match=r"step|pause"):
            await link.type(steps, 1, hooks=0, quiet_s=0)


async def test_who_typed_what_kind_of_input_is_in_the_log_and_never_what(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        await until(link, b"up")
        began = time.time()
        with person(folder) as raw, person(folder, "pts/3") as other:
            press(raw, b"secret")
            press(raw, b"more")
            press(raw, b"\r")
            press(other, b"\x03")
        await link.write(b"ours", 1)
        lines = await hooks(link, 3)
        assert [(line["client"], line["kind"]) for line in lines] == [
            ("pts/9", "text"),
            ("pts/9", "submit"),
            ("pts/3", "interrupt"),
        ]
        assert all(line["holder"] == "input" for line in lines)
        assert all(began - 1 <= float(str(line["at"])) <= time.time() for line in lines)
        assert "secret" not in json.dumps(lines)


async def test_a_hook_program_posts_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        async with running_hook(
            folder, "post", '{"hook_event_name": "Stop",\n "x": "é\\n"}'
        ) as run:
            assert await ended(run) == (0, b"", b"")
        (line,) = await hooks(link, 1)
        assert (line["mode"], line["hook_event_name"], line["x"]) == ("post", "Stop", "é\n")
        assert isinstance(line["pid"], int)


async def test_a_hook_that_asks_prints_the_answer(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        async with running_hook(folder, "ask", "{}") as run:
            await hooks(link, 1)
            assert await link.answer_hook(7, "x") is False
            assert await link.answer_hook(0, '{"decision": "é"}') is True
            assert await ended(run) == (0, '{"decision": "é"}'.encode(), b"")
        assert await link.answer_hook(0, "again") is False


async def test_a_waker_is_woken_once_and_a_newer_one_lets_it_go(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        async with running_hook(folder, "wake", "{}") as old:
            await hooks(link, 1)
            async with running_hook(folder, "wake", "{}") as new:
                assert await ended(old) == (0, b"", b"")
                offset = (await link.status()).offsets[Stream.HOOKS] // 2
                assert await link.answer_hook(offset, "wake up") is True
                assert await ended(new) == (2, b"", b"wake up")


async def test_a_hook_that_was_killed_cannot_be_answered(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        async with running_hook(folder, "ask", "{}") as run:
            await hooks(link, 1)
            run.kill()
            await run.wait()
            assert await link.answer_hook(0, "x") is False


async def test_waiting_hooks_are_let_go_when_the_child_ends(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        async with running_hook(folder, "wake", "{}") as run:
            await hooks(link, 1)
            await link.stop(NOW)
            assert await ended(run) == (0, b"", b"")


@pytest.mark.parametrize("line", ["", "no json", "[1]"])
async def test_what_is_no_hook_is_not_posted_and_disturbs_nobody(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        async with running_hook(folder, "post", line) as run:
            assert await ended(run) == (0, b"", b"")
        assert (await link.status()).offsets[Stream.HOOKS] == 0


async def test_a_hook_without_a_holder_lets_the_agent_go_on(tmp_path: Path) -> None:
    async with running_hook(tmp_path / "none", "ask", "{}") as run:
        assert await ended(run) == (0, b"", b"")


async def test_a_hook_that_is_too_long_is_posted_with_its_texts_cut(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    line = json.dumps({"hook_event_name": "PostToolUse", "tool_response": "x" * 3_000_000})
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        async with running_hook(folder, "post", line) as run:
            assert await ended(run) == (0, b"", b"")
        (posted,) = await hooks(link, 1)
        assert posted["hook_event_name"] == "PostToolUse"
        assert 1000 < len(str(posted["tool_response"])) < 1_000_000


async def test_what_is_told_reaches_those_who_look_now_and_later(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        with Raw(folder, wire.hello(read_only=True)) as raw:
            raw.ask("screen")
            await link.tell("2 messages wait")
            await link.tell("2 messages wait")
            frame = raw.next()
            assert wire.decode_json(frame.payload) == {"event": "told", "text": "2 messages wait"}
            answer = raw.ask("screen")["ok"]
            assert isinstance(answer, dict) and answer["told"] == "2 messages wait"
            await link.tell(None)
            assert wire.decode_json(raw.next().payload) == {"event": "told", "text": None}


async def test_a_view_ends_by_itself_after_its_last_viewer(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    try:
        async with launch(str(folder), "s", ENVIRON, leave_s=0.2) as link:
            await link.start(shell("trap '' TERM HUP; echo up; while :; do sleep 9; done", Io.PTY))
            with Raw(folder, wire.hello(read_only=True)) as raw:
                raw.ask("attach", stream="out", offset=0)
                await until(link, b"up")  # somebody else who looked and went
                assert (await link.status()).pid is not None
            process = os.pidfd_open(link.holder_pid)
            with anyio.fail_after(SOON):
                assert (await link.wait_exit()).signal is not None
                await anyio.wait_readable(process)
            os.close(process)
        assert not (folder / "holder.sock").exists()
    finally:
        await end_if_left(folder)


async def end_if_left(folder: Path) -> None:
    if (folder / "holder.sock").exists():
        await end(folder)


def test_a_hook_starts_in_a_few_milliseconds_more_than_the_interpreter() -> None:
    """What it imports decides; the time itself is in the bench."""
    command = [
        sys.executable,
        "-I",
        "-S",
        "-X",
        "importtime",
        hook_program.__file__,
        "/x/y",
        "post",
    ]
    done = subprocess.run(command, input=b"{}", capture_output=True, check=True, timeout=SOON)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "_socket" in imported
    assert not imported & {"json", "os", "socket", "re", "site", "typing"}
