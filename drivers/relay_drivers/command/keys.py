"""Text as keystrokes, such that it can only be text. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .options import Options

PASTE_BEGIN, PASTE_END = b"\x1b[200~", b"\x1b[201~"

# The runtime has cleaned what it frames. Once more here, because here a control byte is a key.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL_BYTE = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_SPACE = re.compile(r"\s+")

#: As much of a text's beginning and end as is looked for in the echo. The frame's head with the
#: message's number fits, and so does its foot.
HEAD_CHARS = 40
TAIL_CHARS = 24


class Untypable(ValueError):
    """Raised for a text that cannot be typed; the message is for its sender."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What is written: `text`, then `enter` by itself (None: it is in `text`).

    `head` and `tail` are how the beginning and the end of it look in an echo, without white space,
    since programs wrap and indent, and without what is drawn as nothing, since some leave that out
    and some show a mark in its place; `size` is how many characters the whole of it has at least.
    """

    text: bytes
    enter: bytes | None
    head: str
    tail: str
    size: int


def keys(text: str, options: Options, *, paste: bool) -> Keys:
    """`text` as one input: as a bracketed paste, or as one line. Raises `Untypable`."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip("\n")
    if not paste:
        # A newline would submit and a tab would complete.
        text = text.replace("\n", " ⏎ " if options.encoding == "utf-8" else " ").replace("\t", " ")
    encoded = text.encode(options.encoding, "replace")
    if _CONTROL_BYTE.search(encoded):
        raise AssertionError("an encoding that makes control bytes of letters was let through")
    drawn = _runs(squeeze(encoded.decode(options.encoding, "replace")))
    if not drawn:
        raise Untypable("nothing is left of it without control characters and white space")
    head, tail, size = drawn[0][:HEAD_CHARS], drawn[-1][-TAIL_CHARS:], sum(map(len, drawn))
    enter = options.submit.encode(options.encoding)
    if paste:
        return Keys(PASTE_BEGIN + encoded + PASTE_END, enter, head, tail, size)
    if len(encoded) + len(enter) > options.line_bytes:
        raise Untypable(
            f"{len(encoded)} bytes, and a program that takes no bracketed paste reads a line of "
            f"{options.line_bytes - len(enter)}: send a shorter message"
        )
    return Keys(encoded + enter, None, head, tail, size)


def _runs(text: str) -> list[str]:
    """The parts of `text` between characters that are drawn as nothing."""
    return ["".join(run) for drawn, run in groupby(text, str.isprintable) if drawn]


def squeeze(text: str) -> str:
    """`text` without white space."""
    return _SPACE.sub("", text)


__all__ = ["Keys", "Untypable", "keys", "squeeze"]
