"""What people and scripts read. Text of agents and of strangers is shown, never obeyed."""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..framing import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import TextIO

#: Longest text in a line for people; `--json` has all of it.
MAX_CELL = 160

COLOURS = {
    "idle": "32",
    "delivered": "32",
    "busy": "36",
    "accepted": "36",
    "starting": "36",
    "waiting": "33",
    "drafting": "33",
    "held": "33",
    "deferred": "33",
    "unsure": "33",
    "exited": "2",
    "failed": "31",
}


def say(text: str) -> None:
    """A line of result."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A line beside the result, for people: stderr, so that it never mixes into what is piped."""
    sys.stderr.write(text + "\n")


def progress(text: str, *, shown: bool = True) -> AbstractContextManager[object]:
    """A moving line on stderr while there is nothing to read yet; only on a terminal."""
    if not shown or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console(stderr=True).status(Text(one_line(text)))


def say_json(value: object, *, compact: bool = False) -> None:
    """`value` as ASCII JSON: no control or direction character reaches a terminal through it.

    `compact`: one line, for streams.
    """
    say(json.dumps(value, indent=None if compact else 2))


def one_line(text: str, limit: int = MAX_CELL) -> str:
    """`text` without control characters, on one line, cut to `limit` characters."""
    flat = " ".join(clean(text[: 4 * limit]).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def coloured(stream: TextIO) -> bool:
    """Whether colours belong on this stream: a terminal, and the user has not said no."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and stream.isatty()


def state(word: str) -> str:
    """A state or receipt status in its colour."""
    colour = COLOURS.get(word)
    return f"\x1b[{colour}m{word}\x1b[0m" if colour and coloured(sys.stdout) else word


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns, two spaces apart, never cut: what is piped must be whole."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def age(since: float, now: float | None = None) -> str:
    """How long ago, in the largest whole unit."""
    seconds = max(0, int((time.time() if now is None else now) - since))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def clock(at: float) -> str:
    """A time of day here, with milliseconds."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"


def _width(cell: str) -> int:
    """Columns on a terminal: colours take none, wide characters two."""
    width = skip = 0
    for char in cell:
        if char == "\x1b":
            skip = 1
        elif skip:
            skip = char != "m"
        elif not unicodedata.combining(char):
            width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return width


__all__ = [
    "age",
    "clock",
    "coloured",
    "note",
    "one_line",
    "say",
    "say_json",
    "state",
    "table",
]
