"""Start the supervisor in the background, once, whoever asks for it and how many ask at a time."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .. import paths
from .failure import Exit, fail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A start takes well under a second; adopting many sessions on a busy machine takes longer.
START_S = 30.0
#: Between looks at a socket that another process is about to open: first, and at most.
RECONNECT_S = (0.01, 0.25)
#: Longest line that a starting supervisor may answer with.
MAX_ANSWER = 4096


def is_listening(home: Path) -> bool:
    """Whether a supervisor takes connections."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(paths.socket_address(paths.control_socket(home)))
        except OSError:
            return False
    return True


def ensure_supervisor(home: Path, timeout_s: float = START_S) -> bool:
    """Return when a supervisor serves `home`; True when it was started here.

    One process starts it, the others wait. What it says goes to `supervisor.log`.
    Fails with the supervisor's own reason when it cannot start.
    """
    deadline = time.monotonic() + timeout_s
    pause, longest = RECONNECT_S
    if not is_listening(home):
        _refuse_inside_a_session(home)
    while not is_listening(home):
        with _turn_to_start(home) as ours:
            if ours and not is_listening(home) and _start(home, deadline):
                return True
        if time.monotonic() >= deadline:
            log = paths.supervisor_log(home)
            fail(Exit.UNAVAILABLE, f"a supervisor is starting but does not answer: see {log}")
        time.sleep(pause)
        pause = min(pause * 2, longest)
    return False


def wait_gone(pid: int, timeout_s: float | None = None) -> bool:
    """Whether the process has ended within `timeout_s` (None: however long it takes)."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)


def _refuse_inside_a_session(home: Path) -> None:
    """A holder ends everything its agent has started: that would be the supervisor, and with it the
    holders of all sessions it starts from then on."""
    inside = os.environ.get("RELAY_RUNTIME_SESSION")
    if inside and paths.session_dir(home, inside).is_dir():
        fail(
            Exit.UNAVAILABLE,
            "the supervisor is gone, and one started from inside a session would end with it: "
            "run `relay-runtime up` outside",
        )


@contextmanager
def _turn_to_start(home: Path) -> Iterator[bool]:
    """Whether it is up to this process to start the supervisor. The lock dies with its holder."""
    fd = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
            return
        yield False
    finally:
        os.close(fd)


def _start(home: Path, deadline: float) -> bool:
    """Start it and wait for its answer. False: another supervisor is there, or about to be."""
    reader, writer = os.pipe()
    try:
        child = _spawn(home, writer)
    finally:
        os.close(writer)
    try:
        answer = _read_line(reader, deadline)
    finally:
        os.close(reader)
    match answer:
        case "ready":
            child.returncode = 0  # not ours to wait for: it outlives us
            return True
        case "taken":
            child.wait()
            return False
        case None:
            log = paths.supervisor_log(home)
            fail(Exit.UNAVAILABLE, f"the supervisor (pid {child.pid}) is not ready yet: see {log}")
        case "":
            code = child.wait()
            fail(Exit.UNAVAILABLE, f"the supervisor ended ({_how(code)}): {_last_words(home)}")
        case reason:
            child.wait()
            message = f"the supervisor cannot start: {reason.removeprefix('error: ')}"
            fail(Exit.UNAVAILABLE, message)


def _spawn(home: Path, writer: int) -> subprocess.Popen[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(paths.supervisor_log(home), flags, 0o600)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "relay_runtime.supervisor", "--ready-fd", str(writer)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[writer],
            cwd=home,  # the caller's may go away, or keep a disk from being unmounted
            env=os.environ | {paths.HOME_VARIABLE: str(home)},
            start_new_session=True,
        )
    finally:
        os.close(log)


def _read_line(fd: int, deadline: float) -> str | None:
    """The line that comes through the pipe, empty when it closes before, None at the deadline."""
    said = b""
    while not said.endswith(b"\n") and len(said) < MAX_ANSWER:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        piece = os.read(fd, MAX_ANSWER)
        if not piece:
            return ""
        said += piece
    return said.decode(errors="replace").strip()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _last_words(home: Path) -> str:
    log = paths.supervisor_log(home)
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - MAX_ANSWER))
        lines = file.read().decode(errors="replace").split("\n")
    words = [line for line in lines if line.strip()]
    return f"{words[-1]} (see {log})" if words else f"see {log}"


__all__ = ["ensure_supervisor", "is_listening", "wait_gone"]
