"""A session's screen at some place of its output, kept beside the log in the session's folder.

The log is cut at its beginning when it grows too long. From a checkpoint and what is left of the log
the screen can be made as from all of it, and sooner. Whoever makes the screen of a long log writes
one; the newest counts. One that cannot be read is as good as none.
"""

from __future__ import annotations

import binascii
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ..screen import Saved

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "screen.checkpoint"
_FORMAT = 1
#: Larger than any screen with its scrollback, so whatever it is, it is not ours.
_MAX_BYTES = 64 * 1024 * 1024


def write(session_dir: str, begin: int, offset: int, saved: Saved) -> None:
    """The screen after all output up to `offset` of the run that began at `begin`.

    Atomic. A newer one stays, and so does any where this cannot be written.
    """
    head = {
        "format": _FORMAT,
        "begin": begin,
        "offset": offset,
        "rows": saved.rows,
        "cols": saved.cols,
        "emulator": saved.emulator,
        "state": len(saved.state),
        "crc": binascii.crc32(saved.painting, binascii.crc32(saved.state)),
    }
    data = json.dumps(head).encode() + b"\n" + saved.state + saved.painting
    path = os.path.join(session_dir, NAME)
    fresh = f"{path}.{os.getpid()}"
    if newest(session_dir) >= offset:
        return
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with open(os.open(fresh, flags, 0o600), "wb") as file:
                file.write(data)
            os.replace(fresh, path)
        except OSError:
            os.unlink(fresh)
            raise


def newest(session_dir: str) -> int:
    """The offset of the one that is there, of whichever run; -1 without any."""
    head, _ = _load(session_dir)
    return _number(head, "offset")


def read(session_dir: str, begin: int, end: int) -> tuple[int, Saved] | None:
    """Offset and screen, of the run that began at `begin`, not beyond `end`."""
    head, rest = _load(session_dir)
    offset = _number(head, "offset")
    if head.get("begin") != begin or not begin <= offset <= end:
        return None
    if binascii.crc32(rest) != head.get("crc"):
        return None
    state = _number(head, "state")
    size = _number(head, "rows"), _number(head, "cols")
    return offset, Saved(*size, str(head.get("emulator")), rest[:state], rest[state:])


def _load(session_dir: str) -> tuple[Mapping[str, object], bytes]:
    """What is in front, and what comes after it; empty where there is none of this format."""
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(os.path.join(session_dir, NAME), flags), "rb") as file:
            line, _, rest = file.read(_MAX_BYTES).partition(b"\n")
        head = json.loads(line)
    except (OSError, ValueError):
        return {}, b""
    known = isinstance(head, dict) and head.get("format") == _FORMAT
    return (head, rest) if known else ({}, b"")


def _number(head: Mapping[str, object], name: str) -> int:
    """-1 where there is none."""
    value = head.get(name)
    return value if isinstance(value, int) else -1


__all__ = ["NAME", "newest", "read", "write"]
