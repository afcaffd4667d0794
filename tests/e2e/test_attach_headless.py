"""The transcript of a headless session: a person reads along, and writes to the real agent."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from .fleets import real_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pexpect

    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.fleet import Fleet

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


@contextmanager
def attached(fleet: Fleet, *arguments: str) -> Iterator[pexpect.spawn[str]]:
    # Claude has no interface that could be opened on a headless session: this is what comes.
    wanted = [] if "claude" in arguments else ["--transcript"]
    terminal = fleet.terminal("attach", *wanted, *arguments)
    try:
        yield terminal
    finally:
        terminal.close(force=True)


async def shows(terminal: pexpect.spawn[str], *texts: str) -> None:
    """Wait until each was written, in this order; says where the cursor is, as terminals do."""

    def wait(text: str) -> None:
        while terminal.expect([text, r"\x1b\[6n"]):
            terminal.send("\x1b[20;1R")

    for text in texts:
        await anyio.to_thread.run_sync(wait, text)


async def test_a_person_reads_along_and_writes_to_the_agent(
    headless_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(headless_cli, tmp_path) as session:
        session.model.script("before you came", {"shell": "echo from-the-tool"}, "now as well")
        session.check_delivered(await session.fleet.final(await session.send("FIRST-1")))
        await session.idle()
        with attached(session.fleet, session.name) as terminal:
            await shows(terminal, "before you came", "turn completed", "idle")
            terminal.sendline("please do SECOND-2")
            await shows(terminal, r"message \d+ delivered", "echo from-the-tool", "now as well")
            await shows(terminal, "turn completed")
            terminal.sendcontrol("d")
            await shows(terminal, f"left {session.name}")
        await session.idle()
        session.check_in_context(["FIRST-1", "SECOND-2"])


async def test_who_may_only_look_sends_nothing_and_the_end_of_the_session_ends_it(
    headless_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(headless_cli, tmp_path) as session:
        with attached(session.fleet, session.name, "--read-only") as terminal:
            await shows(terminal, "read-only")
            terminal.sendline("please do MISCHIEF")
            await session.send("GOOD-1")
            await shows(terminal, r"message \d+ delivered", "turn completed")
            await session.idle()
            await session.fleet.order(session.name, "release")
            await shows(terminal, "released", f"left {session.name}")
        assert session.model.requests.occurrences("MISCHIEF") == 0


async def test_it_reads_on_when_the_supervisor_was_killed_and_another_one_came(
    headless_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(headless_cli, tmp_path) as session:
        with attached(session.fleet, session.name) as terminal:
            await shows(terminal, "idle")
            session.fleet.kill()
            await session.fleet.up()
            await session.send("AFTER-1")
            await shows(terminal, r"message \d+ delivered", "turn completed")
            terminal.send("\x1c\x04")
            await shows(terminal, f"left {session.name}")


async def test_without_a_terminal_the_transcript_is_lines_of_text(
    headless_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(headless_cli, tmp_path) as session:
        session.model.script({"shell": "echo from-the-tool"}, "the answer", "and again")
        session.check_delivered(await session.fleet.final(await session.send("FIRST-1")))
        await session.idle()
        async with session.fleet.process("attach", session.name) as process:
            assert process.stdout is not None
            said = ""
            with anyio.fail_after(60):
                while "the answer" not in said:
                    said += (await process.stdout.receive()).decode()
                await session.send("SECOND-2")
                while "and again" not in said:
                    said += (await process.stdout.receive()).decode()
                await session.fleet.order(session.name, "release")
                said += b"".join([data async for data in process.stdout]).decode()
                assert await process.wait() == 0
        assert "from-the-tool" in said and "released" in said and "\x1b" not in said
