"""Starting the holder process, so that it outlives us and is never our zombie."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio
import ptyprocess

from . import holder
from .contract import StartFailed
from .holder import wire

#: From exec to ready. It takes 30 ms; a machine under heavy load may need seconds.
LAUNCH_S = 20.0


async def spawn(session_dir: str, start: wire.Json) -> None:
    """Run a holder with `start` on its stdin until it is ready. Raises `StartFailed`."""
    try:
        # Shielded: half way through, nobody would know whether there is a holder now.
        with anyio.fail_after(LAUNCH_S, shield=True):
            said, complaint = await _ask_to_start(session_dir, start)
    except TimeoutError:
        raise StartFailed(
            f"the holder for {session_dir} was not ready within {LAUNCH_S:.0f} s; "
            "see what keeps the machine busy and try again"
        ) from None
    try:
        word = wire.decode_json(said)
    except wire.WireError:
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise StartFailed(f"the holder for {session_dir} did not start: {last}") from None
    if "ready" not in word:
        raise StartFailed(str(word.get("error")))


async def _ask_to_start(session_dir: str, start: wire.Json) -> tuple[bytes, bytes]:
    """Its one line, or nothing and its last words. Not read to the end of the pipe: a process that
    the event loop forked meanwhile may have it open too."""
    process = await anyio.open_process(
        holder_command(session_dir),
        env={k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"},
        start_new_session=True,
    )
    async with process:
        assert process.stdin and process.stdout and process.stderr
        said = b""
        try:
            await process.stdin.send(json.dumps(start).encode())
            await process.stdin.aclose()
            while not said.endswith(b"\n"):
                said += await process.stdout.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return said, b"".join([part async for part in process.stderr])
        return said, b""


def holder_command(session_dir: str) -> list[str]:
    """The holder by path, in an isolated interpreter that sees only what the holder needs."""
    main = Path(holder.__file__).parent / "__main__.py"
    paths = dict.fromkeys([main.parents[2], Path(ptyprocess.__file__).parents[1]])
    isolated = ["-I", "-S", "-X", "utf8"]
    return [sys.executable, *isolated, str(main), session_dir, *map(str, paths)]
