"""Running the relay: embedded in another program, or alone until it is cancelled.

async with open_relay(settings) as relay:          # store, app and deadlines
    httpx.AsyncClient(transport=httpx.ASGITransport(relay.app))    # in process, and at once
    address = await tasks.start(relay.serve)       # on TCP, until the task is cancelled
"""

from __future__ import annotations

import errno
import gc
import socket
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import uvicorn
from anyio import TASK_STATUS_IGNORED

from .app import create_app
from .deadlines import keep_deadlines
from .hub import Hub
from .protocol import HttpProtocol
from .store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from anyio.abc import TaskStatus
    from starlette.types import ASGIApp

    from .settings import Settings

# Waits and streams end at once when the hub closes; this is for an answer to a slow reader.
SHUTDOWN_S = 1
# Longer than clients keep an idle connection, so that it is the client who closes it.
KEEP_ALIVE_S = 75
BACKLOG = 512


class BindError(Exception):
    """Raised when the address cannot be listened on. The message says what to do."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        if error.errno == errno.EADDRINUSE:
            told = f"port {port} on {host} is in use: stop what runs there, or set PORT to another"
        elif error.errno == errno.EACCES:
            told = f"port {port} needs more rights than this user has: set PORT to 1024 or above"
        else:
            told = f"cannot listen on {host} port {port}: {error.strerror or error}"
        super().__init__(told)
        self.host = host
        self.port = port


@dataclass(frozen=True, slots=True)
class Relay:
    """An open relay. `app` answers in process whether or not anything listens on TCP."""

    app: ASGIApp
    store: Store
    hub: Hub
    settings: Settings

    async def serve(self, *, task_status: TaskStatus[str] = TASK_STATUS_IGNORED) -> None:
        """Listen on the settings' address until cancelled; reports the URL once it does.

        Raises `BindError`. Once cancelled no more waits are possible, in process either: cancel it
        when the program ends. That takes under two seconds, whatever clients do.
        """
        sock = bind(self.settings.host, self.settings.port)
        host, port = sock.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        await serve_app(self.app, sock, self.hub.close, started=lambda: task_status.started(url))


@asynccontextmanager
async def open_relay(
    settings: Settings, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Relay]:
    """Open the database and keep its deadlines. Raises `database.DatabaseError`."""
    hub = Hub()
    failure: Exception | None = None
    async with (
        open_store(settings.db_path, hub, stale_ttl_s=settings.stale_ttl_s, clock=clock) as store,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(keep_deadlines, store, hub, clock)
        try:
            yield Relay(create_app(store, hub, settings), store, hub, settings)
        except Exception as exc:  # noqa: BLE001 (raised again, but not as a group of one)
            failure = exc
        finally:
            hub.close()
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def serve(settings: Settings, *, task_status: TaskStatus[str] = TASK_STATUS_IGNORED) -> None:
    """Open a relay and listen until cancelled; reports the URL once it does.

    Raises `BindError`, `database.DatabaseError`.
    """
    async with open_relay(settings) as relay:
        await relay.serve(task_status=task_status)


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket bound to the first address of `host`; port 0 takes a free one.

    Raises `BindError`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise BindError(host, port, exc) from exc
    try:
        # A restart must not wait for old connections; on Linux this does not steal a live port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)  # now, so that a port in use is found here
    except OSError as exc:
        sock.close()
        raise BindError(host, port, exc) from exc
    return sock


def collect_less() -> None:
    """For a process that is a server and little else, once it has loaded everything.

    Looking through what stays for good, over and over, costs a tenth of the throughput.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


async def serve_app(
    app: ASGIApp,
    sock: socket.socket,
    closing: Callable[[], object],
    started: Callable[[], object] = lambda: None,
) -> None:
    """Serve any ASGI app on a bound TCP or Unix socket until cancelled; closes the socket.

    `started` is called when it listens, `closing` at the cancellation, before connections are shut:
    end streams and waits there, or they are cut after `SHUTDOWN_S`.
    """
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run_until_stopped, sock)
        try:
            await server.listening.wait()
            started()
            await anyio.sleep_forever()
        finally:
            closing()
            server.stopping.set()


class _Server(uvicorn.Server):
    """uvicorn as a part of a program: no signal handlers, no ticking, stopped by an event."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()
        self.stopping = anyio.Event()

    async def run_until_stopped(self, sock: socket.socket) -> None:
        with anyio.CancelScope(shield=True):  # it must finish answers; bounded by SHUTDOWN_S
            await self.serve([sock])

    async def main_loop(self) -> None:
        self.listening.set()
        await self.stopping.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


__all__ = ["BindError", "Relay", "bind", "collect_less", "open_relay", "serve", "serve_app"]
