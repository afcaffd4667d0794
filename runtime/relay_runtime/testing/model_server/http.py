"""One HTTP/1.1 connection of the model server: keep-alive, JSON in, JSON or SSE out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import anyio
import h11

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import SocketStream

#: Far above the largest context a CLI sends; a longer body is a client gone wild.
MAX_BODY = 64 * 1024 * 1024
_READ = 65_536


class BadRequest(Exception):
    """Raised for what is not a request this server can read. The message goes to the client."""


class ClientGone(Exception):
    """Raised when the client closed or reset the connection. Normal: CLIs abort on interrupt."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str  #: without the query
    query: Mapping[str, str]
    headers: Mapping[str, str]  #: lower-case names
    content: bytes


class HttpConnection:
    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER)

    async def next_request(self) -> HttpRequest | None:
        """The next request of this connection, None when there will be no more."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        if self._http.our_state is not h11.IDLE:
            return None
        try:
            return await self._read_request()
        except h11.RemoteProtocolError as error:
            raise BadRequest(str(error)) from None

    async def _read_request(self) -> HttpRequest | None:
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        content = bytearray()
        while isinstance(data := await self._event(), h11.Data):
            content += data.data
            if len(content) > MAX_BODY:
                raise BadRequest(f"body is larger than {MAX_BODY} bytes")
        target = urlsplit(event.target.decode())
        return HttpRequest(
            event.method.decode(),
            target.path,
            dict(parse_qsl(target.query)),
            {name.decode(): value.decode("latin-1") for name, value in event.headers},
            bytes(content),
        )

    async def _event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                await self._receive()
            elif isinstance(event, h11.Event):
                return event
            else:
                return h11.ConnectionClosed()

    async def _receive(self) -> None:
        try:
            self._http.receive_data(await self._stream.receive(_READ))
        except anyio.EndOfStream:
            self._http.receive_data(b"")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ClientGone from None

    async def wait_gone(self) -> None:
        """Return when the client goes away. To run beside an answer."""
        while True:
            try:
                data = await self._stream.receive(_READ)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            self._http.receive_data(data)

    async def send_json(
        self, status: int, value: object, headers: Mapping[str, str] | None = None
    ) -> None:
        content = json.dumps(value).encode()
        head = {"content-type": "application/json", **(headers or {})}
        await self.send_whole(status, content, head)

    async def send_whole(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        await self._send(
            h11.Response(
                status_code=status,
                headers=[*headers.items(), ("content-length", str(len(content)))],
            )
        )
        if content:
            await self._send(h11.Data(data=content))
        await self._send(h11.EndOfMessage())

    async def start_events(self) -> None:
        headers = [("content-type", "text/event-stream"), ("cache-control", "no-cache")]
        await self._send(h11.Response(status_code=200, headers=headers))

    async def send_event(self, data: bytes) -> None:
        await self._send(h11.Data(data=data))

    async def end_events(self) -> None:
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if not data:
            return
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ClientGone from None
