"""Commands on running sessions: ps, interrupt, pause, resume, approve, deny, release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .control import supervisor
from .options import AsJson, Force, SessionName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..control_answers import Session, Usage

_COLUMNS = ("NAME", "HARNESS", "MODE", "STATE", "FOR", "QUEUED", "TURNS", "TOKENS", "PID", "NOTE")


RequestId = Annotated[
    str | None,
    typer.Argument(
        metavar="REQUEST", help="Which one, when several are open; `ps --json` has ids."
    ),
]


def ps(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also sessions that have ended.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List sessions and what each is doing."""
    found = _sessions(everything)
    if json:
        output.say_json(found or [])
    elif found:
        output.say(output.table(_COLUMNS, [_row(one) for one in found]))
    elif found is None:
        output.note("no sessions: no supervisor runs (start one with `relay-runtime up`)")
    else:
        output.note("no sessions: start one with `relay-runtime spawn HARNESS`")


def interrupt(name: SessionName, json: AsJson = False) -> None:
    """Stop the running turn; the session goes on with what waits for it."""
    _act(name, "interrupt", json)


def pause(name: SessionName, json: AsJson = False) -> None:
    """Let messages wait until `resume`. A running turn goes on."""
    _act(name, "pause", json)


def resume(name: SessionName, json: AsJson = False) -> None:
    """Deliver again after `pause`, or try again now after a hold."""
    _act(name, "resume", json)


def approve(
    name: SessionName,
    request: RequestId = None,
    message: Annotated[
        str | None, typer.Option("--message", help="The answer, if it asks.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Allow what a session asks permission for."""
    _answer(name, request, message, json, allow=True)


def deny(
    name: SessionName,
    request: RequestId = None,
    message: Annotated[str | None, typer.Option("--message", help="Tell the agent why.")] = None,
    json: AsJson = False,
) -> None:
    """Refuse what a session asks permission for."""
    _answer(name, request, message, json, allow=False)


def release(
    name: SessionName,
    force: Force = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Told to the senders of what still waits.")
    ] = None,
    json: AsJson = False,
) -> None:
    """End a session after its running turn, with every process it has started."""
    ending = "ending" if force else "ending after the running turn (--force ends it now)"
    with output.progress(f"{name}: {ending}", shown=not json), supervisor() as control:
        session = control.release(name, force=force, reason=reason)
    _show(session, json)


def _answer(
    name: str, request: str | None, message: str | None, json: bool, *, allow: bool
) -> None:
    with supervisor() as control:
        session = control.answer(name, allow=allow, request_id=request, message=message)
    _show(session, json)


def _act(name: str, verb: str, json: bool) -> None:
    with supervisor() as control:
        session = control.act(name, verb)
    _show(session, json)


def _show(session: Session, json: bool) -> None:
    if json:
        output.say_json(session)
    else:
        output.say(f"{session['name']}: {output.state(session['state'])}{_because(session)}")


def _sessions(ended: bool) -> Sequence[Session] | None:
    """None: no supervisor runs."""
    from ..control_client import NotRunning

    with supervisor() as control:
        try:
            return control.sessions(ended=ended)
        except NotRunning:
            return None


def _row(session: Session) -> tuple[str, ...]:
    return (
        output.one_line(session["name"]),
        session["harness"],
        session["mode"],
        output.state(session["state"]),
        output.age(session["since"]),
        str(session["queued"]),
        str(session["usage"]["turns"]),
        _tokens(session["usage"]),
        str(session["pid"] or "-"),
        _note(session),
    )


def _tokens(usage: Usage) -> str:
    cost = "" if usage["cost_usd"] is None else f" ${usage['cost_usd']:.2f}"
    return f"{usage['input_tokens']}/{usage['output_tokens']}{cost}"


def _note(session: Session) -> str:
    if session["waiting"]:
        asked = session["waiting"][0]
        return output.one_line(f"asks: {asked['tool']} {asked['detail']}", 60)
    return output.one_line(_because(session).removeprefix(": "), 60)


def _because(session: Session) -> str:
    reason, retry_at = session["reason"], session["retry_at"]
    if not reason or session["state"] in ("idle", "busy"):
        return ""
    again = f", again at {output.clock(retry_at)[:8]}" if retry_at else ""
    return f": {output.one_line(reason)}{again}"


__all__ = ["approve", "deny", "interrupt", "pause", "ps", "release", "resume"]
