"""A supervisor that answers what a test tells it to: real HTTP on a real control socket.

For answers that the real one gives seldom: faults, lost connections, hostile texts, endless waits.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvicorn

from .cli_program import SOON

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send


@dataclass(frozen=True)
class Reply:
    """`body` is JSON, or bytes as they are. `cut`: the connection is lost after it.

    `hold`: it never comes; the caller has to leave.
    """

    body: object = field(default_factory=dict)
    status: int = 200
    cut: bool = False
    hold: bool = False


@dataclass
class Double:
    """Replies by `METHOD /path`, one after the other; the last one stays."""

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, request: str) -> None:
        """Until a request came that begins so."""
        with self._news:
            came = lambda: any(seen.startswith(request) for seen, _ in self.requests)
            assert self._news.wait_for(came, SOON), f"no {request} came: {self.requests}"

    def on(self, request: str, *replies: Reply) -> None:
        self.replies[request] = list(replies)

    def refuse(self, request: str, status: int, code: str, message: str, *near: str) -> None:
        error = {"code": code, "message": message, "candidates": list(near)}
        self.on(request, Reply({"error": error}, status))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        content, more = b"", True
        while more:
            event = await receive()
            content += event.get("body", b"")
            more = event.get("more_body", False)
        request = f"{scope['method']} {scope['path']}"
        query = scope["query_string"].decode()
        with self._news:
            self.requests.append((f"{request}?{query}" if query else request, content))
            self._news.notify_all()
        reply = self._next(request)
        if reply.hold:
            await receive()  # until the caller has gone
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        await send({"type": "http.response.start", "status": reply.status, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": reply.cut})
        if reply.cut:
            raise ConnectionError("cut here, on purpose")

    def _next(self, request: str) -> Reply:
        replies = self.replies.get(request)
        if not replies:
            error = {"code": "not_found", "message": f"nothing at {request}"}
            return Reply({"error": error}, 404)
        return replies.pop(0) if len(replies) > 1 else replies[0]


@contextmanager
def serving(home: Path) -> Iterator[Double]:
    """A double on the control socket of `home`."""
    home.mkdir(mode=0o700, exist_ok=True)
    path = home / "control.sock"
    double = Double()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        os.chmod(path, 0o600)
        sock.listen()
        config = uvicorn.Config(double, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            yield double
        finally:
            server.should_exit = True
            thread.join()
            path.unlink(missing_ok=True)
