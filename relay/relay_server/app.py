"""The relay as an ASGI app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route, Router

from .api import PREFIX, Api
from .asgi import answer_json
from .auth import Guard
from .boundary import Boundary
from .errors import Busy
from .openapi import bind

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from .hub import Hub
    from .settings import Settings
    from .store import Store

# Long polls and streams count too. Each is a task and a socket; twice this many files is a common
# limit of a process.
MAX_REQUESTS = 512


class Entry:
    """In front of the router: refuses what is too much, and takes the hot path around it."""

    def __init__(self, api: Api, store: Store) -> None:
        self._api = api
        self._store = store
        self._running = 0
        health = Route("/health", api.get_health)
        document = Route("/openapi.json", api.get_openapi)
        self._router = Router(
            [*bind(api.operations, PREFIX), health, document], redirect_slashes=False
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._running >= MAX_REQUESTS or self._store.busy:
            raise Busy("busy", "the relay has too much to do: try again")
        self._running += 1
        try:
            if scope["method"] == "POST" and scope["path"] == "/api/messages":
                status, body = await self._api.send(scope, receive)
                await answer_json(send, status, body)
            elif scope["method"] == "OPTIONS" and scope["path"].startswith(PREFIX):
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})
            else:
                scope["app"] = self  # with an app, the router raises what it refuses
                await self._router(scope, receive, send)
        finally:
            self._running -= 1


def create_app(store: Store, hub: Hub, settings: Settings) -> ASGIApp:
    """The whole HTTP API. Runs under any ASGI server, and in process under `httpx.ASGITransport`
    (except the event stream, which that transport cannot stream).
    """
    return Boundary(Entry(Api(store, hub), store), Guard(settings).headers)


__all__ = ["create_app"]
