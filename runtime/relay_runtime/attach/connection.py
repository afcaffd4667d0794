"""A session's terminal over its holder: the screen as it is now, then all that follows."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ..contract import HarnessGone
from ..holder import wire
from ..holder_answers import integer, ok
from ..holder_wire import Connection, HolderRefused, dial
from .replay import Replay, SizeAt
from .switches import LONGEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: A holder reads the log at some 50 MB/s and keeps 256 MB. It answers at once otherwise.
REBUILD_S = 30.0


class NoTerminal(Exception):
    """Raised for a session that has no terminal: it runs headless, or nothing runs in it."""


@dataclass(frozen=True, slots=True)
class Output:
    """What the program wrote. `resized`: from some place in it on, the terminal has another size."""

    data: bytes
    resized: bool


class Screencast:
    """Made by `watch`. `replay.screen` is up to date with what `output` has given."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._writing = anyio.Lock()
        self._numbers = 0
        self._offset = 0
        self._run = 0
        self.tail = b""  #: the end of the output so far, where a sequence may have begun
        self.replay: Replay

    # --- what one can ask for -------------------------------------------------------------------

    async def type(self, data: bytes) -> bytes:
        """To the program. Returns what did not go out because the connection is lost."""
        async with self._writing:
            while data:
                try:
                    await self._connection.send(wire.encode_input(0, data[: wire.CHUNK]))
                except HarnessGone:
                    break
                data = data[wire.CHUNK :]
        return data

    async def view(self, rows: int, cols: int, policy: str) -> None:
        """Say how large the terminal is on which this is shown. Raises `HarnessGone`."""
        await self._ask("view", rows=rows, cols=cols, policy=policy)

    async def output(self) -> AsyncIterator[Output]:
        """Until the program has ended. Raises `HarnessGone` when the connection is lost."""
        async for frame in self._frames():
            if frame.kind == wire.OUTPUT:
                _, at, _, data = wire.decode_output(frame.payload)
                resized = self.replay.feed(at, data)
                self._offset = at + len(data)
                yield Output(data, resized)
            elif frame.kind == wire.ACK:
                if wire.decode_ack(frame.payload)[1] != wire.TAKEN:
                    yield Output(b"\a", False)  # the program does not read: what was typed is gone
            elif frame.kind == wire.EVENT:
                event = wire.decode_json(frame.payload)
                if event.get("event") == "size":
                    size = (
                        integer(event, "offset"),
                        integer(event, "rows"),
                        integer(event, "cols"),
                    )
                    self.replay.resized(size)
                    if self.replay.feed(self._offset, b""):
                        yield Output(b"", True)
                elif event.get("event") == "eof":
                    return

    # --- inside ---------------------------------------------------------------------------------

    async def begin(self) -> None:
        """For `watch` only: catch up with the screen."""
        sizes = await self._answer("screen")
        self._run = integer(sizes, "run")
        self.replay = Replay(_sizes(sizes))
        offsets = (await self._answer("query")).get("offsets")
        end = integer(offsets, "out") if isinstance(offsets, dict) else 0
        self._offset = _sizes(sizes)[0][0]
        await self._ask("attach", stream="out", offset=self._offset, run=self._run)
        if self._offset < end:
            async for output in self.output():
                self.tail = (self.tail + output.data)[-LONGEST:]
                if self._offset >= end:
                    return

    async def _ask(self, op: str, **arguments: object) -> None:
        self._numbers += 1
        frame = wire.encode_json(wire.REQUEST, {"id": self._numbers, "op": op, **arguments})
        async with self._writing:
            await self._connection.send(frame)

    async def _answer(self, op: str) -> wire.Json:
        """Only while nothing else is under way."""
        await self._ask(op)
        async for frame in self._frames():
            if frame.kind == wire.REPLY:
                return ok(wire.decode_json(frame.payload))
        raise AssertionError("unreachable")

    async def _frames(self) -> AsyncIterator[wire.Frame]:
        """Without an end. Raises `HarnessGone`."""
        try:
            async for frame in self._connection.frames():
                yield frame
        except HolderRefused as error:  # it hangs up, and says why
            raise HarnessGone(str(error)) from None
        raise HarnessGone("the connection to the session was lost")


def _sizes(answer: wire.Json) -> list[SizeAt]:
    sizes = answer.get("sizes")
    if not isinstance(sizes, list) or not sizes:
        raise NoTerminal("it has no terminal")
    return [(int(offset), int(rows), int(cols)) for offset, rows, cols in sizes]


@asynccontextmanager
async def watch(session_dir: str, *, read_only: bool) -> AsyncIterator[Screencast]:
    """Connect, and rebuild the screen from the log.

    Raises `HarnessGone` and `HolderIncompatible` as `dial` does, and `NoTerminal`.
    """
    async with await dial(session_dir, read_only=read_only) as connection:
        cast = Screencast(connection)
        try:
            with anyio.fail_after(REBUILD_S):
                await cast.begin()
        except TimeoutError:
            raise HarnessGone(f"the holder in {session_dir} does not answer") from None
        try:
            yield cast
        finally:
            cast.replay.close()


__all__ = ["NoTerminal", "Output", "Screencast", "watch"]
