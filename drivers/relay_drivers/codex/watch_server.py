"""Stands in for an app-server that the user has started: runs as long as that does, and no longer.

    python -I -S watch_server.py SOCKET

A session has a process of its own whose end is the end of the session. One that has joined the
user's codex has this: it says nothing to codex, holds nothing of it, and ending it ends nothing else.
Standard library only.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys

_PEER = struct.Struct("3i")  # pid, uid, gid


def watch(path: str) -> str | None:
    """Wait for the end of the process that listens at `path`. What is wrong, if it cannot be."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.path.realpath(path))
        except OSError as error:
            return f"codex does not listen at {path}: {error.strerror}"
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid, uid, _ = _PEER.unpack(peer)
        if uid != os.geteuid():
            return f"the codex at {path} belongs to another user"
        try:
            fd = os.pidfd_open(pid)
        except OSError as error:
            return f"the codex at {path} has just ended: {error.strerror}"
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()
    return None


if __name__ == "__main__":
    if (problem := watch(sys.argv[1])) is not None:
        sys.exit(f"Error: {problem}")
    sys.stderr.write("the codex that the user had started has ended\n")
