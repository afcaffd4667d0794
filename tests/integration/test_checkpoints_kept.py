"""The supervisor keeps the screen of a session at which nobody looks, before its log loses it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import pytest
from watchfiles import awatch

from relay_runtime.attach import checkpoint
from relay_runtime.attach.connection import watch
from relay_runtime.contract import Stream
from relay_runtime.holder_link import connect
from relay_runtime.screen import exact
from relay_runtime.testing.fleet import Fleet

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform"),
]

LOG_BYTES, BURST = 2_000_000, 100_000
#: Its first line is never written again; each key brings a burst.
PROGRAM = (
    r"stty raw -echo; printf '\033[?1049h\033]2;title\007stays\033[3;40r\033[3;1Hready> ';"
    rf" while true; do head -c 1 > /dev/null; yes 0123456789 | head -c {BURST};"
    r" printf '\r\nready> '; done"
)
SOON = 60.0


async def kept(folder: Path, offset: int) -> None:
    """Until the supervisor has kept the screen at this offset, or after it."""
    async for _ in awatch(folder, recursive=False, yield_on_timeout=True, rust_timeout=100):
        if checkpoint.newest(str(folder)) >= offset:
            return


async def test_the_screen_of_a_session_that_nobody_looks_at_is_whole_when_its_log_is_not(
    tmp_path: Path,
) -> None:
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    async with Fleet(tmp_path) as fleet:
        await fleet.up()
        session = await fleet.spawn(
            "command",
            argv=["sh", "-c", PROGRAM],
            environ=environ,
            options={"prompt": "ready> $"},
            limits={"log_bytes": LOG_BYTES},
        )
        folder = fleet.home / "sessions" / session["session_id"]
        async with connect(str(folder)) as link:
            for _ in range(3 * LOG_BYTES // BURST):
                end = (await link.status()).offsets[Stream.OUT]
                await link.write(b"x", 0)
                with anyio.fail_after(SOON):
                    async for chunk in link.read(Stream.OUT, end):
                        if chunk.offset + len(chunk.data) > end + BURST:
                            break
                    await kept(folder, end - LOG_BYTES // 2)
        assert not (folder / "log" / f"out-{0:020d}.log").exists()
        with watch(str(folder), read_only=True) as cast:
            assert cast.replay is not None
            assert cast.replay.screen.text()[0] == "stays"
            assert cast.replay.screen.title == "title" and cast.replay.screen.alternate
