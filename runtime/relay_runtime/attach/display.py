"""What a person's terminal shows of a session: its output as it comes where that is possible, else
its screen painted anew; a notice in the last row; what waits for the agent in the window's title."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import paint
from .switches import Switches

if TYPE_CHECKING:
    from ..screen import Screen
    from .connection import Output, Screencast
    from .terminal import Terminal

#: The line that says how to leave, or what waits.
NOTICE_S = 3.0
#: Between two paintings of a screen that is not shown as it comes: 60 in a second.
FRAME_S = 1 / 60
#: Output that waits for a terminal slower than the program. Beyond it, what comes is not written;
#: once the terminal has taken the rest, it gets the screen as it is then.
MAX_BEHIND = 256 * 1024


class Display:
    """`exact`: there is an emulator, so that a screen can be painted from what it says.

    Without one, only the program can paint, so all its output is shown and nothing painted over.
    """

    def __init__(self, terminal: Terminal, *, exact: bool) -> None:
        self._terminal = terminal
        self._exact = exact
        self._cast: Screencast | None = None
        self._switches = Switches()
        self._fits = False
        self._stale = False  # there is something to paint
        self._painted_at = 0.0
        self._notice = ""
        self._notice_until = 0.0
        self._told = ""
        self._title = ""

    @property
    def behind(self) -> bool:
        """The terminal does not keep up."""
        return self._terminal.waiting > MAX_BEHIND

    @property
    def deadline(self) -> float | None:
        """When `advance` has something to do if nothing happens before, on the monotonic clock."""
        paint_at = None
        if self._stale and self._cast is not None and not self._terminal.waiting:
            paint_at = self._painted_at + FRAME_S
        if self._notice and (paint_at is None or self._notice_until < paint_at):
            return self._notice_until
        return paint_at

    def advance(self, now: float) -> None:
        if self._notice and now >= self._notice_until:
            self._notice = ""
            self._overlay()
        if self._stale and now >= self._painted_at + FRAME_S:
            self.paint(now)

    def follow(self, cast: Screencast | None) -> None:
        """Show this one from its screen on; None: what is there stays for the time being."""
        self._cast = cast
        if cast is not None:
            self._switches = Switches()
            self._switches.feed(cast.tail)
            self._told = cast.told or ""
            self.measure()

    def say(self, text: str) -> None:
        """A notice, with what waits for the agent; it goes by itself."""
        self._notice = f"{text} · {self._told}" if self._told else text
        self._notice_until = time.monotonic() + NOTICE_S

    def tell(self, name: str) -> None:
        """Show what the supervisor has to say, when that has changed."""
        told = (self._cast.told if self._cast is not None else None) or ""
        if told != self._told:
            self._told = told
            if told:
                self._notice = f"{name}: {told}"
                self._notice_until = time.monotonic() + NOTICE_S
            self._overlay()

    def _overlay(self) -> None:
        """The notice or the title is another one, or is gone."""
        self._stale = self._exact
        if not self._exact and self._cast is not None:
            title, size = self._titled(self._screen(self._cast)), self._terminal.size()
            self._terminal.write(paint.title(title) + paint.notice(self._notice, *size))

    def ring(self) -> None:
        self._terminal.write(b"\a")

    def measure(self) -> None:
        """The terminal or the session's has another size."""
        if self._cast is not None:
            screen = self._screen(self._cast)
            # Of the session's size: then the program's output means the same to it.
            self._fits = not self._exact or (screen.rows, screen.cols) == self._terminal.size()

    def show(self, output: Output) -> None:
        """Output of the program, which the screen is brought up to date with."""
        cast = self._cast
        assert cast is not None
        shown, switched = self._switches.feed(output.data)
        titled = bool(self._told) and paint.retitles(shown)
        late = self._exact and (self._stale or self.behind)
        if self._fits and not (late or switched or titled or cast.resizes(output)):
            self._terminal.write(shown)  # first: somebody may wait for a key of theirs
            cast.take(output)
            return
        if resized := cast.take(output):
            self.measure()
        if late or not self._fits:
            self._stale = True
        elif resized or switched:
            self._paint_soon()
        else:
            self._terminal.write(shown + paint.title(self._titled(self._screen(cast))))

    def paint(self, now: float) -> None:
        """The screen as it is, at once if the terminal takes it."""
        self._stale = self._exact
        if self._cast is None or (self._exact and self._terminal.waiting):
            return
        screen, size = self._screen(self._cast), self._terminal.size()
        title, before = self._titled(screen), self._title
        if self._fits:
            data = paint.whole(screen)
            before = screen.title or before
        else:
            data = paint.part(screen, *size)
        if title != before:
            data += paint.title(title)
        self._stale, self._painted_at, self._title = False, now, title
        self._terminal.write(data + (paint.notice(self._notice, *size) if self._notice else b""))

    def _paint_soon(self) -> None:
        now = time.monotonic()
        self._stale = self._exact
        if not self._stale or now >= self._painted_at + FRAME_S:
            self.paint(now)

    def _titled(self, screen: Screen) -> str:
        """The window's title: the program's own, behind how much waits for it."""
        return f"[{self._told.partition(':')[0]}] {screen.title}" if self._told else screen.title

    @staticmethod
    def _screen(cast: Screencast) -> Screen:
        assert cast.replay is not None
        return cast.replay.screen


__all__ = ["MAX_BEHIND", "NOTICE_S", "Display"]
