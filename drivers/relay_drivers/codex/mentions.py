"""What codex would read into the text of a message, and how it is kept text. Pure.

Of everything that people type at codex (slash commands, `!cmd`, `@file`), its app-server acts on one
thing in the text of a turn: `$name` of an installed skill puts the instructions of that skill into
the context. `${name}` is left alone by codex and means the same to a shell and to a reader.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_:-]*"
_PLAIN: Final = re.compile(rf"\$({_NAME})")
# With a link the target decides, whatever the name: `[$anything](path of a skill)`.
_LINKED: Final = re.compile(rf"\[\$({_NAME})(?=\]\s*\()")


def may_mention(text: str) -> bool:
    """Whether `keep_text` has to know the names of the skills."""
    return _PLAIN.search(text) is not None


def keep_text(text: str, skills: Collection[str] | None) -> str:
    """`text` without mentions of `skills`; None: their names are unknown, so any name counts."""

    def plain(found: re.Match[str]) -> str:
        return f"${{{found[1]}}}" if skills is None or found[1] in skills else found[0]

    return _PLAIN.sub(plain, _LINKED.sub(r"[${\1}", text))


__all__ = ["keep_text", "may_mention"]
