"""Output that brings a reset terminal into a state; pure, from what the emulator's formatter wrote.

The formatter writes a state as modes, tab stops, the screen, the scrolling region, the cursor and
the pen, in that order. Replayed as it is, some of it would undo or bend the rest: here each part has
the place where it does no harm.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from . import abi

_HEAD = re.compile(rb"((?:\x1b\[\??\d+[hl])*)(\x1b\[3g(?:\x1b\[\d+G\x1bH)*)?\x1b\[H")
_MODE = re.compile(rb"\x1b\[(\??)(\d+)([hl])")
_TAB_STOP = re.compile(rb"\x1b\[(\d+)G")
_TAIL = re.compile(
    rb"(?:\x1b\[(\d+);(\d+)r)?(?:\x1b\[(\d+);(\d+)s)?(\x1b\[>4;\dm)?\x1b\[(\d+);(\d+)H(.*)",
    re.DOTALL,
)
_TAB_WIDTH = 8

_ALTERNATE = frozenset({47, 1047, 1049})
_ORIGIN, _CLUSTERS = 6, 2027
#: Left out: 132 columns, which would clear and resize; the time when the cursor was saved; output
#: held back, as a snapshot is there to be seen.
_LEFT_OUT = frozenset({3, 1048, 2026})
#: They change where text goes, also that with which the cursor is put behind a full line.
_WRITING = frozenset({b"\x1b[4h", b"\x1b[20h", b"\x1b[?7l"})

_NO_STYLE, _NO_LINK, _NOT_PROTECTED = b"\x1b[0m", b"\x1b]8;;\x1b\\", b'\x1b[0"q'
_ASCII = b"\x1b(B\x1b)B\x1b*B\x1b+B\x0f"
_CHARACTER_SET = re.compile(rb"\x1b[()*+no]|\x0e")
_SAVE_CURSOR = b"\x1b7"
_STEADY_BLOCK, _STEADY_UNDERLINE, _STEADY_BAR = 2, 4, 6  #: shapes of DECSCUSR
_SHAPES = {abi.SHAPE_UNDERLINE: _STEADY_UNDERLINE, abi.SHAPE_BAR: _STEADY_BAR}
_BLINKS = b"\x1b[?12h"


class State(NamedTuple):
    """All of a terminal but its text."""

    modes: tuple[bytes, ...]  #: that are not as after a reset, each as the sequence that sets it
    tabs: bytes  #: sequences; empty as after a reset
    region: bytes  #: sequences; empty for the whole screen
    top: int  #: of the region, 1 the first row
    left: int
    keyboard: bytes
    row: int  #: of the cursor, 1 the first
    col: int
    pen: bytes  #: colours, character sets, the character that keeps the cursor behind a full line

    @property
    def from_origin(self) -> bool:
        return b"\x1b[?%dh" % _ORIGIN in self.modes

    @property
    def numbers(self) -> frozenset[int]:
        """Private modes that are set."""
        found = (_MODE.fullmatch(mode) for mode in self.modes)
        return frozenset(int(m[2]) for m in found if m and m[1] and m[3] == b"h")

    def at(self) -> bytes:
        """Takes up the pen at the cursor's place."""
        return b"\x1b[%d;%dH" % (self.row, self.col) + self.pen

    def at_from_origin(self) -> bytes:
        """The same with the region, and origin mode where it is set, in force."""
        if not self.from_origin:
            return self.at()
        row, col = max(1, self.row - self.top + 1), max(1, self.col - self.left + 1)
        return b"\x1b[%d;%dH" % (row, col) + self.pen


def read(whole: bytes, text: bytes, cols: int) -> State:
    """The state in `whole`, which the formatter wrote around `text`."""
    head = _HEAD.match(whole)
    tail = _TAIL.fullmatch(whole, head.end() + len(text)) if head else None
    if head is None or tail is None or not whole.startswith(text, head.end()):
        raise RuntimeError("the terminal emulator writes its state in another form than known")
    top, bottom, left, right, keyboard, row, col, pen = tail.groups()
    region = b"\x1b[%b;%br" % (top, bottom) if top else b""
    region += b"\x1b[%b;%bs" % (left, right) if left else b""
    modes = tuple(m[0] for m in _MODE.finditer(head[1]))
    stops = [int(stop) for stop in _TAB_STOP.findall(head[2] or b"")]
    usual = list(range(_TAB_WIDTH + 1, cols + 1, _TAB_WIDTH))
    return State(
        modes=modes,
        tabs=b"" if head[2] is None or stops == usual else head[2],
        region=region,
        top=int(top or 1),
        left=int(left or 1),
        keyboard=keyboard or b"",
        row=int(row),
        col=int(col),
        pen=pen,
    )


class Painting(NamedTuple):
    """A screen: its text with styles, from the top left on, and its state."""

    text: str
    state: State
    shape: int  #: of the cursor, in the emulator's numbers
    alternate: bool


def compose(
    shown: Painting, saved: State | None, hidden: Painting | None, title: str, unfinished: bytes
) -> bytes:
    """The output, where `saved` is the state that DECRC leads to and `hidden` the primary screen."""
    state = shown.state
    parts = [b"\x1b[?%dh" % _CLUSTERS] if _CLUSTERS in state.numbers else []
    if hidden is not None:
        parts += [hidden.text.encode(), hidden.state.at(), _shape(hidden)]
    if shown.alternate:
        screens = sorted(_ALTERNATE & state.numbers) or [min(_ALTERNATE)]
        parts += [b"\x1b[?%dh" % mode for mode in screens]
    if hidden is not None:
        parts += [_put_down(hidden.state.pen), b"\x1b[H\x1b[2J"]
    parts += [shown.text.encode(), state.tabs]
    parts += [mode for mode in state.modes if _is_plain(mode)]
    parts += [state.region, state.keyboard]
    if saved is not None:
        parts.append(_save(saved))
    if state.from_origin:
        parts.append(b"\x1b[?%dh" % _ORIGIN)
    parts += [state.at_from_origin(), _shape(shown)]
    parts += [mode for mode in state.modes if mode in _WRITING]
    parts.append(b"\x1b]2;" + title.encode() + b"\x1b\\" if title else b"")
    return b"".join((*parts, unfinished))


def _is_plain(mode: bytes) -> bool:
    found = _MODE.fullmatch(mode)
    if found is None or mode in _WRITING:
        return False
    return not found[1] or int(found[2]) not in _ALTERNATE | _LEFT_OUT | {_ORIGIN, _CLUSTERS}


def _save(saved: State) -> bytes:
    if (saved.row, saved.col, saved.pen, saved.from_origin) == (1, 1, _NO_STYLE, False):
        return b""  # as after a reset
    origin = b"\x1b[?%d" % _ORIGIN
    before, after = (origin + b"h", origin + b"l") if saved.from_origin else (b"", b"")
    return b"".join((before, saved.at_from_origin(), _SAVE_CURSOR, after, _put_down(saved.pen)))


def _put_down(pen: bytes) -> bytes:
    """Takes back what `pen` set, so that text is written as after a reset."""
    parts = [_NO_STYLE]
    if b"\x1b]8;" in pen:
        parts.append(_NO_LINK)
    if b'"q' in pen:
        parts.append(_NOT_PROTECTED)
    if _CHARACTER_SET.search(pen):
        parts.append(_ASCII)
    return b"".join(parts)


def _shape(painting: Painting) -> bytes:
    shape = _SHAPES.get(painting.shape, _STEADY_BLOCK) - (_BLINKS in painting.state.modes)
    return b"" if shape == _STEADY_BLOCK else b"\x1b[%d q" % shape
