"""Everything of the supervisor's process around `Supervisor`: databases, relay, sockets, signals.

Stopping is quick and loses nothing: servers close, sessions go on in their holders, what was not
committed was never said.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from relay_client.client import RelayClient
from relay_profiles.watch import ProfileCatalog
from relay_server.database import DatabaseError
from relay_server.server import BindError, collect_less, open_relay, serve_app
from relay_server.settings import Settings, SettingsError
from relay_server.writer import Writer

from .. import paths
from .api import ControlApi
from .journal import MIGRATIONS, Journal
from .supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from anyio.abc import TaskGroup

    from relay_profiles.errors import ProfileError

#: A commit waits for its thread's turn, which by default comes up to 5 ms after the loop's.
SWITCH_S = 0.0005

_log = logging.getLogger(__name__)

#: Set in the environment of sessions whose relay is ours: a supervisor that is started from inside
#: one must not take AGENT_RELAY_URL for a remote relay.
EMBEDDED_VARIABLE = "RELAY_RUNTIME_RELAY"
#: Clients of the control socket that wait for a turn to be accepted.
BACKLOG = 128


class CannotServe(Exception):
    """Raised when the supervisor cannot start. The message is one line for the user."""


def run(home: Path, ready: Callable[[], None]) -> None:
    """Serve `home` until SIGTERM, SIGINT or `down`. Raises `CannotServe`."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for name in ("httpx", "uvicorn", "watchfiles"):  # a line a request is no help at night
        logging.getLogger(name).setLevel(logging.WARNING)
    failure: BaseException | None = None
    try:
        sys.setswitchinterval(SWITCH_S)
        anyio.run(_serve, home, ready, backend_options={"use_uvloop": True})
    except* (DatabaseError, BindError, SettingsError) as group:
        failure = _cause(group)
    if failure is not None:
        # The relay alone is told by PORT and HOST; here those variables are somebody else's.
        raise CannotServe(re.sub(r"\b(PORT|HOST)\b", r"AGENT_RELAY_\1", str(failure)))


async def _serve(home: Path, ready: Callable[[], None]) -> None:
    stop, closing = anyio.Event(), anyio.Event()
    async with (
        _journal(paths.journal_db(home)) as journal,
        anyio.create_task_group() as tasks,
        _relay_client(home, tasks, os.environ) as (client, url, embedded),
    ):
        tasks.start_soon(_stop_at_signals, stop)
        tasks.start_soon(_watch_profiles)
        supervisor = Supervisor(home, journal, client, relay_url=url, relay_embedded=embedded)
        api = ControlApi(supervisor, stop=stop.set, closing=closing)

        def close() -> None:
            closing.set()
            supervisor.news.set()  # streams look up and see that it is over

        await tasks.start(supervisor.run)
        _log.info("%d sessions, relay %s", len(supervisor.infos()), url, extra={"action": "up"})
        collect_less()
        async with _control_socket(home) as sock:
            tasks.start_soon(serve_app, api.app(), sock, close, ready)
            await stop.wait()
            tasks.cancel_scope.cancel()


async def _stop_at_signals(stop: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for signum in signals:
            if signum != signal.SIGHUP:  # the terminal that started us is gone: no reason to go
                stop.set()


async def _watch_profiles() -> None:
    """Say what is wrong with an edited profile when it is saved, not at the next spawn at night."""

    async def changed(problems: list[ProfileError]) -> None:
        for problem in problems:
            _log.warning("%s", problem, extra={"action": "profile_broken"})

    try:
        await ProfileCatalog(Path.home(), os.environ).run(changed)
    except* (OSError, RuntimeError) as group:
        why = _cause(group)
        _log.warning("profiles are not watched: %s", why, extra={"action": "profiles_unwatched"})


def _cause(error: BaseException) -> BaseException:
    """What lies inside the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def _journal(path: Path) -> AsyncIterator[Journal]:
    journal = Journal(await Writer.open(path, MIGRATIONS), path)
    try:
        yield journal
    finally:
        with anyio.CancelScope(shield=True):
            await journal.aclose()


@asynccontextmanager
async def _relay_client(
    home: Path, tasks: TaskGroup, environ: Mapping[str, str]
) -> AsyncIterator[tuple[RelayClient, str, bool]]:
    """The relay that AGENT_RELAY_URL names, else one of our own in this process."""
    remote = environ.get("AGENT_RELAY_URL")
    if remote and EMBEDDED_VARIABLE not in environ:
        try:
            client = RelayClient(remote, environ.get("AGENT_RELAY_TOKEN"))
        except ValueError as error:
            raise SettingsError(f"AGENT_RELAY_URL: {error}") from None
        async with client:
            yield client, remote, False
        return
    settings = Settings.from_environ(_embedded_environ(environ), db_path=paths.relay_db(home))
    async with open_relay(settings) as relay:
        url = await tasks.start(relay.serve)
        async with RelayClient(url, settings.token, relay.app) as client:
            yield client, url, True


def _embedded_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """PORT, HOST and DB_PATH in a developer's shell are meant for other programs."""
    given = {k: v for k, v in environ.items() if k not in ("PORT", "HOST", "DB_PATH")}
    for name in ("PORT", "HOST"):
        if value := environ.get(f"AGENT_RELAY_{name}"):
            given[name] = value
    return given


@asynccontextmanager
async def _control_socket(home: Path) -> AsyncIterator[socket.socket]:
    """Bound where the command line looks, 0600. We hold the lock: an old one is a leftover."""
    path = paths.control_socket(home)
    with suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(paths.socket_address(path))
    finally:
        os.umask(mask)
    sock.listen(BACKLOG)
    try:
        yield sock
    finally:
        sock.close()
        with suppress(FileNotFoundError):
            path.unlink()
