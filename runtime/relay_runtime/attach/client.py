"""`attach`: a person's terminal on a session, until they detach or the session ends."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio

from ..contract import DriverError, HarnessGone
from ..screen import exact
from . import paint
from .chord import Chord, show_keys
from .connection import Output, Screencast, watch
from .switches import Switches

if TYPE_CHECKING:
    from .terminal import Terminal

#: How long an Escape may be the beginning of a longer key: terminals send those in one piece.
ESCAPE_S = 0.025
#: The line that says how to leave.
NOTICE_S = 3.0
#: Between two paintings of a screen that is not shown as it comes: 60 in a second.
FRAME_S = 1 / 60
#: A connection that breaks while the holder lives (we were asleep for too long) is made anew; one
#: that breaks this often in a row without any output is not worth it.
RECONNECTS = 3
_READ = 65_536
#: Typed while the connection is made anew, which takes milliseconds: a large paste.
MAX_UNSENT = 1024 * 1024


class Size(StrEnum):
    """Whose size the session's terminal takes."""

    LATEST = "latest"
    SMALLEST = "smallest"
    FIXED = "fixed"  #: it keeps the one it has


class Left(StrEnum):
    DETACHED = "detached"
    ENDED = "ended"  #: the program has
    LOST = "lost"  #: the holder is gone
    HUNG_UP = "hung up"  #: our terminal was closed, or we were told to end


@dataclass(frozen=True, slots=True)
class Wishes:
    name: str
    read_only: bool = False
    size: Size = Size.LATEST
    keys: tuple[int, ...] = (0x1C, 0x04)


class Attachment:
    """See the module. `session_dir` is where a lost connection is made again."""

    def __init__(self, terminal: Terminal, wishes: Wishes, session_dir: str) -> None:
        self._terminal = terminal
        self._wishes = wishes
        self._session_dir = session_dir
        self._exact = exact()
        self._tries = RECONNECTS
        self._chord = Chord(wishes.keys)
        self._cast: Screencast | None = None
        self._unsent = b""  # typed while there was no connection
        self._switches = Switches()
        self._stale = anyio.Event()  # there is something to paint
        self._left: Left | None = None
        mode = "read-only: " if wishes.read_only else ""
        self._notice = f"{wishes.name}: {mode}{show_keys(wishes.keys)} detaches"

    async def run(self, first: Screencast) -> Left:
        """Until the person or the program leaves. `first` is a fresh connection."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keyboard, tasks.cancel_scope)
            tasks.start_soon(self._signals, tasks.cancel_scope)
            tasks.start_soon(self._painter)
            tasks.start_soon(self._say_how_to_leave)
            ended = await self._show(first)
            self._left = Left.ENDED if ended else Left.LOST
            tasks.cancel_scope.cancel()
        assert self._left is not None
        return self._left

    # --- the session ----------------------------------------------------------------------------

    async def _show(self, first: Screencast) -> bool:
        """True when the program has ended, False when the session cannot be reached any more."""
        with suppress(HarnessGone):
            return await self._follow(first)
        while self._tries:
            self._tries -= 1
            with suppress(DriverError):
                async with watch(self._session_dir, read_only=self._wishes.read_only) as cast:
                    return await self._follow(cast)
        return False

    async def _follow(self, cast: Screencast) -> bool:
        self._cast, self._switches = cast, Switches()
        self._switches.feed(cast.tail)
        await self._fit()
        self._paint()
        unsent, self._unsent = self._unsent, b""
        self._unsent = await cast.type(unsent) + self._unsent
        async for output in cast.output():
            self._tries = RECONNECTS
            self._on_output(output)
        return True

    def _on_output(self, output: Output) -> None:
        shown, switched = self._switches.feed(output.data)
        if not self._as_it_comes:
            self._stale.set()
        elif output.resized or switched:
            self._paint()
        else:
            self._terminal.write(shown)

    async def _fit(self) -> None:
        if self._cast is None or self._wishes.read_only or self._wishes.size is Size.FIXED:
            return
        rows, cols = self._terminal.size()
        if (
            not self._exact
        ):  # nobody knows what is on the screen but the program: have it say so again
            await self._cast.view(rows, max(1, cols - 1), self._wishes.size)
        await self._cast.view(rows, cols, self._wishes.size)

    # --- painting -------------------------------------------------------------------------------

    @property
    def _as_it_comes(self) -> bool:
        """The terminal has the session's size, so the program's output means the same to it."""
        if self._cast is None:
            return False
        screen = self._cast.replay.screen
        return not self._exact or (screen.rows, screen.cols) == self._terminal.size()

    def _paint(self) -> None:
        if self._cast is None:
            return
        screen, size = self._cast.replay.screen, self._terminal.size()
        shown = paint.whole(screen) if self._as_it_comes else paint.part(screen, *size)
        self._terminal.write(shown + (paint.notice(self._notice, *size) if self._notice else b""))

    async def _painter(self) -> None:
        while True:
            await self._stale.wait()
            self._stale = anyio.Event()
            self._paint()
            await anyio.sleep(FRAME_S)

    async def _say_how_to_leave(self) -> None:
        await anyio.sleep(NOTICE_S)
        self._notice = ""
        self._paint()

    # --- the person -----------------------------------------------------------------------------

    async def _keyboard(self, everything: anyio.CancelScope) -> None:
        fd = self._terminal.fd_in
        while True:
            with anyio.move_on_after(ESCAPE_S if self._chord.waits else None) as waiting:
                await anyio.wait_readable(fd)
            if waiting.cancelled_caught:
                await self._type(self._chord.flush())
                continue
            try:
                data = os.read(fd, _READ)
            except OSError:
                data = b""
            if not data:
                self._leave(Left.HUNG_UP, everything)
                return
            typed = self._chord.feed(data)
            await self._type(typed.data)
            if typed.detach:
                self._leave(Left.DETACHED, everything)
                return

    async def _type(self, data: bytes) -> None:
        if not data or self._wishes.read_only:
            return
        if self._cast is not None and not self._unsent:
            data = await self._cast.type(data)
        # The connection is being made again; what is typed meanwhile is not lost.
        room = MAX_UNSENT - len(self._unsent)
        self._unsent += data[:room]
        if len(data) > room:
            self._terminal.write(b"\a")

    async def _signals(self, everything: anyio.CancelScope) -> None:
        wanted = (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        with anyio.open_signal_receiver(*wanted) as signals:
            async for number in signals:
                if number != signal.SIGWINCH:
                    self._leave(Left.HUNG_UP, everything)
                    return
                try:
                    await self._fit()
                except HarnessGone:
                    continue
                self._paint()

    def _leave(self, how: Left, everything: anyio.CancelScope) -> None:
        self._left = how
        everything.cancel()


__all__ = ["Attachment", "Left", "Size", "Wishes"]
