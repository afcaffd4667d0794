"""A message as what is typed into Claude's input box, such that it can only be text. Pure.

In the box a text that begins with `/` is a command, one with `!` runs in a shell, `exit` ends the
session, a backslash at the end keeps Enter from sending it, and the end of a paste may stand in the
text itself. A frame around the message prevents most of that; a session's first task has none.
"""

from __future__ import annotations

import re
from typing import Final

PASTE_BEGIN: Final = "\x1b[200~"
PASTE_END: Final = "\x1b[201~"
ENTER: Final = "\r"
ESCAPE: Final = "\x1b"
BACKSPACE: Final = "\x7f"

#: BRAILLE PATTERN BLANK: drawn as a blank, and neither white space nor of no width. Claude 2.1.330
#: takes everything of no width out of what is typed.
GUARD: Final = "\u2800"
#: Claude attaches the file behind an `@` that is not inside a word.
_MENTION: Final = re.compile(r"(?<!\w)@")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: At the beginning of an input these do something.
_COMMANDS: Final = re.compile(r"\s*[/!#&]|\s*:?(?:exit|quit|q|q!|wq|wq!)\s*\Z", re.IGNORECASE)

#: Between the paste and Enter: with less, Claude takes Enter for a part of the paste.
ENTER_MS: Final = 100
#: … and so much longer for a large paste, up to what one `type` may take.
MS_PER_KB: Final = 1
MAX_ENTER_MS: Final = 1900

#: A key is a sequence of a terminal, or a character.
_KEY: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)|.", re.DOTALL)
#: Dialogues lose keys that come in one piece.
_KEY_MS: Final = 120
#: As many as fit into one `type`.
_MAX_KEYS: Final = 16


def plain(text: str) -> str:
    """`text` without anything that Claude would act upon."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _MENTION.sub(GUARD + "@", text)
    if _COMMANDS.match(text):
        text = GUARD + text
    return text + GUARD if text.rstrip().endswith("\\") else text


def paste(text: str) -> list[tuple[str, int]]:
    """The steps that put `text`, which is plain, into an empty box and send it."""
    pause = min(ENTER_MS + MS_PER_KB * (len(text) // 1024), MAX_ENTER_MS)
    return [(PASTE_BEGIN + text + PASTE_END, pause), (ENTER, 0)]


def interrupt(*, empty: bool) -> list[tuple[str, int]]:
    """The steps that stop a turn. An interrupt before the first word of an answer takes the message
    out of the conversation and puts it into the box, unless something stands there."""
    if not empty:
        return [(ESCAPE, 0)]
    return [(" ", _KEY_MS), (ESCAPE, _KEY_MS), (BACKSPACE, 0)]


def strokes(keys: str) -> list[tuple[str, int]]:
    """The steps that press each key of `keys`. Those beyond what one `type` may have go together."""
    pressed = _KEY.findall(keys)
    pressed[_MAX_KEYS - 1 :] = ["".join(pressed[_MAX_KEYS - 1 :])] * (len(pressed) >= _MAX_KEYS)
    return [(key, _KEY_MS) for key in pressed]


__all__ = ["ENTER", "GUARD", "interrupt", "paste", "plain", "strokes"]
