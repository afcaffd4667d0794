"""Headless sessions on a person's terminal: the harness's own interface, as a view of the session."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from .. import paths
from ..attach.client import Left
from ..contract import DriverError
from .failure import Exit, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..contract import Harness, SessionSpec
    from ..views import View

#: Where a person's terminal does not say what it is.
TERM = "xterm-256color"


def look(name: str, session_id: str, show: Callable[[View], Left]) -> Left | None:
    """Show the view of a session until the person leaves. None: its harness has none.

    When the agent was started anew its view may be another one: that is shown then.
    """
    from ..views import find_view, how_it_ended

    folder = str(paths.session_dir(paths.locate(), session_id))
    while True:
        try:
            view = anyio.run(find_view, folder)
            if view is None and (session := _session(name, session_id)) is not None:
                view = anyio.run(_open, *session)
            if view is None:
                return None
            left = show(view)
            if left is not Left.ENDED:
                return left
            ending = anyio.run(how_it_ended, view)
            if ending.complaint:
                fail(Exit.FAILED, f"the terminal interface of {name} ended with {ending.complaint}")
            if not ending.replaced:
                return left
        except DriverError as error:
            fail(Exit.UNAVAILABLE, f"{name}: {error}; `attach --transcript` shows what it did")


async def _open(harness: Harness, spec: SessionSpec) -> View | None:
    from ..views import Outlook, open_view

    cols, rows = os.get_terminal_size()
    term = os.environ.get("TERM", TERM)
    return await open_view(harness, spec, Outlook(rows or 24, cols or 80, term))


def _session(name: str, session_id: str) -> tuple[Harness, SessionSpec] | None:
    """The session's harness, and its spec with its conversation. None: it never has a view."""
    from ..contract import Harness
    from ..registry import RegistryError, load
    from ..supervisor.journal import read_session

    journal = paths.journal_db(paths.locate())
    try:
        row = read_session(journal, session_id)
        harness = load(row.record.spec.harness) if row is not None else None
    except sqlite3.Error as error:
        fail(Exit.FAILED, f"{journal} cannot be read: {error}")
    except RegistryError as error:
        fail(Exit.FAILED, str(error))
    if row is None or harness is None:
        fail(Exit.NOT_FOUND, f"{name} has just ended")
    if type(harness).view is Harness.view:
        return None
    if row.live.conversation is None:
        fail(Exit.CONFLICT, f"{name} is still starting: try again in a moment")
    return harness, replace(row.record.spec, conversation=row.live.conversation)


__all__ = ["look"]
