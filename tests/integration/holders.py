"""Real holders for tests: started in a temporary folder, ended with everything they own."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import anyio

from relay_runtime.contract import HarnessGone, Io, StartPlan, StopPlan, Stream
from relay_runtime.holder import wire
from relay_runtime.holder_link import HolderLink, connect, launch
from relay_runtime.processes import Process, reap_orphans, start_ticks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from relay_runtime.contract import Json

#: A bound for facts that take milliseconds, on a machine that is busy with other tests.
SOON = 20.0
NOW = StopPlan(0, 0, 0)
ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@asynccontextmanager
async def holder(
    folder: Path,
    environ: Mapping[str, str] = ENVIRON,
    *,
    log_bytes: int = 1 << 28,
    segment_bytes: int | None = None,
) -> AsyncIterator[HolderLink]:
    """A holder that is gone at the end, with its child and whatever that left."""
    try:
        async with launch(
            str(folder), folder.name, environ, log_bytes=log_bytes, segment_bytes=segment_bytes
        ) as link:
            yield link
    finally:
        with anyio.CancelScope(shield=True):
            await end(folder)


async def end(folder: Path) -> None:
    try:
        async with connect(str(folder)) as link:
            await link.stop(NOW)
            await link.quit()
    except HarnessGone:
        await reap_orphans(folder.name, meta(folder))


def meta(folder: Path) -> dict[str, Json]:
    found: dict[str, Json] = json.loads((folder / "meta.json").read_text())
    return found


def shell(script: str, io: Io = Io.PIPES, **env: str | None) -> StartPlan:
    return StartPlan(("/bin/sh", "-c", script), "/tmp", io, env)


def python(program: str, io: Io = Io.PIPES) -> StartPlan:
    return StartPlan((sys.executable, "-I", "-S", "-c", program), "/tmp", io)


async def output(link: HolderLink, stream: Stream = Stream.OUT, offset: int = 0) -> bytes:
    """All of a stream from `offset` to the end of the run."""
    with anyio.fail_after(SOON):
        return b"".join([chunk.data async for chunk in link.read(stream, offset)])


async def until(link: HolderLink, wanted: bytes, times: int = 1) -> bytes:
    """The child's output so far, as soon as `wanted` is in it that often."""
    seen = b""
    with anyio.fail_after(SOON):
        async for chunk in link.read(Stream.OUT, 0):
            seen += chunk.data
            if seen.count(wanted) >= times:
                return seen
    raise AssertionError(f"the output ended without {wanted!r}: {seen!r}")


def processes(pids: bytes) -> list[Process]:
    """The living processes with these pids, as (pid, start ticks)."""
    found = []
    for word in pids.split():
        ticks = start_ticks(int(word))
        assert ticks is not None, f"process {int(word)} does not run"
        found.append(Process(int(word), ticks))
    return found


class Raw:
    """A client that speaks bytes: for what no well-behaved client would send."""

    def __init__(self, folder: Path, hello: bytes | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SOON)
        here = os.open(".", os.O_RDONLY)
        os.chdir(folder)
        try:
            self.socket.connect("holder.sock")
        finally:
            os.fchdir(here)
            os.close(here)
        self._decoder = wire.Decoder()
        if hello is not None:
            self.send(hello)
            assert self.next().kind == wire.HELLO

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, op: str, **arguments: object) -> wire.Json:
        """The reply to a request, skipping what comes before it."""
        self.send(wire.encode_json(wire.REQUEST, {"id": 1, "op": op, **arguments}))
        while True:
            frame = self.next()
            if frame.kind == wire.REPLY:
                return wire.decode_json(frame.payload)

    def next(self) -> wire.Frame:
        """Raises `EOFError` when the holder hung up."""
        while True:
            frame = self._decoder.next_frame()
            if frame is not None:
                return frame
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._decoder.feed(data)

    def error(self) -> wire.Json:
        """The ERROR frame with which the holder ends this connection."""
        while True:
            frame = self.next()
            if frame.kind == wire.ERROR:
                return wire.decode_json(frame.payload)
