"""One visit to a session's terminal, from connecting to the restored terminal of who came."""

from __future__ import annotations

import os
import sys

from .client import Attachment, Left, Wishes
from .connection import watch
from .terminal import raw


def visit(folder: str, wishes: Wishes) -> Left:
    """Show the session whose holder serves `folder` on this process's terminal.

    Raises `connection.Unreachable` and `connection.NoTerminal` before the terminal is touched.
    """
    keyboard, window = sys.stdin.fileno(), sys.stdout.fileno()
    wishes = wishes._replace(person=_person(keyboard))
    with watch(folder, read_only=wishes.read_only, person=wishes.person) as cast:
        with raw(keyboard, window) as terminal:
            left = Attachment(terminal, wishes, folder).run(cast)
        if left is Left.HUNG_UP and terminal.stuck:
            _say_no_more()
        return left


def _person(keyboard: int) -> str:
    """Who types, as `who` tells people apart: by their terminal."""
    try:
        return os.ttyname(keyboard).removeprefix("/dev/")
    except OSError:
        return "a terminal"


def _say_no_more() -> None:
    """Somebody wants us to end, and what is said to a terminal that takes nothing waits for ever."""
    null = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        if os.isatty(fd):
            os.dup2(null, fd)
    os.close(null)


__all__ = ["visit"]
