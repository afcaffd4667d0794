"""Server-sent events, as far as OpenCode uses them. Sans-I/O: bytes in, whole events out."""

from __future__ import annotations

#: The largest event repeats a message of 1 MB with every character escaped (6 bytes each), twice.
MAX_EVENT_BYTES = 16 * 1024 * 1024


class EventTooLarge(ValueError):
    """Raised when an event has no end within `MAX_EVENT_BYTES`: the stream is not what it says."""


class EventParser:
    """Splits a stream into the data of its events; keeps the unfinished rest between calls."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that `chunk` completes, lines of one event joined by `\\n`."""
        ends_in_cr = chunk.endswith(b"\r") if chunk else self._after_cr
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")  # second half of a line end cut by the chunks
        self._after_cr = ends_in_cr
        seen = len(self._rest)
        self._rest += chunk
        events: list[bytes] = []
        # Only what is new can hold a line end: a large event is not searched again and again.
        if self._rest.find(b"\n", seen) < 0 and self._rest.find(b"\r", seen) < 0:
            self._check(len(self._rest))
            return events
        # bytes.splitlines knows exactly the three line ends of the format: \n, \r and \r\n.
        lines = bytes(self._rest).splitlines(keepends=True)
        last = lines.pop() if not lines[-1].endswith((b"\r", b"\n")) else b""
        self._rest = bytearray(last)
        for line in lines:
            self._line(line.rstrip(b"\r\n"), events)
        self._check(len(self._rest))
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._size = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":  # comments have an empty name; event, id and retry are not used
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)

    def _check(self, unfinished: int) -> None:
        if self._size + unfinished > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES} bytes")


__all__ = ["MAX_EVENT_BYTES", "EventParser", "EventTooLarge"]
