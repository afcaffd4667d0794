"""Commands on a session's terminal: attach, snapshot. Neither needs a supervisor."""

from __future__ import annotations

import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Annotated, TypeVar

import anyio
import typer

from .. import paths
from ..attach.chord import DEFAULT_KEYS, BadKeys, parse_keys
from ..attach.client import Attachment, Left, Size, Wishes
from ..attach.connection import NoTerminal, watch
from ..attach.terminal import raw
from ..contract import DriverError, Mode
from . import output
from .failure import Exit, fail
from .options import AsJson, SessionName

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..screen import Screen


def attach(
    name: SessionName,
    read_only: Annotated[
        bool, typer.Option("--read-only", "-r", help="Look, do not type.")
    ] = False,
    size: Annotated[
        Size, typer.Option("--size", help="Whose size its terminal takes when several look at it.")
    ] = Size.LATEST,
    detach_keys: Annotated[
        str,
        typer.Option(
            "--detach-keys",
            envvar="RELAY_RUNTIME_DETACH_KEYS",
            help="Keys that detach, one after the other.",
        ),
    ] = DEFAULT_KEYS,
) -> None:
    """Show a session's terminal, and type into it. The session goes on when you leave.

    A headless session shows what it does, with a line to write messages to it.
    """
    try:
        keys = parse_keys(detach_keys)
    except BadKeys as error:
        fail(Exit.USAGE, str(error))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        fail(Exit.USAGE, "attach needs a terminal; see `snapshot`, `logs` and `events`")
    shown, folder = _find(name)
    if folder is None:
        from .conversation import Conversation

        Conversation(shown, read_only=read_only, keys=keys).run()
        output.note(f"left {shown}")
        return
    wishes = Wishes(shown, read_only, size, keys)
    left = _reached(shown, lambda: anyio.run(_attach, folder, wishes))
    match left:
        case Left.DETACHED:
            output.note(f"detached from {shown}, which goes on")
        case Left.ENDED:
            output.note(f"the program of {shown} has ended")
        case Left.LOST:
            fail(Exit.UNAVAILABLE, f"the holder of {shown} is gone, and its agent with it")
        case Left.HUNG_UP:
            fail(Exit.INTERRUPTED, f"left {shown}, which goes on")


def snapshot(
    name: SessionName,
    ansi: Annotated[bool, typer.Option("--ansi", help="With colours and styles.")] = False,
    json: AsJson = False,
) -> None:
    """Print what a session's terminal shows now."""
    shown, folder = _find(name)
    if folder is None:
        fail(Exit.CONFLICT, f"{shown} has no terminal; see `relay-runtime events {shown}`")
    _reached(shown, lambda: anyio.run(_snapshot, folder, ansi, json))


async def _attach(folder: Path, wishes: Wishes) -> Left:
    # Rebuilt before the terminal is touched, so that what cannot be shown is said on a sane one.
    async with watch(str(folder), read_only=wishes.read_only) as cast:
        with raw(sys.stdin.fileno(), sys.stdout.fileno()) as terminal:
            return await Attachment(terminal, wishes, str(folder)).run(cast)


async def _snapshot(folder: Path, ansi: bool, json: bool) -> None:
    async with watch(str(folder), read_only=True) as cast:
        screen = cast.replay.screen
        if json:
            output.say_json(_as_json(screen))
            return
        for line in screen.ansi() if ansi else screen.text():
            output.say(line)


def _as_json(screen: Screen) -> dict[str, object]:
    cursor = screen.cursor
    return {
        "rows": screen.rows,
        "cols": screen.cols,
        "title": screen.title,
        "alternate": screen.alternate,
        "cursor": {"row": cursor.row, "col": cursor.col, "visible": cursor.visible},
        "text": screen.text(),
    }


def _find(name: str) -> tuple[str, Path | None]:
    """A session's name, and its folder if it has a terminal.

    From the journal: there may be no supervisor to ask.
    """
    from ..supervisor.journal import find_session

    home = paths.locate()
    try:
        found = find_session(paths.journal_db(home), name)
    except sqlite3.Error as error:
        fail(Exit.FAILED, f"{paths.journal_db(home)} cannot be read: {error}")
    if found is None:
        fail(Exit.NOT_FOUND, f"no session {name!r} is running; see `relay-runtime ps`")
    if os.environ.get("RELAY_RUNTIME_SESSION") == found.session_id:
        fail(Exit.CONFLICT, f"this is {output.one_line(found.name)}: it cannot be shown in itself")
    folder = paths.session_dir(home, found.session_id)
    return output.one_line(found.name), folder if found.mode == Mode.PTY else None


def _reached(name: str, call: Callable[[], T]) -> T:
    """What `call` returns, or the failure that its error means."""
    try:
        return call()
    except NoTerminal:
        fail(Exit.CONFLICT, f"{name} is not started; see `relay-runtime ps`")
    except DriverError as error:
        fail(Exit.UNAVAILABLE, str(error))


__all__ = ["attach", "snapshot"]
