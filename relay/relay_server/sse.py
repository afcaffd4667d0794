"""The event log as a stream of server-sent events that resumes from a cursor.

Nothing is pushed into a queue per subscriber: a stream is woken, reads the log from its own cursor and
writes. So there is no gap, a slow reader only lags, and what it holds of our memory is one page.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import dropwhile, islice
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response

from .hub import EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from relay_client.types import RelayEvent

    from .hub import Hub
    from .store import Store

# Proxies close a connection that is silent for 30 to 60 seconds.
HEARTBEAT_S = 15.0
# A reader that takes nothing for this long is gone, or would be better off resuming.
SEND_TIMEOUT_S = 20.0
# Events read and written at once; at some 400 bytes each about a socket buffer.
PAGE = 128
# Shared by all streams, so that a hundred of them read and encode each new event once.
TAIL = 1024
# How long a browser waits before it connects again, in milliseconds.
RETRY_MS = 1000


@dataclass(frozen=True, slots=True)
class Frame:
    """One event, encoded; `audience` are the agents it is for or about."""

    seq: int
    audience: frozenset[str]
    data: bytes


class Tail:
    """The newest part of the event log, encoded."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frames: deque[Frame] = deque(maxlen=TAIL)

    def after(self, cursor: int) -> list[Frame]:
        """The next page of the log after `cursor`."""
        frames = self._frames
        if not frames or cursor > frames[-1].seq:
            frames.clear()  # nobody has read for a while: the tail begins where somebody reads now
            frames.extend(self._read(cursor))
            return list(frames)
        if cursor < frames[0].seq - 1:
            return self._read(cursor)
        if cursor == frames[-1].seq:
            frames.extend(self._read(cursor))
        behind = dropwhile(lambda frame: frame.seq <= cursor, frames)
        return list(islice(behind, PAGE))

    def _read(self, cursor: int) -> list[Frame]:
        return [encode(event) for event in self._store.events(cursor, PAGE)]


def encode(event: RelayEvent) -> Frame:
    """`event` as it stands in the stream."""
    audience = {event.agent_id, event.data.get("from")}
    recipients = event.data.get("recipients")
    if isinstance(recipients, list):
        audience.update(name for name in recipients if isinstance(name, str))
    text = f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
    names = frozenset(name for name in audience if isinstance(name, str))
    return Frame(event.seq, names, text.encode())


class EventStream(Response):
    """Streams the log after `cursor`; with `agent_id` only what is for, from or about that agent."""

    media_type = "text/event-stream"

    def __init__(self, tail: Tail, hub: Hub, cursor: int, agent_id: str | None) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._tail = tail
        self._hub = hub
        self._cursor = cursor
        self._agent_id = agent_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs until the client goes, takes nothing for `SEND_TIMEOUT_S`, or the hub closes."""
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
            if await self._pump(send):
                await send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()

    async def _pump(self, send: Send) -> bool:
        """False when the reader is too slow: then the stream is cut, and it resumes if it lives."""
        with self._hub.watch(EVENTS) as watch:
            if not await _write(send, f"retry: {RETRY_MS}\n".encode() + self._mark()):
                return False
            while not self._hub.closed:
                frames = self._tail.after(self._cursor)
                if frames:
                    self._cursor = frames[-1].seq
                    chunk = self._chosen(frames)
                elif await watch.wait(HEARTBEAT_S) or self._hub.closed:
                    continue
                else:
                    chunk = b": alive\n" + self._mark()
                if not await _write(send, chunk):
                    return False
        return True

    def _mark(self) -> bytes:
        """Moves the client's cursor without an event, so that it resumes here."""
        return f"id: {self._cursor}\n\n".encode()

    def _chosen(self, frames: Sequence[Frame]) -> bytes:
        wanted = self._agent_id
        return b"".join(
            frame.data for frame in frames if wanted is None or wanted in frame.audience
        )


async def _write(send: Send, chunk: bytes) -> bool:
    await anyio.lowlevel.checkpoint()  # `send` does not yield while the socket takes everything
    if not chunk:
        return True
    with anyio.move_on_after(SEND_TIMEOUT_S) as timeout:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    return not timeout.cancelled_caught


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # the rest of a request body that nobody wants
    scope.cancel()


__all__ = ["EventStream", "Tail"]
