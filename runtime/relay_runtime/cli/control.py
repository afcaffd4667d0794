"""The supervisor, as commands use it: found or started, its errors turned into exit codes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import paths
from .failure import Exit, fail
from .output import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..control_client import ControlClient, ControlError


@contextmanager
def supervisor(*, start: bool = False) -> Iterator[ControlClient]:
    """A client of the running supervisor; `start` starts one first when none runs."""
    from ..control_client import ControlClient

    home = paths.locate()
    if start:
        from .launch import ensure_supervisor

        home = paths.home()
        ensure_supervisor(home)
    with control_errors():
        yield ControlClient(paths.control_socket(home))


@contextmanager
def control_errors() -> Iterator[None]:
    """End the command with the exit code that a `ControlError` stands for."""
    from ..control_client import ControlError

    try:
        yield
    except ControlError as error:
        fail(_exit(error), _message(error))


def _exit(error: ControlError) -> Exit:
    from .. import control_client as client

    match error:
        case client.Unavailable():
            return Exit.UNAVAILABLE
        case client.Missing():
            return Exit.NOT_FOUND
        case client.Invalid():
            return Exit.USAGE
        case client.Refused():
            return Exit.CONFLICT
        case client.NotStarted():
            return Exit.FAILED
        case client.TimedOut():
            return Exit.TIMEOUT
        case _:
            return Exit.INTERNAL


def _message(error: ControlError) -> str:
    from ..control_client import Broken

    message = str(error)
    named = [one_line(name) for name in error.candidates if name not in message]
    if named:
        message += f" ({', '.join(named)})"
    if isinstance(error, Broken):
        message += f"; more in {paths.supervisor_log(paths.locate())}"
    return message


__all__ = ["control_errors", "supervisor"]
