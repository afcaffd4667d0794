"""What people type, told apart by kind and never by content. Bytes in, words out; no I/O.

A terminal sends more than its person types: answers to the program's questions (who are you, where
is the cursor, do you have the focus) come the same way and are nobody's input.
"""

from __future__ import annotations

TEXT = "text"
SUBMIT = "submit"  #: Enter, outside of a paste
INTERRUPT = "interrupt"  #: Escape, ^C, ^D
KEY = "key"  #: arrows, Backspace, function keys, the mouse, and every other control
PASTE = "paste"

#: One line of the log for one kind of input of one person, while it goes on.
EVERY_S = 1.0
#: Told by a terminal, and by each for itself: nobody else's word stands for it.
FOCUS = (b"\x1b[I", b"\x1b[O")
#: Of a sequence; a longer one is not a key.
_LONGEST = 256

_ENTER = (13, 57414)
_ESCAPE = 27
_CTRL = 4
_ENDS = (99, 100)  # ctrl-c, ctrl-d
_PRIVATE_KEYS = range(57344, 63744)


class Kinds:
    """The input of one person's terminal. Keeps what a frame left unfinished."""

    def __init__(self) -> None:
        self._state = self._ground
        self._sequence = bytearray()
        self._skip = 0
        self._kinds: list[str] = []

    def feed(self, data: bytes) -> list[str]:
        """The kinds in `data`, in order, each once in a row."""
        self._kinds = []
        for byte in data:
            self._state(byte)
        if self._state == self._escape:  # terminals send a key in one piece, so this is the key
            self._add(INTERRUPT)
            self._state = self._ground
        return self._kinds

    @property
    def whole(self) -> bool:
        """Nothing is left unfinished."""
        return self._state == self._ground

    def _add(self, kind: str) -> None:
        if not self._kinds or self._kinds[-1] != kind:
            self._kinds.append(kind)

    def _ground(self, byte: int) -> None:
        if byte == 0x1B:
            self._state = self._escape
        elif byte in (0x0D, 0x0A):
            self._add(SUBMIT)
        elif byte in (0x03, 0x04):
            self._add(INTERRUPT)
        else:
            self._add(TEXT if byte >= 0x20 and byte != 0x7F else KEY)

    def _escape(self, byte: int) -> None:
        self._state = self._ground
        if byte == 0x1B:
            self._add(INTERRUPT)
            self._state = self._escape
        elif byte == ord("["):
            self._sequence.clear()
            self._state = self._csi
        elif byte == ord("O"):
            self._state = self._ss3
        elif byte in b"]P_^X":
            self._state = self._string
        else:
            self._add(KEY)

    def _ss3(self, byte: int) -> None:
        self._add(KEY)
        self._state = self._ground

    def _string(self, byte: int) -> None:
        if byte in (0x07, 0x18, 0x1A):
            self._state = self._ground
        elif byte == 0x1B:
            self._state = self._string_end

    def _string_end(self, byte: int) -> None:
        self._state = self._ground
        if byte != ord("\\"):
            self._escape(byte)

    def _csi(self, byte: int) -> None:
        if byte == 0x1B:  # the sequence before was cut off
            self._state = self._escape
        elif 0x40 <= byte <= 0x7E:
            self._state = self._ground
            self._finish(self._sequence.decode("latin-1"), chr(byte))
        elif len(self._sequence) < _LONGEST:
            self._sequence.append(byte)
        else:
            self._state = self._ground

    def _finish(self, parameters: str, final: str) -> None:
        if parameters[:1] in ("?", ">", "=") or "$" in parameters or final in "RcnIOtxy":
            return  # an answer of the terminal
        if final == "M" and not parameters:
            self._skip = 3
            self._state = self._old_mouse
        elif (parameters, final) == ("200", "~"):
            self._add(PASTE)
            self._state = self._paste
        elif final == "u":
            self._spelled(*_numbers(parameters))
        elif final == "~" and parameters.startswith("27;"):
            modifiers, code = _numbers(parameters[3:])
            self._spelled(code, modifiers)
        elif parameters != "201":
            self._add(KEY)

    def _spelled(self, code: int, modifiers: int) -> None:
        """A key that the terminal names by number (kitty, modifyOtherKeys)."""
        bits = max(0, modifiers - 1)
        if code in _ENTER and not bits:
            self._add(SUBMIT)
        elif code == _ESCAPE or (bits & _CTRL and code in _ENDS):
            self._add(INTERRUPT)
        elif bits & ~1 or code < 0x20 or code == 0x7F or code in _PRIVATE_KEYS:
            self._add(KEY)
        else:
            self._add(TEXT)

    def _old_mouse(self, byte: int) -> None:
        self._skip -= 1
        if not self._skip:
            self._add(KEY)
            self._state = self._ground

    def _paste(self, byte: int) -> None:
        self._add(PASTE)
        if byte == 0x1B:
            self._sequence[:] = b"\x1b"
        elif self._sequence:
            self._sequence.append(byte)
            if self._sequence == b"\x1b[201~":
                self._state = self._ground
            elif not b"\x1b[201~".startswith(self._sequence):
                self._sequence.clear()


def _numbers(parameters: str) -> tuple[int, int]:
    """The first two parameters; 0 and 1 stand for what is missing or no number."""
    parts = [part.partition(":")[0] for part in parameters.split(";")]
    first = int(parts[0]) if parts[0].isdigit() else 0
    second = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 1
    return first, second


class People:
    """Who typed what kind of input, and when last. Says what is worth a line in the log."""

    def __init__(self) -> None:
        self._last: tuple[str, str] | None = None
        self._said_at = 0.0
        self._typed_at: float | None = None

    def typed(self, who: str, kinds: list[str], now: float) -> list[str]:
        """Of `kinds`, those to be written down."""
        worth: list[str] = []
        for kind in kinds:
            self._typed_at = now
            if (who, kind) != self._last or now - self._said_at >= EVERY_S:
                self._last, self._said_at = (who, kind), now
                worth.append(kind)
        return worth

    def quiet(self, for_s: float, now: float) -> bool:
        """Whether nobody typed anything within the last `for_s` seconds."""
        return self._typed_at is None or now - self._typed_at >= for_s
