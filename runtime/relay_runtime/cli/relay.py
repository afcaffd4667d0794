"""The command that runs the relay alone, in the foreground."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import paths
from . import output
from .failure import Exit, fail
from .options import AsJson

if TYPE_CHECKING:
    from relay_server.settings import Settings


def relay(
    host: Annotated[str | None, typer.Option(help="Address; default HOST or 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Default PORT or 4850; 0: any free one.")
    ] = None,
    database: Annotated[
        str | None, typer.Option("--db", help="Database file; default: in the state folder.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Run the relay alone, in the foreground, until Ctrl-C or SIGTERM."""
    import anyio

    from relay_server.settings import Settings, SettingsError

    chosen = {"HOST": host, "PORT": None if port is None else str(port), "DB_PATH": database}
    environ = os.environ | {name: value for name, value in chosen.items() if value is not None}
    try:
        default = Path() if environ.get("DB_PATH") else paths.relay_db(paths.home())
        settings = Settings.from_environ(environ, db_path=default)
    except SettingsError as error:
        fail(Exit.USAGE, str(error))
    options = {"use_uvloop": True}
    if anyio.run(_serve, settings, json, backend_options=options) == signal.SIGINT:
        raise KeyboardInterrupt


async def _serve(settings: Settings, json: bool) -> int:
    """Serve until a signal, and return which. What keeps it from serving ends the command."""
    import anyio

    from relay_server.database import DatabaseError
    from relay_server.server import BindError, collect_less, open_relay

    try:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with open_relay(settings) as relay, anyio.create_task_group() as tasks:
                url = await tasks.start(relay.serve)
                collect_less()
                _announce(url, settings, json)
                async for number in signals:
                    tasks.cancel_scope.cancel()
                    return number
    except* (BindError, DatabaseError) as group:
        reason = str(_first(group))
    else:
        raise AssertionError("signals do not end")
    fail(Exit.UNAVAILABLE, reason)


def _announce(url: str, settings: Settings, json: bool) -> None:
    database = str(settings.db_path.absolute())
    if json:
        output.say_json({"url": url, "database": database, "pid": os.getpid()}, compact=True)
    else:
        output.say(f"the relay listens on {url}, database {database}")
    sys.stdout.flush()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


__all__ = ["relay"]
