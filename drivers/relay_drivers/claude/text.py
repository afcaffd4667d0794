"""What only Claude Code would misread in a message.

Framed text cannot be a slash command (it starts with our frame), and `!`, `#` and `exit` mean
nothing in headless mode. An `@path` does: the file is read and attached without asking anyone, also
outside the working directory, and `@agent-name` asks for a subagent.
"""

from __future__ import annotations

import re

#: Claude expands an `@` at the start, after whitespace (also U+FEFF) and after `、`. Which other
#: marks count may change with its version, so every `@` that is not inside a word is covered.
_MENTION = re.compile(r"(?<!\w)@")
#: WORD JOINER: invisible, no whitespace, and not part of any path.
_GUARD = "\u2060@"


def neutralise(text: str) -> str:
    """`text` in which no `@` attaches a file or calls an agent."""
    return _MENTION.sub(_GUARD, text)


__all__ = ["neutralise"]
