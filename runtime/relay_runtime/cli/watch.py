"""Commands that show what sessions do: events, logs."""

from __future__ import annotations

import codecs
import json as json_module
import re
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from .. import paths
from ..framing import clean
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
#: Text kept back while a sequence may be incomplete; longer ones are cut into what can be shown.
LONGEST_ESCAPE = 4096

# Control sequences, then strings (titles, links, the clipboard) to their end, then the short ones,
# then an ESC that begins nothing.
_ESCAPE = re.compile(
    "\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"
    "|[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)"
    r"|[ -/]+[0-~]"
    r"|[0-OQ-WYZ\\`-~]"
    r"|(?![ -~]|\Z)"
    ")"
)

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
    for event in _events(name, since, follow):
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


def _events(name: str | None, since: int, follow: bool) -> Iterator[Event]:
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


class VisibleText:
    """Takes escape sequences out of a stream of text: they would act on the reader's terminal."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be shown of `text` so far; the start of a sequence waits for its end."""
        text = _ESCAPE.sub("", self._held + text)
        cut = text.find("\x1b", max(0, len(text) - LONGEST_ESCAPE))
        text, self._held = (text, "") if cut < 0 else (text[:cut], text[cut:])
        return clean(text)


__all__ = ["VisibleText", "events", "logs"]
