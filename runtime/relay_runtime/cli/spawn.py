"""The command that starts a session: flags and profile into one request, then wait until ready."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import output
from .caller import environment, working_directory
from .control import supervisor
from .failure import Exit, fail
from .options import AsJson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from relay_profiles.resolve import Resolved

    from ..control_answers import Session

#: How long a harness may take to become ready before `spawn` gives up waiting (not the session).
READY_S = 60.0
#: Longest wait that the supervisor accepts.
MAX_WAIT_S = 600.0


def spawn(
    harness: Annotated[
        str | None, typer.Argument(help="claude, codex, opencode, command: see `harnesses`.")
    ] = None,
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- ARGS", help="For the harness's command line; for `command` the program."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the session.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile name, or path to a file.")] = None,
    mode: Annotated[
        Literal["headless", "pty"] | None, typer.Option(help="How the harness runs.")
    ] = None,
    cwd: Annotated[str | None, typer.Option(help="Working directory; default: this one.")] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Add to the environment.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model, as the harness spells it.")] = None,
    task: Annotated[str | None, typer.Option(help="First message of the session.")] = None,
    approval: Annotated[
        Literal["open", "guarded", "read-only"] | None,
        typer.Option(help="How far the agent may go without asking."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Target `label:…` of messages.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Target `tag:…`; repeatable.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is ready.")] = True,
    timeout: Annotated[
        float, typer.Option(min=0, max=MAX_WAIT_S, help="Seconds to wait until it is ready.")
    ] = READY_S,
    json: AsJson = False,
) -> None:
    """Start an agent session, with this environment and working directory."""
    with _profile_errors():
        from relay_profiles.model import Approval, Mode
        from relay_profiles.resolve import Flags, resolve

        caller = environment()
        flags = Flags(
            profile=profile,
            harness=harness,
            mode=Mode(mode) if mode else None,
            model=model,
            cwd=cwd,
            env=dict(_assignment(pair) for pair in env or ()),
            args=() if harness == "command" else tuple(args or ()),
            task=task,
            label=label,
            tags=tuple(tag) if tag else None,
            approval=Approval(approval) if approval else None,
        )
        settings = resolve(flags, caller, working_directory())
    program = tuple(args or ()) if harness == "command" else ()
    request = _request(settings, name, program or settings.argv, caller)
    wait_s = timeout if wait else 0.0
    starting = output.progress(f"starting {name or settings.harness}", shown=wait and not json)
    with starting, supervisor(start=True) as control:
        session = control.spawn(request, wait_s)
    report(session, wait_s, json)


def _request(
    settings: Resolved, name: str | None, argv: tuple[str, ...], caller: Mapping[str, str]
) -> dict[str, object]:
    """A `control_types.Spawn`, checked as far as it can be without the supervisor."""
    if settings.harness is None:
        fail(Exit.USAGE, "name a harness, or a profile that has one: see `relay-runtime harnesses`")
    if settings.harness == "command" and not argv:
        fail(Exit.USAGE, "name a program: relay-runtime spawn command -- PROGRAM ARGS")
    if not os.path.isdir(settings.cwd):
        fail(Exit.USAGE, f"there is no folder {settings.cwd} to work in")
    return {
        "harness": settings.harness,
        "name": name,
        "mode": settings.mode,
        "cwd": settings.cwd,
        "environ": {**caller, **settings.env},
        "model": settings.model,
        "approval": settings.approval,
        "instructions": settings.instructions,
        "args": settings.args,
        "argv": argv,
        "task": settings.task,
        "label": settings.label,
        "tags": settings.tags,
        "capabilities": settings.capabilities,
        "channels": settings.channels,
        "meta": settings.meta,
        "profile": settings.profile,
        "restart": settings.restart.model_dump(mode="json"),
        "stop": settings.stop.model_dump(mode="json"),
        "limits": settings.limits.model_dump(mode="json"),
        "options": settings.options,
    }


def report(session: Session, wait_s: float, json: bool) -> None:
    """A session that was just started, as far as it has come. Raises `Failure` if not far enough."""
    if json:
        output.say_json(session)
    else:
        pid = f", pid {session['pid']}" if session["pid"] else ""
        what = f"{session['harness']}, {session['mode']}{pid}"
        output.say(f"{session['name']}: {output.state(session['state'])} ({what})")
    if session["state"] == "exited":
        fail(Exit.FAILED, f"{session['name']} has ended: {session['reason'] or 'without a reason'}")
    if session["state"] == "starting" and wait_s:
        more = f"relay-runtime logs {session['name']}"
        fail(Exit.TIMEOUT, f"{session['name']} is not ready after {wait_s:g} s: see `{more}`")


def _assignment(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        fail(Exit.USAGE, f"--env takes NAME=VALUE, not {pair!r}")
    return name, value


@contextmanager
def _profile_errors() -> Iterator[None]:
    from relay_profiles.errors import ProfileError

    try:
        yield
    except ProfileError as error:
        fail(Exit.USAGE, str(error))


__all__ = ["READY_S", "report", "spawn"]
