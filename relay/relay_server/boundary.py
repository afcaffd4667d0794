"""The outermost layer of an HTTP API: whatever goes wrong inside leaves as JSON with a stable code."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.exceptions import HTTPException

from relay_client.version import VERSION

from .asgi import ClientGone, answer_json
from .errors import ApiError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Headers = list[tuple[bytes, bytes]]

logger = logging.getLogger(__name__)

#: Tells a client which version it talks to, on every answer.
VERSION_HEADER = (b"x-relay-version", VERSION.encode())
#: Codes for what the router itself refuses.
CODES = {404: "not_found", 405: "method_not_allowed"}


class Boundary:
    """Wraps an ASGI app: turns exceptions into `ErrorResponse`, adds the version header.

    `gate` sees every request first: it raises `ApiError` to refuse it and returns further headers for
    the answer. An unforeseen exception is answered with 500 and a short id that stands in the log
    beside the traceback; the client never sees more of it.
    """

    def __init__(self, app: ASGIApp, gate: Callable[[Scope], Headers] | None = None) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [VERSION_HEADER]
        begun = False

        async def outgoing(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] += headers
            await send(message)

        try:
            if self._gate is not None:
                headers += self._gate(scope)
            await self._app(scope, receive, outgoing)
        except ClientGone:
            return
        except Exception as exc:  # noqa: BLE001 (nothing may reach the client as a traceback)
            error = as_api_error(exc, scope)
            # An answer that was begun can only be cut short; the server then closes the connection.
            if not begun:
                await answer_json(outgoing, error.status, error.body(), error.headers)


def as_api_error(exc: Exception, scope: Scope) -> ApiError:
    """What the client is told about `exc`. Logs what is our own fault."""
    if isinstance(exc, ApiError):
        return exc
    if isinstance(exc, ValidationError):
        return invalid(exc)
    if isinstance(exc, HTTPException):
        return ApiError(
            CODES.get(exc.status_code, f"http_{exc.status_code}"),
            f"{scope['method']} {scope['path']}: {exc.detail.lower()}",
            status=exc.status_code,
            headers=exc.headers,
        )
    reference = secrets.token_hex(4)
    logger.error(
        "! %s %s failed (%s)",
        scope["method"],
        scope["path"],
        reference,
        exc_info=exc,
        extra={"action": "request_failed", "reference": reference},
    )
    return ApiError("internal", f"internal error, logged as {reference}", status=500)


__all__ = ["Boundary", "as_api_error"]
