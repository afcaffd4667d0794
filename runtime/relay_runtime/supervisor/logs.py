"""A session's raw output: from its holder while it has one, from the disk after that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contract import HarnessGone, Stream
from ..holder.log import Log
from ..holder_link import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def read_log(
    folder: str, stream: Stream, offset: int, *, follow: bool
) -> AsyncIterator[bytes]:
    """Bytes from `offset` (or the first that is left) to the end; `follow`: to the agent's end."""
    try:
        async with connect(folder) as holder:
            end = (await holder.status()).offsets.get(stream, 0)
            while follow or offset < end:
                async for chunk in holder.read(stream, offset):
                    offset = chunk.offset + len(chunk.data)
                    yield chunk.data
                    if not follow and offset >= end:
                        return
                if follow and (await holder.status()).exit is not None:
                    return
    except HarnessGone:
        for data in _on_disk(folder, stream, offset):
            yield data


def _on_disk(folder: str, stream: Stream, offset: int) -> Iterator[bytes]:
    """What is left of the log of a session that has ended. Read, never written."""
    log = Log(folder, stream.value, keep=0, segment=1)
    while offset < log.end and (piece := log.read(offset)).data:
        yield piece.data
        offset = piece.offset + len(piece.data)
