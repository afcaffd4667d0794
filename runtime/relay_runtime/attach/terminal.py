"""The person's own terminal: raw while a session is shown, and as it was on every way out."""

from __future__ import annotations

import os
import select
import termios
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


class Terminal:
    """Output is written as the terminal takes it. One that was closed takes all, and shows nothing."""

    def __init__(self, fd_in: int, fd_out: int) -> None:
        self.fd_in = fd_in
        self._fd_out = fd_out

    def size(self) -> tuple[int, int]:
        """Rows and columns; 24x80 where the terminal does not know."""
        try:
            found = os.get_terminal_size(self._fd_out)
        except OSError:  # it was closed
            return 24, 80
        return found.lines or 24, found.columns or 80

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd_out, view) :]
            except BlockingIOError:  # whoever had the terminal before us left it so
                select.select([], [self._fd_out], [])
            except OSError:  # whoever reads the keyboard will notice
                return


@contextmanager
def raw(fd_in: int, fd_out: int) -> Iterator[Terminal]:
    """The terminal in raw mode with a screen of its own, restored at the end of the block.

    Raises `termios.error` when `fd_in` is no terminal.
    """
    before = termios.tcgetattr(fd_in)
    terminal = Terminal(fd_in, fd_out)
    try:
        # Not TCSAFLUSH: what somebody has typed ahead is meant for the session.
        tty.setraw(fd_in, termios.TCSADRAIN)
        terminal.write(ENTER)
        yield terminal
    finally:
        terminal.write(LEAVE)
        with suppress(termios.error):
            # Keys pressed while leaving, and answers of the terminal still under way, would
            # appear at the shell's prompt.
            termios.tcsetattr(fd_in, termios.TCSAFLUSH, before)


__all__ = ["Terminal", "raw"]
