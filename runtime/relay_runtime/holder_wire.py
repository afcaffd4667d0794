"""One connection to a holder: frames over a unix socket, whatever the length of its path."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import anyio

from .contract import DriverError, HarnessGone
from .holder import wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

SOCKET = "holder.sock"
#: A holder answers in well under a millisecond; this bounds a machine that is swapping or asleep.
DIAL_S = 10.0


class HolderIncompatible(DriverError):
    """Raised when a holder is of a version that shares no protocol with this one."""


class HolderRefused(DriverError):
    """Raised when the holder will not do what was asked. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """Frames in and out. Closed at the end of `async with`."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._decoder = wire.Decoder()
        self.hello: wire.Json = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await anyio.aclose_forcefully(self._stream)

    async def send(self, frame: bytes) -> None:
        """Raises `HarnessGone`. Cancelled in between it leaves half a frame: close it then."""
        try:
            await self._stream.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise HarnessGone("the holder of this session is gone") from None

    async def frames(self) -> AsyncIterator[wire.Frame]:
        """Whole frames until the holder closes. An ERROR frame is raised as `HolderRefused`."""
        while True:
            while frame := self._decoder.next_frame():
                if frame.kind == wire.ERROR:
                    raise refusal(wire.decode_json(frame.payload))
                yield frame
            try:
                self._decoder.feed(await self._stream.receive(wire.CHUNK))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return


def refusal(error: object) -> HolderRefused:
    if not isinstance(error, dict):
        error = {}
    return HolderRefused(str(error.get("code")), str(error.get("message")))


async def dial(session_dir: str, *, read_only: bool) -> Connection:
    """Connect and agree on a protocol.

    Raises `HarnessGone` when no holder serves the folder, `HolderIncompatible` when there is no
    protocol in common, `HolderRefused` when it will not have us.
    """
    connection = Connection(await _connect(session_dir))
    try:
        with anyio.fail_after(DIAL_S):
            with suppress(HarnessGone):  # turned away before we spoke: its word why is still there
                await connection.send(wire.hello(read_only=read_only))
            async for frame in connection.frames():
                if frame.kind != wire.HELLO:
                    raise HolderIncompatible(f"what serves {session_dir} is not a holder")
                connection.hello = wire.decode_json(frame.payload)
                wire.agree(connection.hello)
                return connection
        raise HarnessGone(f"the holder in {session_dir} hung up")
    except wire.WireError as error:
        await connection.close()
        raise HolderIncompatible(
            f"the holder in {session_dir} is of another version: {error}; "
            "use the version that started it, or release the session"
        ) from None
    except TimeoutError:
        await connection.close()
        raise HarnessGone(f"the holder in {session_dir} does not answer") from None
    except BaseException:
        await connection.close()
        raise


async def _connect(session_dir: str) -> SocketStream:
    # A socket path holds 107 bytes; through a descriptor of the folder it is always short.
    try:
        folder = os.open(session_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HarnessGone(f"there is no session in {session_dir}: {error.strerror}") from None
    try:
        found = os.stat(SOCKET, dir_fd=folder)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise HolderIncompatible(f"{session_dir}/{SOCKET} is not a socket of this user")
        with anyio.fail_after(DIAL_S):
            return await anyio.connect_unix(f"/proc/self/fd/{folder}/{SOCKET}")
    except TimeoutError:
        raise HarnessGone(f"the holder in {session_dir} does not answer") from None
    except OSError as error:
        raise HarnessGone(f"no holder serves {session_dir}: {error.strerror}") from None
    finally:
        os.close(folder)
