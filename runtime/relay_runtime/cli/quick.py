"""`attach` without the machinery of a command line: a person waits for the first screen.

Only the ordinary case is handled here. Whatever is special in any way (help, a mistake, a headless
session) is left to the command itself, which says and does everything.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from typing import TYPE_CHECKING

from .. import paths
from ..attach.chord import DEFAULT_KEYS, parse_keys
from ..attach.client import Left, Size, Wishes
from ..attach.connection import NoTerminal, Unreachable
from ..attach.visit import visit
from ..supervisor.lookup import find_session
from .failure import Exit, fail

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS_VARIABLE = "RELAY_RUNTIME_DETACH_KEYS"


def attach(arguments: Sequence[str]) -> bool:
    """Whether it was an ordinary case, and is done. Raises `Failure`."""
    wanted = wishes(arguments)
    if wanted is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    home = paths.locate()
    try:
        found = find_session(paths.journal_db(home), wanted.name)
    except sqlite3.Error:
        return False
    if found is None or found.mode != "pty":
        return False
    if os.environ.get("RELAY_RUNTIME_SESSION") == found.session_id or not found.name.isprintable():
        return False
    folder = str(paths.session_dir(home, found.session_id))
    say_how_it_ended(found.name, visited(folder, wanted._replace(name=found.name)))
    return True


def visited(folder: str, wishes: Wishes) -> Left:
    """Raises `Failure` when there is nothing to visit."""
    try:
        return visit(folder, wishes)
    except NoTerminal:
        fail(Exit.CONFLICT, f"{wishes.name} is not started; see `relay-runtime ps`")
    except Unreachable as error:
        fail(Exit.UNAVAILABLE, str(error))


def say_how_it_ended(name: str, left: Left) -> None:
    """For a session whose own terminal it was. Raises `Failure` where it was not their wish."""
    from .output import note

    match left:
        case Left.DETACHED:
            note(f"detached from {name}, which goes on")
        case Left.ENDED:
            note(f"the program of {name} has ended")
        case Left.LOST:
            fail(Exit.UNAVAILABLE, f"the holder of {name} is gone, and its agent with it")
        case Left.HUNG_UP:
            fail(Exit.INTERRUPTED, f"left {name}, which goes on")


def wishes(arguments: Sequence[str]) -> Wishes | None:
    """What an ordinary command line says. None: the command itself has to look at it."""
    values = {"--size": Size.LATEST.value}
    values["--detach-keys"] = os.environ.get(KEYS_VARIABLE) or DEFAULT_KEYS
    names, read_only, words = [], False, iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option in values:
            values[option] = value if equals else next(words, "")
        elif word in ("-r", "--read-only"):
            read_only = True
        else:
            names.append(word)
    try:
        size, keys = Size(values["--size"]), parse_keys(values["--detach-keys"])
    except ValueError:
        return None
    if len(names) != 1 or names[0].startswith("-"):
        return None
    return Wishes(names[0], read_only, size, keys)


__all__ = ["KEYS_VARIABLE", "attach", "say_how_it_ended", "visited", "wishes"]
