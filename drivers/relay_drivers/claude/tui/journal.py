"""Claude's record of the conversation, read as it grows; and looked through for a write."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import anyio

from . import record
from .writes import Print, holds

if TYPE_CHECKING:
    from .record import Line

#: Claude writes its record in batches of 100 ms. What is not there after this never was.
FLUSH_S: Final = 0.4
#: Read at once: the record of a long conversation has tens of MB.
_BLOCK: Final = 4 * 1024 * 1024
#: When a line was written comes last in it.
_STAMP: Final = re.compile(rb'"timestamp":"([^"]+)"')


async def since(path: str, at: int) -> tuple[list[Line], int]:
    """What the complete lines from byte `at` on say, and the byte after them."""
    if not path or size(path) <= at:
        return [], at
    return await anyio.to_thread.run_sync(_since, path, at)


def _since(path: str, at: int, *, by_time: bool = False) -> tuple[list[Line], int]:
    """`by_time`: an older Claude writes the answer of its first turn before what was asked."""
    found: list[tuple[bytes, Line]] = []
    last = b""
    with open(path, "rb") as file:
        file.seek(at)
        data = file.read(_BLOCK)
        while b"\n" not in data and (more := file.read(_BLOCK)):
            data += more
    end = data.rfind(b"\n") + 1
    for line in data[:end].split(b"\n"):
        last = stamps[-1] if (stamps := _STAMP.findall(line)) else last
        if (said := record.read(line)) is not None:
            found.append((last, said))
    if by_time:
        found.sort(key=itemgetter(0))
    return [said for _, said in found], at + end


def has_begun(path: str) -> bool:
    """Whether somebody has said something. A title and modes are written before that, and Claude
    neither resumes such a record nor starts another conversation under its name."""
    with open(path, "rb") as file:
        return any(b'"type":"user"' in line or b'"type":"assistant"' in line for line in file)


@dataclass(frozen=True, slots=True)
class Found:
    """The line that has a text, and the turn that it opened; `answered`: something followed in that
    turn. Until then an interrupt takes the text out again, and the line stays."""

    line: str
    turn: str | None
    answered: bool
    taken_back: bool = False  #: something else was sent after it


async def find(path: str, mark: int, text: Print) -> Found | None:
    return await anyio.to_thread.run_sync(_find, path, mark, text)


def _find(path: str, mark: int, text: Print) -> Found | None:
    at, found = mark, None
    while True:
        try:
            lines, end = _since(path, at, by_time=True)
        except FileNotFoundError:
            return None
        for line in lines:
            match line:
                case record.Prompt(uuid, prompt, said, opens=True) if holds(said, text):
                    found = Found(uuid, prompt, answered=False)
                case record.Prompt(prompt=prompt, opens=True) if found and prompt != found.turn:
                    found = replace(found, taken_back=True)
                case record.Absorbed(uuid, said) if holds(said, text):
                    return Found(uuid, None, answered=True)
                case record.Interrupted() | record.Done() | record.Results():
                    if found is not None and not found.taken_back:
                        return replace(found, answered=True)
                case record.Said(synthetic=synthetic, error=error):
                    meant = not synthetic or error is not None
                    if found is not None and not found.taken_back and meant:
                        return replace(found, answered=True)
        if end == at:
            return found
        at = end


async def has_input(path: str, mark: int) -> bool:
    """Whether anything was sent to Claude since."""
    return await anyio.to_thread.run_sync(_has_input, path, mark)


def _has_input(path: str, mark: int) -> bool:
    at = mark
    while True:
        try:
            lines, end = _since(path, at)
        except FileNotFoundError:
            return False
        if any(isinstance(line, record.Prompt) and line.opens for line in lines):
            return True
        if end == at:
            return False
        at = end


def size(path: str) -> int:
    """Of the record in bytes; 0 before there is one."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


__all__ = ["FLUSH_S", "Found", "find", "has_input", "since", "size"]
