"""Commands on a session's terminal: attach, snapshot. Neither needs a supervisor."""

from __future__ import annotations

import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from .. import paths
from ..attach.chord import DEFAULT_KEYS, BadKeys, parse_keys
from ..attach.client import Left, Size, Wishes
from ..attach.connection import NoTerminal, Unreachable, watch
from ..contract import Mode
from ..views import folder_of
from . import output
from .failure import Exit, fail
from .options import AsJson, SessionName
from .quick import KEYS_VARIABLE, say_how_it_ended, visited
from .views import look

if TYPE_CHECKING:
    from ..screen import Screen
    from ..supervisor.lookup import Found


@dataclass(frozen=True, slots=True)
class _Session:
    """`folder` is where its holder serves. A headless one has a terminal only as a view."""

    shown: str
    session_id: str
    folder: Path
    headless: bool


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
            envvar=KEYS_VARIABLE,
            help="Keys that detach, one after the other.",
        ),
    ] = DEFAULT_KEYS,
    transcript: Annotated[
        bool, typer.Option("--transcript", "-t", help="What it says and does, as lines of text.")
    ] = False,
) -> None:
    """Show a session's terminal, and type into it. The session goes on when you leave.

    A headless session is shown in its agent's own terminal interface, if it has one, else as a
    transcript with a line to write messages to it.
    """
    try:
        keys = parse_keys(detach_keys)
    except BadKeys as error:
        fail(Exit.USAGE, str(error))
    found = _find(name)
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    wishes = Wishes(found.shown, read_only, size, keys)
    left: Left | None = None
    if found.headless or transcript:
        if at_terminal and not transcript:
            show = lambda view: visited(view.folder, wishes)
            left = look(found.shown, found.session_id, show)
        if left is None:
            _converse(found.shown, at_terminal, read_only, keys)
    elif at_terminal:
        left = visited(str(found.folder), wishes)
    else:
        fail(Exit.USAGE, "attach needs a terminal; see `snapshot`, `logs` and `events`")
    _say_how_it_ended(found, left)


def _converse(shown: str, at_terminal: bool, read_only: bool, keys: tuple[int, ...]) -> None:
    from .conversation import Conversation, recite

    if at_terminal:
        Conversation(shown, read_only=read_only, keys=keys).run()
    else:
        recite(shown)


def _say_how_it_ended(found: _Session, left: Left | None) -> None:
    shown = found.shown
    match left:
        case None:
            output.note(f"left {shown}")
        case Left.ENDED | Left.LOST if found.headless:
            goes_on = _lookup(found.session_id) is not None
            output.note(f"left {shown}, which goes on" if goes_on else f"{shown} has ended")
        case _:
            say_how_it_ended(shown, left)


def snapshot(
    name: SessionName,
    text: Annotated[bool, typer.Option("--text", help="As plain text: the default.")] = False,
    ansi: Annotated[bool, typer.Option("--ansi", help="With colours and styles.")] = False,
    png: Annotated[bool, typer.Option("--png", help="As a picture.")] = False,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where the picture goes.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Print what a session's terminal shows now."""
    if text + ansi + png + json > 1 or (file is not None and not png):
        fail(Exit.USAGE, "choose one of --text, --ansi, --png, --json; --output goes with --png")
    if png and file is None and sys.stdout.isatty():
        fail(Exit.USAGE, "a picture is not for a terminal: name a file with --output FILE")
    found = _find(name)
    folder = folder_of(str(found.folder)) if found.headless else str(found.folder)
    try:
        with watch(folder, read_only=True) as cast:
            assert cast.replay is not None
            screen = cast.replay.screen
            if png:
                _picture(screen, file)
            else:
                _print(screen, ansi, json)
    except (NoTerminal, Unreachable) as error:
        shown = found.shown
        if found.headless:
            events = f"relay-runtime events {shown}"
            why = f"has no terminal while nobody is attached to it; see `{events}`"
            fail(Exit.CONFLICT, f"{shown} {why}")
        if isinstance(error, NoTerminal):
            fail(Exit.CONFLICT, f"{shown} is not started; see `relay-runtime ps`")
        fail(Exit.UNAVAILABLE, str(error))


def _picture(screen: Screen, file: Path | None) -> None:
    from ..screen.picture import NoPictures, png

    try:
        data = png(screen)
    except NoPictures as error:
        fail(Exit.FAILED, str(error))
    if file is None:
        sys.stdout.buffer.write(data)
    else:
        file.write_bytes(data)


def _print(screen: Screen, ansi: bool, json: bool) -> None:
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


def _find(name: str) -> _Session:
    """From the journal: there may be no supervisor to ask."""
    home = paths.locate()
    found = _lookup(name)
    if found is None:
        fail(Exit.NOT_FOUND, f"no session {name!r} is running; see `relay-runtime ps`")
    if os.environ.get("RELAY_RUNTIME_SESSION") == found.session_id:
        fail(Exit.CONFLICT, f"this is {output.one_line(found.name)}: it cannot be shown in itself")
    folder = paths.session_dir(home, found.session_id)
    return _Session(output.one_line(found.name), found.session_id, folder, found.mode != Mode.PTY)


def _lookup(key: str) -> Found | None:
    from ..supervisor.lookup import find_session

    journal = paths.journal_db(paths.locate())
    try:
        return find_session(journal, key)
    except sqlite3.Error as error:
        fail(Exit.FAILED, f"{journal} cannot be read: {error}")


__all__ = ["attach", "snapshot"]
