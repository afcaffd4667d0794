"""One connection to a holder: its frames in, its queue out, and how far it has read each log."""

from __future__ import annotations

from . import wire
from .people import Kinds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from .session import Session

#: Answers and events that may wait for a client besides one chunk of output. A client that lets
#: more pile up is not reading.
MAX_QUEUE = 1024 * 1024
#: A client that takes nothing for this long while something waits for it is dropped.
STALL_S = 30.0
#: For the hello. Whoever connects and says nothing is not one of ours.
HELLO_S = 10.0
#: Of what a person is called.
MAX_PERSON = 64
#: Chunks for one client before the others get their turn.
BURST = 8


class Gone(Exception):
    """The connection is of no more use: closed, stalled, or talking nonsense."""


class Client:
    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.greeted = False
        self.read_only = False
        self.person: str | None = None  # who types what it sends, None for a program
        self.kinds = Kinds()  # of that input
        self.quiet = False  # it wants no word of input that was taken
        self.view: tuple[int, int] | None = None  # rows and columns of the terminal that shows us
        self.looks = False  # it shows the output, or did
        self._decoder = wire.Decoder()
        self._queue = bytearray()
        # The next offset to send of each stream, and the run at whose end the reading ends.
        self._cursors: dict[str, tuple[int, int]] = {}
        self._since = now  # of the connection, later of the last byte it took

    @property
    def deadline(self) -> float | None:
        """When it is dropped if nothing happens before."""
        if not self.greeted:
            return self._since + HELLO_S
        return self._since + STALL_S if self._queue else None

    @property
    def waits_to_write(self) -> bool:
        return bool(self._queue)

    def receive(self) -> None:
        """Take in what has arrived. Raises `Gone` at the end of the connection."""
        try:
            data = self.sock.recv(wire.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise Gone
        self._decoder.feed(data)

    def next_frame(self) -> wire.Frame | None:
        return self._decoder.next_frame()

    def greet(self, hello: wire.Json) -> None:
        """Raises `WireError` when there is no protocol in common."""
        wire.agree(hello)
        self.greeted = True
        self.read_only = hello.get("read_only") is True
        self.quiet = hello.get("quiet") is True
        person = hello.get("person")
        self.person = person[:MAX_PERSON] if isinstance(person, str) else None

    def put(self, frame: bytes, now: float) -> None:
        """Queue an answer or event. Raises `Gone` when too much waits already."""
        if len(self._queue) > MAX_QUEUE + wire.CHUNK:
            raise Gone
        if not self._queue:
            self._since = now
        self._queue += frame

    def attach(self, stream: str, offset: int, run: int) -> None:
        self._cursors[stream] = (offset, run)
        self.looks = self.looks or stream == "out"

    def pump(self, session: Session, now: float) -> None:
        """Send what waits, then output, until the socket is full or all was sent."""
        for _ in range(BURST):
            if not self._queue:
                self._next_chunk(session, now)
            if not self._queue or not self._send(now):
                return
        self._next_chunk(session, now)  # more to do: what waits now brings us back here

    def say_last(self, code: str, message: str) -> None:
        """Tell why it is dropped, if it can take that at once."""
        if not self._queue:
            error: wire.Json = {"code": code, "message": message}
            try:
                self.sock.send(wire.encode_json(wire.ERROR, error))
            except OSError:
                pass

    def _send(self, now: float) -> bool:
        """False when the socket takes no more."""
        try:
            sent = self.sock.send(self._queue)
        except BlockingIOError:
            return False
        except OSError:
            raise Gone from None
        self._since = now
        del self._queue[:sent]
        return not self._queue

    def _next_chunk(self, session: Session, now: float) -> None:
        """Queue one chunk of one stream, or its end. The streams take turns."""
        for stream, (offset, run) in list(self._cursors.items()):
            ends = session.ends.get(run)
            end = ends[stream] if ends else session.logs[stream].end
            if offset < end:
                piece = session.logs[stream].read(offset)
                at = min(piece.offset, end)  # what is left may begin in the next run
                data = piece.data[: end - at] if at == piece.offset else b""
                self.put(wire.encode_output(stream, at, at - offset, data), now)
                del self._cursors[stream]  # back in as the last
                self._cursors[stream] = (at + len(data), run)
                return
            if ends:
                del self._cursors[stream]
                event: wire.Json = {"event": "eof", "stream": stream}
                event |= {"run": run, "offset": offset}
                self.put(wire.encode_json(wire.EVENT, event), now)
                return
