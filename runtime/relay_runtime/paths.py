"""Where relay-runtime keeps its state. Standard library only: everything of ours imports this.

One folder per user, 0700:

    supervisor.lock   flock of the one supervisor
    supervisor.log    what it says, 0600
    control.sock      HTTP between the command line and the supervisor
    relay.db          the embedded relay
    journal.db        sessions, deliveries, intents, events
    sessions/<id>/    one folder per session: holder socket, logs, sockets of the driver

A socket address holds about a hundred bytes, a path may be longer: bind and connect through
`socket_address`, never with the path itself.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME_VARIABLE = "RELAY_RUNTIME_HOME"

#: Longest socket address in bytes that every platform takes: `sun_path` has 104 bytes on macOS and
#: 108 on Linux, one of them for the final NUL.
MAX_SOCKET_ADDRESS = 103


class StateHomeError(Exception):
    """Raised when the state folder cannot be used. The message is one line that says what to do."""


def locate(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the state folder is or would be; touches nothing.

    Raises `StateHomeError` for a relative RELAY_RUNTIME_HOME: it would name another folder in each
    working directory, and sessions have their own.
    """
    if chosen := environ.get(HOME_VARIABLE):
        if not os.path.isabs(chosen):
            raise StateHomeError(f"{HOME_VARIABLE} is {chosen!r}: give an absolute path")
        return Path(os.path.normpath(chosen))
    if sys.platform == "darwin":
        return _user_home() / "Library" / "Application Support" / "relay-runtime"
    base = environ.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path is invalid and must be ignored.
    root = Path(base) if os.path.isabs(base) else _user_home() / ".local" / "state"
    return root / "relay-runtime"


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """The state folder, created when missing. Ours alone: 0700 and owned by this user.

    Raises `StateHomeError` when it belongs to another user, is open to others, or cannot be made.
    """
    path = locate(environ)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(path)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except StateHomeError:
        raise
    except FileExistsError:
        raise StateHomeError(f"{path} is not a folder: move it or set {HOME_VARIABLE}") from None
    except OSError as error:
        raise StateHomeError(
            f"cannot use {path}: {error.strerror}; set {HOME_VARIABLE} to a folder you own"
        ) from None
    return path


def check_private(path: Path) -> None:
    """Refuse a state folder that other users own or can look into.

    An empty one of our own is made private instead: somebody has just created it for us.
    Raises `StateHomeError`, or `OSError` when it cannot be looked at.
    """
    info = path.stat()
    if info.st_uid != os.geteuid():
        raise StateHomeError(
            f"{path} belongs to user {info.st_uid}, not to you: set {HOME_VARIABLE} to your own"
        )
    if not stat.S_IMODE(info.st_mode) & 0o077:
        return
    if any(path.iterdir()):
        mode = stat.S_IMODE(info.st_mode)
        raise StateHomeError(f"{path} is open to other users (mode {mode:o}): chmod 700 {path}")
    path.chmod(0o700)


def lock_path(home: Path) -> Path:
    return home / "supervisor.lock"


def supervisor_log(home: Path) -> Path:
    return home / "supervisor.log"


def control_socket(home: Path) -> Path:
    return home / "control.sock"


def relay_db(home: Path) -> Path:
    return home / "relay.db"


def journal_db(home: Path) -> Path:
    return home / "journal.db"


def session_dir(home: Path, session_id: str) -> Path:
    return home / "sessions" / session_id


def socket_address(path: Path) -> str:
    """An address of the socket at `path` that is short enough to bind and connect.

    That is the path itself, or, in a deep state folder, the same place through a symbolic link to
    the folder that holds the socket, in a private folder of the system's. Everyone who asks gets
    the same socket, whichever link leads there. The links are made anew when something sweeps them.

    Raises `StateHomeError` when neither is possible.
    """
    if len(os.fsencode(path)) <= MAX_SOCKET_ADDRESS:
        return str(path)
    for base in _link_folders():
        with suppress(OSError, StateHomeError):
            address = _link(base, path.parent) / path.name
            if len(os.fsencode(address)) <= MAX_SOCKET_ADDRESS:
                return str(address)
    raise StateHomeError(
        f"{path} is too long for a socket ({MAX_SOCKET_ADDRESS} bytes): "
        f"set {HOME_VARIABLE} to a shorter path"
    )


def _user_home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise StateHomeError(f"your home folder is unknown: set {HOME_VARIABLE}") from None


def _link_folders() -> list[Path]:
    folders = []
    if os.path.isabs(runtime := os.environ.get("XDG_RUNTIME_DIR", "")):
        folders.append(Path(runtime) / "relay-runtime")
    return [*folders, Path(f"/tmp/relay-runtime-{os.geteuid()}")]


def _link(base: Path, target: Path) -> Path:
    import hashlib  # costs more than the rest of this module and is seldom needed

    base.mkdir(mode=0o700, exist_ok=True)
    info = base.lstat()  # in /tmp somebody else may have put a link or a folder there first
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
        raise StateHomeError(f"{base} is not private to you")
    link = base / hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    if not link.is_symlink():
        for old in base.iterdir():
            if not old.exists():  # its state folder is gone
                old.unlink(missing_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(target, target_is_directory=True)
    if os.readlink(link) != str(target):
        raise StateHomeError(f"{link} leads elsewhere")
    return link


__all__ = [
    "HOME_VARIABLE",
    "MAX_SOCKET_ADDRESS",
    "StateHomeError",
    "check_private",
    "control_socket",
    "home",
    "journal_db",
    "locate",
    "lock_path",
    "relay_db",
    "session_dir",
    "socket_address",
    "supervisor_log",
]
