"""From a fresh process to a serving holder: stdin, lock, signals, socket, then the word on stdout."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import sys

from . import wire
from .child import is_environ, remember_umask
from .log import Log
from .server import SOCKET, Server

#: What people, shells and supervisors send to process groups. The holder ends when it is told to.
IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGPIPE,
)
LOCK = "holder.lock"
LOGS = "log"
#: Kept of each log by default, and the size of one of its segments.
LOG_BYTES = 256 * 1024 * 1024
SEGMENT_BYTES = 8 * 1024 * 1024
#: At least this many at a time: what a log lets go of is then a small part of it, and was there for a
#: while after readers were told that it rolls.
SEGMENTS = 4
#: The longest that a view may stay without anybody who looks at it.
DAY_S = 86_400
#: Connections that may wait to be accepted: all there may be (`server.MAX_CLIENTS`) at once.
_BACKLOG = 64
_PR_SET_CHILD_SUBREAPER = 36


class BootError(Exception):
    """The holder cannot serve. The message is for whoever starts it."""


def run(folder: str) -> int:
    """Serve the session in `folder` until told to quit. Returns the exit status."""
    try:
        server = _prepare(folder)
    except (BootError, OSError, ValueError) as error:
        _say({"error": str(error)})
        return 1
    server.session.record([])
    _say({"ready": os.getpid(), "protocol": wire.PROTOCOL})
    _let_go_of_stdio()
    server.serve()
    return 0


def _prepare(folder: str) -> Server:
    session_id, environ, keep, segment, leave_s = _read_start()
    remember_umask(os.umask(0o077))
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir(folder)  # from here on every path is short, however long the folder's is
    _own(folder)
    _become_subreaper()
    os.makedirs(LOGS, exist_ok=True)
    logs = {name: Log(LOGS, name, keep=keep, segment=segment) for name in wire.STREAMS}
    return Server(session_id, environ, logs, _listen(), leave_s)


def _read_start() -> tuple[str, dict[str, str], int, int, float | None]:
    start = json.load(sys.stdin.buffer)
    if not isinstance(start, dict):
        raise BootError("the start must be a JSON object")
    session_id, environ = start.get("session_id"), start.get("environ")
    if not isinstance(session_id, str) or not session_id or not session_id.isprintable():
        raise BootError("session_id must be a printable string")
    if not isinstance(environ, dict) or not is_environ(environ):
        raise BootError("environ must map names to strings without NUL")
    keep, segment = start.get("log_bytes", LOG_BYTES), start.get("segment_bytes", SEGMENT_BYTES)
    if type(keep) is not int or type(segment) is not int or keep < 0 or segment < 1:
        raise BootError("log_bytes and segment_bytes must be whole numbers")
    leave_s = start.get("leave_s")
    if leave_s is not None and not (isinstance(leave_s, int | float) and 0 <= leave_s <= DAY_S):
        raise BootError(f"leave_s must be a number of seconds up to {DAY_S}")
    return session_id, environ, keep, min(segment, max(1, keep // SEGMENTS)), leave_s


def _own(folder: str) -> None:
    """Make the folder private and take its lock for life. The kernel lets go of it, also at kill -9."""
    found = os.stat(".")
    if found.st_uid != os.geteuid():
        raise BootError(f"{folder} belongs to another user")
    os.chmod(".", 0o700)
    fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BootError(f"another holder owns {folder}; connect to it instead") from None


def _become_subreaper() -> None:
    """Descendants that lose their parent come to us, so that none can hide by calling setsid."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot become the reaper of the session's processes")


def _listen() -> socket.socket:
    try:
        os.unlink(SOCKET)  # of a holder that died: the lock says there is no other
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(SOCKET)
    os.chmod(SOCKET, 0o600)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _say(word: dict[str, object]) -> None:
    try:
        os.write(1, json.dumps(word).encode() + b"\n")
    except OSError:
        pass  # whoever started us is gone; somebody else may connect


def _let_go_of_stdio() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    if null > 2:
        os.close(null)
