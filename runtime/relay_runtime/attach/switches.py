"""What must not reach the terminal of somebody who looks on: switching to the other screen. Pure.

We show the session on the terminal's alternate screen, so that what the person had there is back
when they leave. A program that switches screens itself would end that. Its switches are taken out,
and the screen is painted anew from what the emulator says.
"""

from __future__ import annotations

import re

#: Private modes that are a screen of their own or save the cursor for it.
_SCREENS = {b"47", b"1047", b"1049"}

_SWITCH = re.compile(rb"\x1b(?:\[\?(?P<modes>[0-9;]*)(?P<final>[hl])|c)")
#: The beginning of a sequence or a string, or of a character, at the end of what has come so far.
_PARTIAL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")
_PARTIAL_CHARACTER = re.compile(
    rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z"
)
#: A longer beginning is an image or the clipboard on its way, which is not kept from the terminal.
LONGEST = 4096


class Switches:
    """Takes the switches out of a stream, and gives out whole sequences only.

    So whatever is painted in between never lands in the middle of one.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What may be shown of `data`, and whether the screen has to be painted anew after it."""
        data = self._rest + data
        self._rest = b""
        if (cut := _unfinished(data)) < len(data):
            data, self._rest = data[:cut], data[cut:]
        if b"\x1b" not in data:
            return data, False
        return without_switches(data)


def _unfinished(data: bytes) -> int:
    """Where a sequence or a character begins whose end has not come; else the end of `data`."""
    end = len(data)
    last = data.rfind(b"\x1b", max(0, end - LONGEST))
    if last >= 0:
        # The last one may be the end of a string that began with the one before it.
        before = data.rfind(b"\x1b", max(0, end - LONGEST), last)
        if before >= 0 and _PARTIAL.match(data, before):
            return before
        if _PARTIAL.match(data, last):
            return last
    cut = _PARTIAL_CHARACTER.search(data, max(0, end - 3))
    return cut.start() if cut is not None else end


def without_switches(data: bytes) -> tuple[bytes, bool]:
    """Whole sequences only; see `Switches` for a stream."""
    switched = False

    def replace(found: re.Match[bytes]) -> bytes:
        nonlocal switched
        modes = found["modes"]
        if modes is None:  # a full reset also goes back to the first screen
            switched = True
            return b""
        kept = [mode for mode in modes.split(b";") if mode not in _SCREENS]
        if len(kept) == modes.count(b";") + 1:
            return found[0]
        switched = True
        return b"\x1b[?" + b";".join(kept) + found["final"] if kept else b""

    return _SWITCH.sub(replace, data), switched


__all__ = ["LONGEST", "Switches", "without_switches"]
