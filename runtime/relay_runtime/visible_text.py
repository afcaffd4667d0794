"""Text without the escape sequences that would act on a terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .framing import clean

if TYPE_CHECKING:
    from collections.abc import Callable

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


class VisibleText:
    """Takes escape sequences out of a stream of text: they would act on the reader's terminal.

    `act`, when given, is called with each whole sequence.
    """

    def __init__(self, act: Callable[[str], None] | None = None) -> None:
        self._held = ""
        self._act = act

    def feed(self, text: str) -> str:
        """What can be shown of `text` so far; the start of a sequence waits for its end."""
        text = _ESCAPE.sub(self._take, self._held + text)
        cut = text.find("\x1b", max(0, len(text) - LONGEST_ESCAPE))
        text, self._held = (text, "") if cut < 0 else (text[:cut], text[cut:])
        return clean(text)

    def _take(self, found: re.Match[str]) -> str:
        if self._act is not None:
            self._act(found[0])
        return ""


__all__ = ["LONGEST_ESCAPE", "VisibleText"]
