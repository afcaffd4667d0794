"""The little of ASGI that is needed without a framework: headers, a bounded body, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

JSON = (b"content-type", b"application/json")


class ClientGone(Exception):
    """Raised when the client closed the connection before its request was complete."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of the first header `name` (lower case)."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises `TooLarge` at `limit` bytes, `BadRequest`, or `ClientGone`."""
    length = header(scope, b"content-length")
    if length is not None and (not length.isdigit() or int(length[:20]) > limit):
        raise (
            _too_large(limit)
            if length.isdigit()
            else BadRequest("invalid_length", "Content-Length is not a number")
        )
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts, size = [body], len(body)
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
    if message["type"] != "http.request":
        raise ClientGone
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge("request_too_large", f"the request body is larger than {limit} bytes")


async def answer_json(
    send: Send, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Send a whole JSON answer."""
    head = [JSON, (b"content-length", str(len(body)).encode())]
    for name, value in (headers or {}).items():
        head.append((name.encode("latin-1"), value.encode("latin-1")))
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


__all__ = ["JSON", "ClientGone", "answer_json", "header", "read_body"]
