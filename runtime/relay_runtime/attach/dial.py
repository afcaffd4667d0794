"""Reaching the holder that serves a session's folder, whatever the length of its path."""

from __future__ import annotations

import os
import socket
import stat

SOCKET = "holder.sock"


class Unreachable(Exception):
    """Raised when a holder does not answer, or no longer; the message is one line for people."""


def connect(session_dir: str) -> socket.socket:
    """A connection that nothing waits for, of this user's own holder. Raises `Unreachable`."""
    # A socket path holds 107 bytes; through a descriptor of the folder it is always short.
    try:
        folder = os.open(session_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreachable(f"there is no session in {session_dir}: {error.strerror}") from None
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.setblocking(False)
    try:
        found = os.stat(SOCKET, dir_fd=folder)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise Unreachable(f"{session_dir}/{SOCKET} is not a socket of this user")
        link.connect(f"/proc/self/fd/{folder}/{SOCKET}")
    except OSError as error:
        link.close()
        raise Unreachable(f"no holder serves {session_dir}: {error.strerror}") from None
    except Unreachable:
        link.close()
        raise
    finally:
        os.close(folder)
    return link


__all__ = ["Unreachable", "connect"]
