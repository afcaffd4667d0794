"""Commands on the supervisor itself: up, down, status; and the relay alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import paths
from . import output
from .control import supervisor
from .failure import Exit, fail
from .options import AsJson, Force

if TYPE_CHECKING:
    from pathlib import Path

    from ..control_answers import Status

#: From the supervisor's answer to `down` until its process is gone. It has ended all it had to.
GONE_S = 15.0


def up(json: AsJson = False) -> None:
    """Start the supervisor in the background, unless it runs."""
    from .launch import ensure_supervisor

    started = ensure_supervisor(paths.home())
    with supervisor() as control:
        status = control.status()
    if json:
        output.say_json({"started": started, "running": True, **status})
    else:
        output.say(f"{'started' if started else 'already running'}: {_describe(status)}")


def down(
    everything: Annotated[
        bool, typer.Option("--all", help="End all sessions too; without it they live on.")
    ] = False,
    force: Force = False,
    json: AsJson = False,
) -> None:
    """Stop the supervisor, and with --all every session; returns when they are gone."""
    ending = "ending all sessions" if force else "ending all sessions after their running turns"
    with output.progress(ending, shown=everything and not json):
        pid = _stop(everything, force)
    if json:
        output.say_json({"stopped": pid is not None, "pid": pid})
    elif pid is None:
        output.say("no supervisor runs")
    else:
        rest = "all sessions ended" if everything else "sessions live on"
        output.say(f"stopped (pid {pid}); {rest}")


def status(json: AsJson = False) -> None:
    """Show whether the supervisor runs, since when, and with what."""
    found = _status()
    if json:
        home = str(paths.locate())
        output.say_json({"running": True, **found} if found else {"running": False, "home": home})
    elif found:
        output.say(_describe(found))
    if not found:
        fail(Exit.UNAVAILABLE, "no supervisor runs: start one with `relay-runtime up`")


def _status() -> Status | None:
    from ..control_client import NotRunning

    with supervisor() as control:
        try:
            return control.status()
        except NotRunning:
            return None


def _stop(everything: bool, force: bool) -> int | None:
    """The pid of the supervisor that was stopped, None when none ran and nothing was left."""
    from .launch import wait_gone

    home = paths.locate()
    found = _status()
    if found is None and not (everything and _has_sessions(home)):
        return None
    # Sessions outlive a supervisor that was killed: only another one can end them properly.
    with supervisor(start=found is None) as control:
        pid = control.status()["pid"]
        control.down(all_sessions=everything, force=force)
    if not wait_gone(pid, GONE_S):
        log = paths.supervisor_log(home)
        fail(Exit.TIMEOUT, f"the supervisor (pid {pid}) was told to stop and still runs: see {log}")
    return pid


def _has_sessions(home: Path) -> bool:
    """Whether processes of sessions live, though no supervisor does."""
    import json

    from ..processes import holder_alive, marked

    for folder in (home / "sessions").glob("*"):
        try:
            meta = json.loads((folder / "meta.json").read_bytes())
        except (OSError, ValueError):
            meta = {}
        if holder_alive(meta) or marked(folder.name):
            return True
    return False


def _describe(status: Status) -> str:
    count = sum(status["sessions"].values())
    states = ", ".join(f"{number} {state}" for state, number in status["sessions"].items())
    sessions = f"{count} session{'' if count == 1 else 's'}" + (f" ({states})" if states else "")
    where = "embedded" if status["relay_embedded"] else "remote"
    return (
        f"supervisor {status['version']}, pid {status['pid']}, up {output.age(status['since'])}, "
        f"{sessions}, {where} relay {status['relay_url']}, {status['rss_bytes'] / 1e6:.0f} MB, "
        f"home {status['home']}"
    )


__all__ = ["down", "status", "up"]
