"""The keys that detach, found in what a terminal sends. Pure.

Keys come in more than one spelling: as a control character, and, once a program has asked for it,
in the kitty keyboard protocol (`CSI 92;5u`) or in xterm's modifyOtherKeys (`CSI 27;5;92~`). What
stands inside of a paste is text, never a key.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_KEYS = "ctrl-\\,ctrl-d"
PASTE_BEGIN, PASTE_END = b"\x1b[200~", b"\x1b[201~"

_CSI = re.compile(rb"\x1b\[(?P<arguments>[0-?]*)[ -/]*(?P<final>[@-~])")
_PARTIAL_CSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*)?\Z")
#: Lock keys (caps, num) are reported as modifiers and do not make it another key.
_LOCKS = 0b1100_0000
_CTRL = 4
#: A longer sequence is no key.
_LONGEST = 64
#: How long an Escape may be the beginning of a longer key: terminals send those in one piece.
ESCAPE_S = 0.025
#: A paste comes without a pause. One that pauses for so long has lost its end on the way, and must
#: not keep the keys that detach from being keys.
PASTE_S = 1.0


class BadKeys(ValueError):
    """Raised for a chord that cannot be used; the message says what one looks like."""


class Typed(NamedTuple):
    """What goes to the program, and whether the chord was completed after it."""

    data: bytes
    detach: bool = False


def parse_keys(text: str) -> tuple[int, ...]:
    """Control characters of a chord such as `ctrl-\\,ctrl-d`. Raises `BadKeys`."""
    found = []
    for key in text.split(","):
        name = key.strip().lower()
        letter = name.removeprefix("ctrl-")
        if name == letter or len(letter) != 1 or not ("a" <= letter <= "z" or letter in "\\]^_@"):
            raise BadKeys(
                f"{text!r} is no chord: name keys like {DEFAULT_KEYS}, each ctrl- and a letter"
                " or one of \\ ] ^ _ @"
            )
        found.append(ord(letter.upper()) & 0x1F)
    return tuple(found)


def show_keys(keys: tuple[int, ...]) -> str:
    """As people read it: `Ctrl-\\ Ctrl-D`."""
    return " ".join(f"Ctrl-{chr(key | 0x40)}" for key in keys)


class Chord:
    """Feed it what the terminal sends. Keys that begin the chord wait for the next one."""

    def __init__(self, keys: tuple[int, ...]) -> None:
        self._keys = keys
        self._held = b""  # the beginning of the chord, as it was typed
        self._matched = 0
        self._rest = b""  # of a sequence that is not complete
        self._pasting = False

    @property
    def waits(self) -> float | None:
        """For how many seconds more may follow, until `flush` is called; None: for ever."""
        if self._pasting:
            return PASTE_S
        return ESCAPE_S if self._rest else None

    def feed(self, data: bytes) -> Typed:
        """Nothing after a completed chord is given out."""
        data = self._rest + data
        self._rest = b""
        out = bytearray()
        at = 0
        while at < len(data):
            token = self._token(data, at)
            if token is None:
                self._rest = data[at:]
                break
            at += len(token)
            if self._take(token, out):
                return Typed(bytes(out), detach=True)
        return Typed(bytes(out))

    def flush(self) -> bytes:
        """Nothing followed: a sequence that did not go on was a key of its own, Escape; a paste that
        did not go on is over."""
        rest, self._rest = self._rest, b""
        out = bytearray()
        for at in range(len(rest)):
            self._take(rest[at : at + 1], out)
        self._pasting = False
        return bytes(out)

    def _token(self, data: bytes, at: int) -> bytes | None:
        """One key or byte; None when more has to come first."""
        if data[at] != 0x1B:
            return data[at : at + 1]
        if (found := _CSI.match(data, at)) is not None:
            return found[0]
        if len(data) - at < _LONGEST and _PARTIAL_CSI.match(data, at):
            return None
        return data[at : at + 1]

    def _take(self, token: bytes, out: bytearray) -> bool:
        if token in (PASTE_BEGIN, PASTE_END):
            self._pasting = token == PASTE_BEGIN
        key = None if self._pasting else _control(token)
        if key is not None and key == self._keys[self._matched]:
            self._matched += 1
            self._held += token
            return self._matched == len(self._keys)
        if self._held and _is_release(token):
            self._held += token  # letting go of a key is not another key
            return False
        repeats = key is not None and self._held != b"" and key == self._keys[0]
        held, self._held = self._held, b""
        self._matched = 0
        if repeats:
            out += held  # typed twice: once to the program, without a second wait
            return False
        out += held + token
        return False


def _control(token: bytes) -> int | None:
    """The control character that a key stands for; None for every other key."""
    if len(token) == 1:
        return token[0] if token[0] < 0x20 and token[0] != 0x1B else None
    found = _CSI.match(token)
    if found is None or _is_release(token):
        return None
    fields = [field.split(b":")[0] for field in found["arguments"].split(b";")]
    if found["final"] == b"u" and len(fields) >= 2:
        code, modifiers = fields[0], fields[1]
    elif found["final"] == b"~" and len(fields) == 3 and fields[0] == b"27":
        modifiers, code = fields[1], fields[2]
    else:
        return None
    if not code.isdigit() or not modifiers.isdigit():
        return None
    if (int(modifiers) - 1) & ~_LOCKS != _CTRL or not 0x40 <= int(code) < 0x80:
        return None
    return ord(chr(int(code)).upper()) & 0x1F


def _is_release(token: bytes) -> bool:
    """The kitty protocol can also report that a key was let go."""
    found = _CSI.match(token)
    if found is None:
        return False
    fields = found["arguments"].split(b";")
    return len(fields) >= 2 and fields[1].endswith(b":3")


__all__ = [
    "DEFAULT_KEYS",
    "ESCAPE_S",
    "PASTE_S",
    "BadKeys",
    "Chord",
    "Typed",
    "parse_keys",
    "show_keys",
]
