"""The command that joins what the user has started by hand, so that it gets messages too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from ..contract import DriverError, StartFailed
from . import output
from .caller import environment
from .control import supervisor
from .failure import Exit, fail
from .options import AsJson
from .spawn import READY_S, report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..contract import Running

#: Candidates shown, each on a line of its own.
MAX_SHOWN = 20


def adopt(
    harness: Annotated[str, typer.Argument(help="What you have started: codex.")],
    thread: Annotated[
        str | None, typer.Option(metavar="ID", help="Which conversation, when several are open.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the session.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="SOCKET", help="Where its server listens; default: as `codex` has it."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Join a session that you have started by hand: it gets messages at turn boundaries.

    It stays yours: `release` only leaves it, and it ends when you end it.
    """
    caller = environment()
    chosen = _choose(harness, _open(harness, caller, at), thread)
    with output.progress(f"joining {harness}", shown=not json), supervisor(start=True) as control:
        for session in control.sessions():
            if session["harness"] == harness and session["conversation"] == chosen.conversation:
                fail(
                    Exit.CONFLICT, f"that is the session {output.one_line(session['name'])} already"
                )
        request: dict[str, object] = {
            "harness": harness,
            "name": name,
            "mode": "headless",
            "cwd": chosen.cwd,
            "environ": caller,
            "options": chosen.options,
            # What ends and starts again is our part of it: the agent has lost nothing.
            "restart": {"continue_turn": False},
        }
        joined = control.spawn(request, READY_S)
    # It has joined once it knows the conversation, whatever that is doing.
    report(joined, 0.0 if joined["conversation"] else READY_S, json)


def _open(harness: str, caller: Mapping[str, str], at: str | None) -> Sequence[Running]:
    from ..registry import RegistryError, UnknownHarness, load

    try:
        return anyio.run(load(harness).running, caller, at)
    except UnknownHarness as error:
        fail(Exit.USAGE, str(error))
    except RegistryError as error:
        fail(Exit.FAILED, str(error))
    except StartFailed as error:
        fail(Exit.NOT_FOUND, str(error))
    except DriverError as error:
        fail(Exit.CONFLICT, str(error))


def _choose(harness: str, found: Sequence[Running], thread: str | None) -> Running:
    """The one that is meant. `thread` may be the beginning of an id."""
    fitting = [one for one in found if one.conversation.startswith(thread or "")]
    if len(fitting) == 1:
        return fitting[0]
    if not found:
        fail(Exit.NOT_FOUND, f"{harness} runs, but no conversation is open in it: open one")
    for one in (fitting or found)[:MAX_SHOWN]:
        title = output.one_line(one.title or "(nothing said yet)")
        output.note(f"  {one.conversation}  {title}  {output.one_line(one.cwd)}")
    if not fitting:
        fail(Exit.NOT_FOUND, f"no conversation {thread} is open in {harness}; these are")
    fail(Exit.NOT_FOUND, f"{len(fitting)} conversations are open in {harness}: choose by --thread")


__all__ = ["adopt"]
