"""The program's echo of one input, followed through its output until the input was taken. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .keys import HEAD_CHARS, TAIL_CHARS, squeeze
from .screen import PASTE_OFF

if TYPE_CHECKING:
    from relay_runtime.contract import Json

    from .keys import Keys

_KEEP = max(HEAD_CHARS, TAIL_CHARS)
_LEFT = "\n" + PASTE_OFF


class Echo:
    """Beginning and end of the input are looked for without white space: programs wrap and indent.

    `submitted` is true once the program went on after Enter: a new line after the whole echo, or
    the end of its line editor. With `answered` it must print something more, because no prompt is
    known that could be gone, and a terminal echoes by itself what no program has read yet.
    """

    def __init__(self, keys: Keys, *, answered: bool) -> None:
        self.head, self.tail, self._size = keys.head, keys.tail, keys.size
        self.answered = answered
        self.entered = keys.enter is None  #: Enter was written
        self.head_seen = self.tail_seen = False
        self.moved = False  #: since Enter a line feed came, or the line editor ended
        self.submitted = False
        self._left = False  # the same, with the whole echo before it
        self._count = 0  # characters since the head began
        self._last = ""

    def feed(self, printed: str) -> str | None:
        """Take output in; what came after the submission, if this brought it."""
        for at, char in enumerate(printed):
            if char in _LEFT:
                # Text cannot contain the end of the editor. It can contain a copy of its own tail,
                # so a line feed counts only after Enter.
                ended = char == PASTE_OFF and self.head_seen
                self.moved = self.moved or self.entered or ended
                self._left = self._left or ended or (self.entered and self.tail_seen)
                self.submitted = self._left and not self.answered
            elif not char.isspace():
                self.submitted = self._left
                self._look(char)
            if self.submitted:
                return printed[at + (char in _LEFT) :]
        return None

    def _look(self, char: str) -> None:
        self._last = (self._last + char)[-_KEEP:]
        self._count += 1
        if self._last.endswith(self.head):
            self.head_seen, self.tail_seen = True, False
            self._count = len(self.head)
        if self.head_seen and self._count >= self._size and self._last.endswith(self.tail):
            self.tail_seen = True

    def is_draft(self, line: str) -> bool:
        """Whether the row of the cursor shows the end of the input, as before Enter."""
        shown = squeeze(line)
        return bool(shown) and (shown.endswith(self.tail) or self.tail.endswith(shown))

    # --- checkpoints ------------------------------------------------------------------------------

    _FLAGS = ("answered", "entered", "head_seen", "tail_seen", "moved", "submitted", "_left")

    def dump(self) -> dict[str, Json]:
        flags = [bool(getattr(self, flag)) for flag in self._FLAGS]
        texts = [self.head, self.tail, self._last]
        return {"texts": texts, "numbers": [self._size, self._count], "flags": flags}

    @classmethod
    def load(cls, dumped: Json) -> Echo:
        match dumped:
            case {
                "texts": [str(head), str(tail), str(last)],
                "numbers": [int(size), int(count)],
                "flags": list(flags),
            }:
                echo = cls.__new__(cls)
                echo.head, echo.tail, echo._last = head, tail, last
                echo._size, echo._count = size, count
                for name, flag in zip(cls._FLAGS, flags, strict=True):
                    setattr(echo, name, bool(flag))
                return echo
            case _:
                raise ValueError("not an echo")


__all__ = ["Echo"]
