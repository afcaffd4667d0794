"""Commands that show what sessions do: events, logs."""

from __future__ import annotations

import codecs
import json as json_module
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from .. import paths
from ..visible_text import VisibleText
from . import output
from .control import supervisor
from .failure import Exit, fail
from .options import AsJson, SessionName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..control_answers import Event

#: How long `events --follow` waits for a supervisor that went away: a restart takes a second.
COME_BACK_S = 15.0
#: Between attempts to connect again.
RECONNECT_S = 0.25

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")]


def events(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only of this session.")
    ] = None,
    follow: Follow = False,
    since: Annotated[int, typer.Option(min=0, help="Only after this cursor.")] = 0,
    json: AsJson = False,
) -> None:
    """Show what sessions did, oldest first; with --json one object a line, with its cursor."""
    for event in stream(name, since, follow=follow):
        if json:
            output.say_json(event, compact=True)
        else:
            output.say(_line(event))
        sys.stdout.flush()


def logs(
    name: SessionName,
    follow: Follow = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Its error output instead.")] = False,
    json: AsJson = False,
) -> None:
    """Show what a session's process wrote, as it wrote it when piped."""
    stream = "err" if stderr else "out"
    with supervisor() as control:
        write = _writer(stream, json)
        for data in control.logs(name, stream=stream, follow=follow):
            write(data)
            sys.stdout.flush()


def stream(name: str | None, since: int, *, follow: bool) -> Iterator[Event]:
    """Events, also across a restart of the supervisor: the cursor says where to go on."""
    from ..control_client import NotRunning, Unavailable

    connected = False
    with supervisor() as control:
        while True:
            try:
                for event in control.events(session=name, since=since, follow=follow):
                    connected, since = True, event["cursor"]
                    yield event
                connected = True
            except Unavailable as error:
                if not follow or (isinstance(error, NotRunning) and not connected):
                    raise
            if not follow:
                return
            if not _comes_back():
                fail(Exit.UNAVAILABLE, f"the supervisor is gone: go on later with --since {since}")


def _comes_back() -> bool:
    from .launch import is_listening

    deadline = time.monotonic() + COME_BACK_S
    while time.monotonic() < deadline:
        time.sleep(RECONNECT_S)
        if is_listening(paths.locate()):
            return True
    return False


def _line(event: Event) -> str:
    """One line for people: when, who, what, and the details that fit."""
    details = " ".join(
        f"{key}={_plain(value)}" for key, value in event["data"].items() if value not in (None, "")
    )
    head = f"{event['cursor']:>6}  {output.clock(event['at'])}  {output.one_line(event['name'])}"
    return f"{head}  {event['type']}  {output.one_line(details)}".rstrip()


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json_module.dumps(value)


def _writer(stream: str, json: bool) -> Callable[[bytes], None]:
    """How log bytes go out: as they are when piped, as text on a terminal, or as JSON lines."""
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    visible = VisibleText()

    def raw(data: bytes) -> None:
        sys.stdout.buffer.write(data)

    def terminal(data: bytes) -> None:
        sys.stdout.write(visible.feed(decode(data)))

    def lines(data: bytes) -> None:
        if text := decode(data):
            output.say_json({"stream": stream, "text": text}, compact=True)

    return lines if json else terminal if sys.stdout.isatty() else raw


__all__ = ["VisibleText", "events", "logs", "stream"]
