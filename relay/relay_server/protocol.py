"""uvicorn's HTTP protocol with two changes: an answer is one write, and every refusal is JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .boundary import VERSION_HEADER
from .errors import error_json

if TYPE_CHECKING:
    from collections.abc import Iterable


class HttpProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _Joining(transport)))

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP; uvicorn says so before any app is called."""
        body = error_json("invalid_http", msg)
        lines: Iterable[bytes] = (
            b"HTTP/1.1 400 Bad Request",
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"%b: %b" % VERSION_HEADER,
            b"connection: close",
            b"",
            body,
        )
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()


class _Joining:
    """A transport that sends the head of an answer together with what follows it at once.

    uvicorn writes head and body apart, and its event loop sends each by itself: two system calls and
    two packets for a small answer. The head waits for the body, at most until the loop comes round.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        head = self._head
        if head is not None:
            self._head = None
            self._transport.write(head + data)
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, None
        if head is not None:
            self._transport.write(head)


__all__ = ["HttpProtocol"]
