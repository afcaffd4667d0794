"""JSON-RPC with an app-server: one connection over its unix socket, any number of calls at once.

    async with connect(path) as peer:
        await peer.call("initialize", {...})
        while batch := await peer.batch(): ...

Codex speaks JSON-RPC 2.0 without the `jsonrpc` member, one message to a websocket frame.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from relay_runtime.contract import DriverError, HarnessGone, Json

from .read import Obj, number, obj, sub, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from .approvals import RpcId

#: Codex answers in milliseconds; seconds are a machine under load, more is a process that hangs.
CALL_S: Final = 30.0
#: To connect and shake hands, of which the server's part takes a millisecond.
OPEN_S: Final = 10.0
#: Nothing has to be said when a connection ends, so do not wait for the other side.
CLOSE_S: Final = 0.1
#: One frame: a page of items, each at most a few MB (its input limit is 1 MiB of characters).
MAX_FRAME: Final = 256 * 1024 * 1024
#: Messages that may wait for their reader. It only commits to a journal, so more means that it is
#: stuck; the connection is then given up and what was missed is read from the history.
MAX_INBOX: Final = 10_000
#: Handed to the reader at once, so that one commit takes many small messages and none takes all.
MAX_BATCH: Final = 64


class CallRefused(DriverError):
    """Raised when codex answers a call with an error: it has not done what was asked."""

    def __init__(self, error: Obj) -> None:
        self.code = int(number(error, "code") or 0)
        self.data = sub(error, "data")
        lines = text(error, "message").strip().splitlines()
        super().__init__(lines[0] if lines else f"codex refused the call with code {self.code}")


class NotListening(HarnessGone):
    """Raised when no app-server listens at the socket, or it does not shake hands."""


@dataclass(frozen=True, slots=True)
class Message:
    """A notification, or a request when `rpc_id` is set. `at` is seconds since the epoch, or 0."""

    method: str
    params: Obj
    rpc_id: RpcId | None
    at: float


class _Call:
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.answer: Obj | None = None


class Peer:
    """See the module. Every method raises `HarnessGone` when the connection is lost."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls: dict[int, _Call] = {}
        self._numbers = 0
        self._lost: str | None = None
        self._news, self.inbox = anyio.create_memory_object_stream[Message](MAX_INBOX)

    async def call(self, method: str, params: Obj, within: float = CALL_S) -> Obj:
        """The result. Raises `CallRefused`; after `HarnessGone` it is unknown what was done."""
        self._numbers += 1
        number, call = self._numbers, _Call()
        self._calls[number] = call
        try:
            with anyio.fail_after(within):
                await self._write({"id": number, "method": method, "params": params})
                await call.done.wait()
        except TimeoutError:
            raise HarnessGone(f"codex did not answer {method} within {within:g} s") from None
        finally:
            self._calls.pop(number, None)
        if call.answer is None:
            raise HarnessGone(self._lost or "the connection to codex was lost")
        if "error" in call.answer:
            raise CallRefused(sub(call.answer, "error"))
        return sub(call.answer, "result")

    async def notify(self, method: str) -> None:
        await self._write({"method": method})

    async def reply(self, rpc_id: RpcId, result: Json) -> None:
        """Answer a request of codex."""
        await self._write({"id": rpc_id, "result": result})

    async def batch(self) -> list[Message]:
        """The next things codex says, in order; waits for one. Empty: the connection has ended.

        For one reader, and safe to cancel.
        """
        try:
            first = await self.inbox.receive()
        except anyio.EndOfStream:
            return []
        return [first, *self._waiting(MAX_BATCH - 1)]

    def arrived(self) -> list[Message]:
        """All that has arrived and was not read yet."""
        return self._waiting(MAX_INBOX)

    def _waiting(self, limit: int) -> list[Message]:
        messages: list[Message] = []
        try:
            while len(messages) < limit:
                messages.append(self.inbox.receive_nowait())
        except (anyio.WouldBlock, anyio.EndOfStream):
            pass
        return messages

    async def _write(self, message: Mapping[str, Json]) -> None:
        if self._lost is not None:
            raise HarnessGone(self._lost)
        try:
            await self._socket.send(json.dumps(message, ensure_ascii=False))
        except ConnectionClosed as error:
            raise HarnessGone(f"the connection to codex was lost: {error}") from None

    async def read_all(self) -> None:
        """Take in what codex sends, until the connection ends. Run by `connect`."""
        try:
            async for frame in self._socket:
                self._take(obj(json.loads(frame)))
            self._lost = "codex closed the connection"
        except (ConnectionClosed, ValueError) as error:
            self._lost = f"the connection to codex was lost: {error}"
        except anyio.WouldBlock:
            self._lost = f"more than {MAX_INBOX} messages of codex were not read"
        finally:
            self._lost = self._lost or "the connection to codex was closed"
            self._news.close()
            for call in self._calls.values():
                call.done.set()

    def _take(self, message: Obj) -> None:
        rpc_id = message.get("id")
        method = text(message, "method")
        if method:
            request = rpc_id if isinstance(rpc_id, int | str) else None
            at = (number(message, "emittedAtMs") or 0) / 1000
            self._news.send_nowait(Message(method, sub(message, "params"), request, at))
        elif isinstance(rpc_id, int) and (call := self._calls.get(rpc_id)) is not None:
            call.answer = message
            call.done.set()


@asynccontextmanager
async def connect(path: str) -> AsyncIterator[Peer]:
    """Connect to the app-server that listens at `path`. Raises `NotListening`."""
    try:
        socket = await unix_connect(
            path,
            uri="ws://localhost/",
            compression=None,
            proxy=None,
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
            ping_interval=None,  # the other side of a unix socket is gone or it is there
            max_size=MAX_FRAME,
        )
    except (OSError, WebSocketException) as error:
        raise NotListening(f"codex does not answer at {path}: {error}") from None
    failure: Exception | None = None
    peer = Peer(socket)
    async with socket, peer.inbox, anyio.create_task_group() as tasks:
        tasks.start_soon(peer.read_all)
        try:
            yield peer
        except Exception as error:  # noqa: BLE001 - raised below, not inside a group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


__all__ = ["CallRefused", "Message", "NotListening", "Peer", "connect"]
