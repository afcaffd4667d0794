"""The server process as its holder knows it: where it listens, and why it did not start."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from relay_runtime.contract import StartFailed, Stream

from .protocol import shown

if TYPE_CHECKING:
    from relay_runtime.contract import Holder

#: In the holder's memory, for whoever adopts the process: the password of this server, and where
#: the output of this run begins (earlier runs in the same log had other ports).
MEMO_PASSWORD, MEMO_OFFSET = "opencode.password", "opencode.offset"

_LISTENS = re.compile(rb"listening on (http://(?:127\.0\.0\.1|localhost|\[::1\]):\d+)\s")
#: Enough for the line however much is printed before it.
_KEPT_BYTES = 4096
#: Of what it said at its end, which may be its whole help text.
_LAST_BYTES = 8192


async def address(holder: Holder) -> str | None:
    """Base URL, once the server says that it listens: connections made earlier are never answered.

    None: it ended before.
    """
    memo = (await holder.status()).memo
    said = bytearray()
    chunks = holder.read(Stream.OUT, int(memo.get(MEMO_OFFSET, "0")))
    try:
        async for chunk in chunks:
            said += chunk.data
            if (found := _LISTENS.search(said)) is not None:
                return found[1].decode()
            del said[:-_KEPT_BYTES]
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    return None


async def did_not_start(holder: Holder) -> StartFailed:
    """What to raise when the process ended before it could take input."""
    status = await holder.status()
    offset = max(status.offsets.get(Stream.ERR, 0) - _LAST_BYTES, 0)
    said = bytearray()
    async for chunk in holder.read(Stream.ERR, offset):
        said += chunk.data
    ended = status.exit
    how = "ended"
    if ended is not None:
        how = f"exit status {ended.code}" if ended.signal is None else f"signal {ended.signal}"
    return StartFailed(
        f"opencode serve did not start ({how}): {_reason(said.decode(errors='replace'))}"
    )


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any("[boolean]" in line for line in lines):  # the help text, which is all it then says
        return "it does not know one of its arguments; see `opencode serve --help`"
    errors = [line for line in lines if "error" in line.lower()]
    return shown((errors or lines or ["it said nothing; see `opencode serve`"])[-1], 300)


__all__ = ["MEMO_OFFSET", "MEMO_PASSWORD", "address", "did_not_start"]
