"""A session's terminal over its holder: the screen as it is now, then all that follows.

Standard library only, and nothing here waits but `watch` until the screen is there: whoever shows it
has a loop of their own, and people wait for the first screen.
"""

from __future__ import annotations

import select
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..holder import wire
from . import checkpoint
from .dial import Unreachable, connect
from .replay import Replay, SizeAt
from .switches import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A holder reads the log at some 50 MB/s and keeps 256 MB. It answers at once otherwise.
REBUILD_S = 30.0
#: Of the session's output, taken from the socket in one go: what a holder sends as one frame, twice.
_READ = 2 * wire.CHUNK
#: Of output between two checkpoints. One takes some milliseconds, as do 200 KB of output; a screen
#: is then made of at most this much.
KEEP_EVERY = 4 * 1024 * 1024

_SCREEN, _QUERY, _ATTACH = 1, 2, 3  # numbers of the first requests; later answers say nothing new


class NoTerminal(Exception):
    """Raised for a session that has no terminal: it runs headless, or nothing runs in it."""


class Output(NamedTuple):
    """What the program wrote, and where in all of its output that begins. Empty: a new size only."""

    at: int
    data: bytes


class Screencast:
    """One connection, from its first byte on. `ready` once `replay.screen` is what the session shows.

    For a loop: `receive` when the socket can be read, `flush` when it takes more while
    `waits_to_write`. Until `live` is set, output only goes to the screen.
    """

    def __init__(self, session_dir: str, *, read_only: bool, person: str | None = None) -> None:
        """Raises `Unreachable` when no holder serves the folder."""
        self._dir = session_dir
        self._socket = connect(session_dir)
        self._decoder = wire.Decoder()
        self._waiting: deque[tuple[bytes, bytes]] = deque()  # frames, and the input that is in them
        self._sent = 0  # of the first of them
        self._numbers = _ATTACH
        self._offset = self._begin = self._end = self._run = 0
        self._kept = 0  # the offset of the newest checkpoint that is known here
        self._sizes: list[SizeAt] = []
        self._hello = False
        self.ready = self.live = False
        self.ended = False  #: the program has, and all it wrote was given out
        self.refused = False  #: input was: the program does not read. Whoever says so puts it back
        self.rebuilt = 0  #: bytes of output that it took to make the screen
        self.told: str | None = None  #: what the supervisor has to say to who looks at this
        self.tail = b""  #: the end of the output so far, where a sequence may have begun
        self.replay: Replay | None = None
        # Quiet: input that was taken needs no word, and a person's next key no second awakening.
        more: dict[str, object] = {} if person is None else {"person": person}
        self._queue(wire.hello(read_only=read_only, quiet=True, **more))
        self._ask(_SCREEN, "screen")
        self._ask(_QUERY, "query")

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()
        if self.replay is not None:
            self.replay.close()

    # --- to the holder --------------------------------------------------------------------------

    @property
    def waits_to_write(self) -> bool:
        return bool(self._waiting)

    @property
    def unsent(self) -> bytes:
        """Input that did not go out whole, so that the holder has not taken it."""
        return b"".join(data for _, data in self._waiting)

    def type(self, data: bytes) -> None:
        """To the program."""
        for at in range(0, len(data), wire.CHUNK):
            piece = data[at : at + wire.CHUNK]
            self._queue(wire.encode_input(0, piece), piece)

    def view(self, rows: int, cols: int, policy: str) -> None:
        """Say how large the terminal is on which this is shown."""
        self._numbers += 1
        self._ask(self._numbers, "view", rows=rows, cols=cols, policy=policy)

    def flush(self) -> None:
        """Send what can be sent. A connection that is lost is noticed where it is read."""
        try:
            while self._waiting:
                frame = self._waiting[0][0]
                self._sent += self._socket.send(memoryview(frame)[self._sent :])
                if self._sent == len(frame):
                    self._waiting.popleft()
                    self._sent = 0
        except OSError:
            return

    def _ask(self, number: int, op: str, **arguments: object) -> None:
        self._queue(wire.encode_json(wire.REQUEST, {"id": number, "op": op, **arguments}))

    def _queue(self, frame: bytes, data: bytes = b"") -> None:
        self._waiting.append((frame, data))
        if len(self._waiting) == 1:
            self.flush()

    # --- from the holder ------------------------------------------------------------------------

    def receive(self) -> Iterator[Output]:
        """What has come since `live` was set. Each has to be handed to `take`, in this order.

        Raises `Unreachable` when the connection is lost, and `NoTerminal`.
        """
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise Unreachable("the connection to the session was lost")
        self._decoder.feed(data)
        try:
            while frame := self._decoder.next_frame():
                if frame.kind == wire.OUTPUT:
                    _, at, _, data = wire.decode_output(frame.payload)
                    if self.live:
                        yield Output(at, data)
                    else:
                        self._rebuild(Output(at, data))
                elif frame.kind == wire.ACK:
                    self.refused |= wire.decode_ack(frame.payload)[1] != wire.TAKEN
                elif (resized := self._on_json(frame)) is not None:
                    yield resized
        except wire.WireError as error:
            raise Unreachable(
                f"the holder in {self._dir} is of another version: {error};"
                " use the version that started it, or release the session"
            ) from None

    def resizes(self, output: Output) -> bool:
        """Whether taking it gives the screen another size."""
        return self._screen_of().resizes(output.at, len(output.data))

    def take(self, output: Output) -> bool:
        """Bring the screen up to date with it. True: it has another size now."""
        self._offset = output.at + len(output.data)
        resized = self._screen_of().feed(*output)
        if self._offset - self._kept >= KEEP_EVERY:
            self.keep()
        return resized

    def keep(self) -> None:
        """Write a checkpoint, from which whoever comes next begins."""
        self._kept = self._offset
        saved = self._screen_of().screen.save()
        checkpoint.write(self._dir, self._begin, self._offset, saved)

    def _screen_of(self) -> Replay:
        assert self.replay is not None, "the screen is not ready"
        return self.replay

    def _on_json(self, frame: wire.Frame) -> Output | None:
        value = wire.decode_json(frame.payload)
        if frame.kind == wire.ERROR:
            raise Unreachable(str(value.get("message")))
        if frame.kind == wire.EVENT:
            return self._on_event(value)
        if frame.kind == wire.REPLY:
            self._on_reply(value)
        else:
            wire.agree(value)
        return None

    def _on_event(self, event: wire.Json) -> Output | None:
        what = event.get("event")
        if what == "told":
            self.told = _text(event.get("text"))
        elif what == "eof":
            self.ended = True
        elif what == "size":
            size = _size([event.get(name) for name in ("offset", "rows", "cols")])
            if self.replay is None:
                self._sizes.append(size)
            else:
                self.replay.resized(size)
                if self.live:
                    return Output(self._offset, b"")
                self.replay.feed(self._offset, b"")
        return None

    def _on_reply(self, reply: wire.Json) -> None:
        number, answer = reply.get("id"), reply.get("ok")
        if not isinstance(answer, dict):
            if number in (_SCREEN, _QUERY, _ATTACH):
                error = reply.get("error")
                raise Unreachable(str(error.get("message") if isinstance(error, dict) else error))
        elif number == _SCREEN:
            sizes = answer.get("sizes")
            if not isinstance(sizes, list) or not sizes:
                raise NoTerminal("it has no terminal")
            self._sizes = [_size(size) for size in sizes]
            self._run, self.told = _number(answer.get("run")), _text(answer.get("told"))
        elif number == _QUERY:
            offsets = answer.get("offsets")
            self._end = _number(offsets.get("out") if isinstance(offsets, dict) else None)
            self._begin_replay()

    def _begin_replay(self) -> None:
        self._begin = self._sizes[0][0]
        kept = checkpoint.read(self._dir, self._begin, self._end)
        self._offset, saved = kept or (self._begin, None)
        self._kept = self._offset
        self.replay = Replay(self._sizes, self._offset, saved)
        self._ask(_ATTACH, "attach", stream="out", offset=self._offset, run=self._run)
        self.ready = self._offset >= self._end

    def _rebuild(self, output: Output) -> None:
        self.take(output)
        self.tail = (self.tail + output.data)[-LONGEST:]
        self.rebuilt += len(output.data)
        self.ready = self._offset >= self._end


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise wire.WireError("a number is missing in its answer")
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _size(value: object) -> SizeAt:
    if not isinstance(value, list) or len(value) != 3:
        raise wire.WireError("it tells a size in another way")
    offset, rows, cols = map(_number, value)
    return offset, rows, cols


@contextmanager
def watch(session_dir: str, *, read_only: bool, person: str | None = None) -> Iterator[Screencast]:
    """Connect, and wait until the screen is there. `person` is whoever types what is sent.

    Raises `Unreachable` and `NoTerminal`.
    """
    cast = Screencast(session_dir, read_only=read_only, person=person)
    try:
        deadline = time.monotonic() + REBUILD_S
        poll = select.poll()
        while not cast.ready:
            poll.register(cast, select.POLLIN | (select.POLLOUT if cast.waits_to_write else 0))
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise Unreachable(f"the holder in {session_dir} does not answer")
            cast.flush()
            deque(cast.receive(), 0)
        yield cast
    finally:
        cast.close()


def keep_screen(session_dir: str) -> None:
    """Write a checkpoint. It takes as long as to read all output since the one before.

    Raises `Unreachable` and `NoTerminal`.
    """
    with watch(session_dir, read_only=True) as cast:
        cast.keep()


__all__ = ["NoTerminal", "Output", "Screencast", "Unreachable", "keep_screen", "watch"]
