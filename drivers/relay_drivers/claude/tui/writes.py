"""The writes of ours into a Claude that gives its input no ids: known by what they say.

Before a byte goes out, a print of the text is written to a file of the session's folder, with the
byte of Claude's record from which on it can stand there. So whoever comes after a crash, of the
supervisor, of Claude, or of both, can decide from the record alone whether the text is in it.
White space counts for nothing, nor does what has no width: Claude trims the one, takes out the other,
makes blanks of tabs, composes letters, and wraps long pastes in a tag.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator


#: One is open at a time; the older ones are there for who asks again.
MAX_WRITES: Final = 16
#: Of a text: where it could begin in another one is looked for by this much of it.
_HEAD: Final = 48
_UNSEEN: Final = re.compile(
    "[\\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_NAME: Final = "claude-writes.json"


class Way(StrEnum):
    KEYS = "keys"
    WAKE = "wake"


@dataclass(frozen=True, slots=True)
class Print:
    """Of a text: how it begins, its size and SHA-256, all without white space."""

    head: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Write:
    """`hooks` is how far the hooks log was read when it was made, `record` and `mark` where to look
    for it; `at` is seconds since the epoch, `agent` the process that was to take it, and `waiter` its
    hook."""

    write_id: str
    text: Print
    way: Way
    seq: int
    hooks: int
    record: str
    mark: int
    at: float
    agent: str
    stashed: bool = False  #: a draft was put aside: Claude puts it into the box once this is sent
    waiter: int | None = None
    proof: str | None = None  #: the line of the record that has it
    turn: str | None = None


def squeeze(text: str) -> str:
    return unicodedata.normalize("NFC", _UNSEEN.sub("", text))


def print_of(text: str) -> Print:
    squeezed = squeeze(text)
    return Print(squeezed[:_HEAD], len(squeezed), _digest(squeezed))


def holds(said: str, text: Print) -> bool:
    """Whether `said` contains the text."""
    if not text.size:
        return False
    squeezed = squeeze(said)
    return any(_digest(squeezed[at : at + text.size]) == text.digest for at in _at(squeezed, text))


def _at(squeezed: str, text: Print) -> Iterator[int]:
    at = squeezed.find(text.head)
    while at >= 0 and at + text.size <= len(squeezed):
        yield at
        at = squeezed.find(text.head, at + 1)


def _digest(squeezed: str) -> str:
    return hashlib.sha256(squeezed.encode("utf-8", "replace")).hexdigest()


class Writes:
    """Those of one session, over every run of its agent. Raises `OSError` when they cannot be kept."""

    def __init__(self, state_dir: str) -> None:
        self._file = Path(state_dir, _NAME)
        self._known: dict[str, Write] = {}
        try:
            self._known = _WRITES.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            pass

    def get(self, write_id: str) -> Write | None:
        return self._known.get(write_id)

    @property
    def open(self) -> list[Write]:
        """Those without a proof."""
        return [write for write in self._known.values() if write.proof is None]

    def keep(self, write: Write) -> None:
        """On disk when this returns."""
        self._known.pop(write.write_id, None)
        self._known[write.write_id] = write
        while len(self._known) > MAX_WRITES:
            del self._known[next(iter(self._known))]
        saved = {write_id: asdict(known) for write_id, known in self._known.items()}
        new = self._file.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, json.dumps(saved).encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        new.replace(self._file)


_WRITES: Final = TypeAdapter(dict[str, Write])

__all__ = ["Print", "Way", "Write", "Writes", "holds", "print_of", "squeeze"]
