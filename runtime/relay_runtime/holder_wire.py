"""One connection to a holder: frames over a unix socket, whatever the length of its path."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel
from anyio.abc import SocketAttribute

from .contract import DriverError, HarnessGone
from .holder import wire

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

SOCKET = "holder.sock"
#: A holder answers in well under a millisecond; this bounds a machine that is swapping or asleep.
DIAL_S = 10.0
GONE = "the holder of this session is gone"


class HolderIncompatible(DriverError):
    """Raised when a holder is of a version that shares no protocol with this one."""


class HolderRefused(DriverError):
    """Raised when the holder will not do what was asked. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """Frames in and out. Closed at the end of `async with`.

    On the socket itself: anyio's stream fails when it is cancelled in the very moment in which data
    arrives (agronholm/anyio#1267 was one case of it), and we are cancelled all the time.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._decoder = wire.Decoder()
        self.hello: wire.Json = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        anyio.notify_closing(self._socket)
        self._socket.close()

    async def send(self, frame: bytes) -> None:
        """Raises `HarnessGone`. Cancelled in between it leaves half a frame: close it then."""
        rest = frame
        while rest := self.send_now(rest):
            try:
                await anyio.wait_writable(self._socket)
            except (OSError, anyio.ClosedResourceError):
                raise HarnessGone(GONE) from None

    def send_now(self, frame: bytes) -> bytes:
        """Send what can be sent without waiting; the rest of it. Raises `HarnessGone`."""
        try:
            return frame[self._socket.send(frame) :]
        except BlockingIOError:
            return frame
        except OSError:
            raise HarnessGone(GONE) from None

    async def frames(self) -> AsyncIterator[wire.Frame]:
        """Whole frames until the holder closes. An ERROR frame is raised as `HolderRefused`."""
        while True:
            while frame := self._decoder.next_frame():
                if frame.kind == wire.ERROR:
                    raise refusal(wire.decode_json(frame.payload))
                yield frame
            data = await self._receive()
            if not data:
                return
            self._decoder.feed(data)

    async def _receive(self) -> bytes:
        """Empty at the end."""
        await anyio.lowlevel.checkpoint()
        try:
            while True:
                try:
                    return self._socket.recv(wire.CHUNK)
                except BlockingIOError:
                    await anyio.wait_readable(self._socket)
        except (OSError, anyio.ClosedResourceError):
            return b""


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
        connection.close()
        raise HolderIncompatible(
            f"the holder in {session_dir} is of another version: {error}; "
            "use the version that started it, or release the session"
        ) from None
    except TimeoutError:
        connection.close()
        raise HarnessGone(f"the holder in {session_dir} does not answer") from None
    except BaseException:
        connection.close()
        raise


async def _connect(session_dir: str) -> socket.socket:
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
            stream = await anyio.connect_unix(f"/proc/self/fd/{folder}/{SOCKET}")
            return stream.extra(SocketAttribute.raw_socket)
    except TimeoutError:
        raise HarnessGone(f"the holder in {session_dir} does not answer") from None
    except OSError as error:
        raise HarnessGone(f"no holder serves {session_dir}: {error.strerror}") from None
    finally:
        os.close(folder)
