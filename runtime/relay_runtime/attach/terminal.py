"""The person's own terminal: raw while a session is shown, and as it was on every way out."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Title and screen put aside; the new screen empty.
ENTER = b"\x1b[22;0t\x1b[?1049h\x1b[2J\x1b[H"
#: Everything a program may have switched on. Terminals ignore what they do not know.
RESET = (
    b"\x1b[?2026l"  # a synchronised update that was never ended
    b"\x1b[<99u\x1b[>4;0m"  # kitty keyboard, modifyOtherKeys
    b"\x1b[?9;1000;1001;1002;1003;1004;1005;1006;1015;1016;2004;2031l"  # mouse, focus, paste
    b"\x1b[?1;5;6;45;69l\x1b[?7h\x1b[4;20l\x1b>"  # cursor keys, origin, margins, insert, keypad
    b"\x1b[r\x1b(B\x0f\x1b[m\x1b[0 q\x1b[?12l\x1b[?25h"
)
LEAVE = RESET + b"\x1b[?1049l\x1b[23;0t"
#: Ends a sequence that was written in part.
_CANCEL = b"\x18"
#: For a terminal that takes no output: whoever wants to leave must not wait for it any longer.
LEAVE_S = 1.0
_READ = 65_536


class Terminal:
    """Never waits: `write` keeps what the terminal does not take yet, and `flush` tries again.

    One that was closed takes all and shows nothing; whoever reads the keyboard will notice.
    """

    def __init__(self, fd_in: int, fd_out: int) -> None:
        self.fd_in = fd_in
        self.fd_out = fd_out
        self._rest = bytearray()
        self.stuck = False  #: it was behind with its output when it was left

    @property
    def waiting(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._rest)

    def size(self) -> tuple[int, int]:
        """Rows and columns; 24x80 where the terminal does not know."""
        try:
            found = os.get_terminal_size(self.fd_out)
        except OSError:  # it was closed
            return 24, 80
        return found.lines or 24, found.columns or 80

    def read(self) -> bytes | None:
        """What was typed; None: nothing yet, empty: the terminal was closed."""
        try:
            return os.read(self.fd_in, _READ)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        if not self._rest:
            data = data[self._put(data) :]
            if not data:
                return
        self._rest += data
        self.flush()

    def flush(self) -> None:
        while self._rest:
            with memoryview(self._rest) as rest:
                taken = self._put(rest)
            if not taken:
                return
            del self._rest[:taken]

    def leave(self) -> None:
        """Undo everything on it, in bounded time."""
        self.stuck, self._rest = bool(self._rest), bytearray()
        self.write(_CANCEL + LEAVE if self.stuck else LEAVE)
        poll, deadline = select.poll(), time.monotonic() + LEAVE_S
        poll.register(self.fd_out, select.POLLOUT)
        while self._rest and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            self.flush()

    def _put(self, data: bytes | memoryview) -> int:
        """How much it has taken at once."""
        try:
            return os.write(self.fd_out, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)


@contextmanager
def raw(fd_in: int, fd_out: int) -> Iterator[Terminal]:
    """The terminal in raw mode with a screen of its own, restored at the end of the block.

    Raises `termios.error` when `fd_in` is no terminal.
    """
    before = termios.tcgetattr(fd_in)
    with _unblocked(fd_in, os.O_RDONLY) as reading, _unblocked(fd_out, os.O_WRONLY) as writing:
        terminal = Terminal(reading, writing)
        try:
            # At once, as below: waiting for the output would be for ever where nobody takes it.
            # And what somebody has typed ahead is meant for the session.
            tty.setraw(fd_in, termios.TCSANOW)
            terminal.write(ENTER)
            yield terminal
        finally:
            terminal.leave()
            with suppress(termios.error):
                # Keys pressed while leaving, and answers of the terminal still under way, would
                # appear at the shell's prompt.
                termios.tcflush(fd_in, termios.TCIFLUSH)
                termios.tcsetattr(fd_in, termios.TCSANOW, before)


@contextmanager
def _unblocked(fd: int, flags: int) -> Iterator[int]:
    """The same terminal, opened once more: a shell has ours too, and must not find it unblocked."""
    try:
        mine = os.open(os.ttyname(fd), flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        was_blocking = None
    except OSError:  # it has no name here, or belongs to somebody else since a `su`
        mine, was_blocking = os.dup(fd), os.get_blocking(fd)
        os.set_blocking(mine, False)
    try:
        yield mine
    finally:
        if was_blocking is not None:
            os.set_blocking(mine, was_blocking)
        os.close(mine)


__all__ = ["Terminal", "raw"]
