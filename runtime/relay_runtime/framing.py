"""Relay text as an agent sees it: who said it, and nothing that could be anything but text.

Pure. What is done here is right for every harness; what only one of them would misread (an `@path`,
a slash) is neutralised in its driver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# C0 except tab and newline, DEL, C1: terminals and editors act on them, models do not need them.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Embedding, override and isolate marks make text read differently from what it is. Shown, not kept.
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Blanks, and characters that are drawn as nothing: no reader of a line sees them.
_UNSEEN = (
    "[\t \xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    "\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)
# A line of a body that looks like our frame could end it early or forge another sender.
_FRAME = re.compile(
    f"(?im)^(?={_UNSEEN}\\[{_UNSEEN}(?:{_UNSEEN.join('endof')}{_UNSEEN})?{_UNSEEN.join('relay')}\\b)"
)


@dataclass(frozen=True, slots=True)
class Framed:
    """The parts of a message that an agent is shown."""

    message_id: int
    sender: str
    body: str
    thread_id: int | None = None


def clean(text: str) -> str:
    """`text` with every control character gone and line ends as `\\n`."""
    text = re.sub("\r\n|[\r\u2028\u2029]", "\n", text)
    text = _CONTROL.sub("", text)
    return _BIDI.sub(lambda m: f"<U+{ord(m[0]):04X}>", text)


def frame(message: Framed) -> str:
    """One message with its provenance before and after it."""
    sender = re.sub(r"[\s\[\]]+", " ", clean(message.sender)).strip() or "unknown"
    thread = f" thread {message.thread_id}" if message.thread_id is not None else ""
    body = _FRAME.sub("| ", clean(message.body))
    head = f"[relay msg {message.message_id} from {sender}{thread}]"
    return f"{head}\n{body}\n[end of relay msg {message.message_id}]"


__all__ = ["Framed", "clean", "frame"]
