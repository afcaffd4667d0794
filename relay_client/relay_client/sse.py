"""Server-sent events, from bytes. Pure: feed what arrives, in pieces of any size."""

from __future__ import annotations

from dataclasses import dataclass

# The relay's events are a few hundred bytes; what is much larger is not its event stream.
MAX_LINE = 4 * 1024 * 1024


class SseError(Exception):
    """Raised when a line is too long to be of an event stream."""

    def __init__(self) -> None:
        super().__init__(f"a line is longer than {MAX_LINE} bytes")


@dataclass(frozen=True, slots=True)
class Block:
    """What stood between two empty lines. `data` None: it only moved the cursor (`id`)."""

    id: str | None
    event: str
    data: str | None


class SseParser:
    """Follows the HTML standard, except that a block without data is reported for its id."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[Block]:
        """The blocks that `piece` completes. Raises `SseError`."""
        buffer = self._rest + piece
        if not self._started:
            if b"\xef\xbb\xbf".startswith(buffer[:3]) and len(buffer) < 3:
                self._rest = buffer
                return []
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        # A carriage return at the end may be half of a line end: it waits for what follows.
        held = b"\r" if buffer.endswith(b"\r") else b""
        lines = buffer.removesuffix(held) if held else buffer
        *complete, rest = lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = rest + held
        if len(self._rest) > MAX_LINE:
            raise SseError
        return [block for line in complete if (block := self._line(line)) is not None]

    def _line(self, line: bytes) -> Block | None:
        if not line:
            return self._dispatch()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> Block | None:
        if not self._data and self._id is None:
            self._event = ""
            return None
        data = "\n".join(self._data) if self._data else None
        block = Block(self._id, self._event or "message", data)
        self._id, self._event, self._data = None, "", []
        return block


__all__ = ["MAX_LINE", "Block", "SseError", "SseParser"]
