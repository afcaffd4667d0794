"""The server's event stream, read without pause while the reader's owner does other things."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import httpx

from .protocol import decode
from .sse import EventParser, EventTooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from .api import Api
    from .protocol import Said

#: Batches read ahead, while the records are fetched or events are committed. Beyond it the server
#: keeps them.
MAX_UNREAD = 256

Batch = list["Said"]


class Listening:
    """A connected stream. Ends when the server closes it, falls silent, or after `hang_up`."""

    def __init__(self, batches: MemoryObjectReceiveStream[Batch]) -> None:
        self._batches = batches
        self._scope = anyio.CancelScope()

    def hang_up(self) -> None:
        """Read no more; what was read can still be taken."""
        self._scope.cancel()

    def arrived(self) -> Batch:
        """What has come so far, without waiting."""
        found: Batch = []
        try:
            while True:
                found += self._batches.receive_nowait()
        except (anyio.WouldBlock, anyio.EndOfStream):
            return found

    async def __aiter__(self) -> AsyncIterator[Sequence[Said]]:
        async for batch in self._batches:
            yield batch

    async def read(
        self, chunks: AsyncIterator[bytes], batches: MemoryObjectSendStream[Batch]
    ) -> None:
        """For `listen` only."""
        parser = EventParser()
        with batches, self._scope:
            try:
                async for chunk in chunks:
                    said = [decode(data) for data in parser.feed(chunk)]
                    if batch := [one for one in said if one is not None]:
                        await batches.send(batch)
            except (httpx.RequestError, EventTooLarge, anyio.BrokenResourceError):
                return  # the end of the stream, whatever its form


@asynccontextmanager
async def listen(api: Api) -> AsyncIterator[Listening]:
    """Connect. From the first line of this block on, nothing the server says is missed.

    Raises `ApiError` and `httpx.RequestError`.
    """
    failure: Exception | None = None
    async with api.events() as chunks:
        send, receive = anyio.create_memory_object_stream[Batch](MAX_UNREAD)
        listening = Listening(receive)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listening.read, chunks, send)
            with receive:
                try:
                    yield listening
                except Exception as error:  # noqa: BLE001 - raised below, not inside a group
                    failure = error
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


__all__ = ["Listening", "listen"]
