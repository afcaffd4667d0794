"""`attach`: a person's terminal on a session, until they detach or the session ends.

One loop over the keyboard, the terminal, the connection and signals. Nothing in it waits for one of
them alone: a terminal that takes no output keeps nobody from leaving.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import time
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..screen import exact
from .chord import Chord, show_keys
from .connection import REBUILD_S, NoTerminal, Screencast, Unreachable
from .display import Display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .terminal import Terminal

#: A connection that breaks while the holder lives (we were asleep for too long) is made anew; one
#: that breaks this often in a row without any output is not worth it.
RECONNECTS = 3
#: Typed while the connection is made anew, which takes milliseconds: a large paste.
MAX_UNSENT = 1024 * 1024
#: For the last keys before leaving. A holder reads at once; this bounds one that is stopped.
LAST_KEYS_S = 1.0
_SIGNALS = (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


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


class Wishes(NamedTuple):
    name: str
    read_only: bool = False
    size: Size = Size.LATEST
    keys: tuple[int, ...] = (0x1C, 0x04)
    person: str | None = None  #: what whoever types is called


class Attachment:
    """See the module. `session_dir` is where a lost connection is made again."""

    def __init__(self, terminal: Terminal, wishes: Wishes, session_dir: str) -> None:
        self._terminal = terminal
        self._wishes = wishes
        self._session_dir = session_dir
        self._exact = exact()
        self._display = Display(terminal, exact=self._exact)
        self._tries = RECONNECTS
        self._ready_by: float | None = None  # of a connection that is made anew
        self._chord = Chord(wishes.keys)
        self._flush_at: float | None = None  # of the chord
        self._unsent = b""  # typed while there was no connection
        self._left: Left | None = None
        self._selector = selectors.DefaultSelector()
        self._listening: dict[int, int] = {}  # descriptors that are not always listened to
        self._cast: Screencast

    def run(self, first: Screencast) -> Left:
        """Until the person or the program leaves. `first` is a fresh connection."""
        mode = "read-only: " if self._wishes.read_only else ""
        with self._selector, _caught(_SIGNALS) as signals:
            self._selector.register(self._terminal.fd_in, _READ, self._on_keys)
            self._selector.register(signals, _READ, partial(self._on_signal, signals))
            self._cast = first
            try:
                self._go_live(f"{self._wishes.name}: {mode}{show_keys(self._wishes.keys)} detaches")
                while self._left is None:
                    self._turn()
                self._send_last_keys()
            finally:
                if self._cast is not first:
                    self._cast.close()
        return self._left

    def _turn(self) -> None:
        self._listen(self._terminal.fd_out, _WRITE if self._terminal.waiting else 0, self._on_room)
        # Without an emulator nothing may be left out, so the program has to wait for the terminal.
        reading = 0 if self._display.behind and not self._exact else _READ
        writing = _WRITE if self._cast.waits_to_write else 0
        self._listen(self._cast.fileno(), reading | writing, self._on_session)
        due = (self._flush_at, self._ready_by, self._display.deadline)
        until = min((at for at in due if at is not None), default=None)
        wait = None if until is None else max(0.0, until - time.monotonic())
        for key, mask in self._selector.select(wait):
            key.data(mask)
            if self._left is not None:
                return
        self._advance(time.monotonic())

    def _listen(self, fd: int, events: int, then: Callable[[int], None]) -> None:
        """Be woken for these and no other `events` of a descriptor."""
        if events == self._listening.get(fd, 0):
            return
        if not events:
            self._selector.unregister(fd)
        elif fd in self._listening:
            self._selector.modify(fd, events, then)
        else:
            self._selector.register(fd, events, then)
        self._listening[fd] = events
        if not events:
            del self._listening[fd]

    def _advance(self, now: float) -> None:
        if self._flush_at is not None and now >= self._flush_at:
            self._type(self._chord.flush())
            self._expect_keys(now)
        if self._ready_by is not None and now >= self._ready_by:
            self._reconnect()
        self._display.advance(now)

    # --- the session ----------------------------------------------------------------------------

    def _go_live(self, notice: str = "") -> None:
        self._cast.live, self._ready_by = True, None
        self._display.follow(self._cast)
        if notice:
            self._display.say(notice)
        self._fit()
        self._display.paint(time.monotonic())
        unsent, self._unsent = self._unsent, b""
        self._cast.type(unsent)
        if self._cast.ended:  # before it could be shown
            self._left = Left.ENDED

    def _on_session(self, mask: int) -> None:
        cast = self._cast
        if mask & _WRITE:
            cast.flush()
        if not mask & _READ:
            return
        try:
            for output in cast.receive():
                self._tries = RECONNECTS
                self._display.show(output)
        except (Unreachable, NoTerminal):
            self._reconnect()
            return
        if cast.ready and not cast.live:
            self._go_live()
        if cast.refused:
            cast.refused = False
            self._display.ring()
        if cast.live:
            self._display.tell(self._wishes.name)
        if cast.ended:
            self._left = Left.ENDED

    def _reconnect(self) -> None:
        lost = self._cast
        self._unsent = lost.unsent + self._unsent
        self._listen(lost.fileno(), 0, self._on_session)
        self._display.follow(None)
        lost.close()
        while self._tries:
            self._tries -= 1
            try:
                wishes = self._wishes
                self._cast = Screencast(
                    self._session_dir, read_only=wishes.read_only, person=wishes.person
                )
            except Unreachable:
                continue
            self._ready_by = time.monotonic() + REBUILD_S
            return
        self._left = Left.LOST

    def _fit(self) -> None:
        if not self._cast.live or self._wishes.read_only or self._wishes.size is Size.FIXED:
            return
        rows, cols = self._terminal.size()
        if not self._exact:
            # Nobody knows what is on the screen but the program: have it say so again.
            self._cast.view(rows, max(1, cols - 1), self._wishes.size)
        self._cast.view(rows, cols, self._wishes.size)

    # --- the person -----------------------------------------------------------------------------

    def _on_keys(self, _: int) -> None:
        data = self._terminal.read()
        if data is None:
            return
        if not data:
            self._left = Left.HUNG_UP
            return
        typed = self._chord.feed(data)
        self._type(typed.data)
        if typed.detach:
            self._left = Left.DETACHED
        self._expect_keys(time.monotonic())

    def _expect_keys(self, now: float) -> None:
        wait = self._chord.waits
        self._flush_at = None if wait is None else now + wait

    def _type(self, data: bytes) -> None:
        if not data or self._wishes.read_only:
            return
        room = max(0, MAX_UNSENT - len(self._unsent) - len(self._cast.unsent))
        if self._cast.live:
            self._cast.type(data[:room])
        else:
            # The connection is being made again; what is typed meanwhile is not lost.
            self._unsent += data[:room]
        if len(data) > room:
            self._display.ring()

    def _send_last_keys(self) -> None:
        poll, deadline = select.poll(), time.monotonic() + LAST_KEYS_S
        while self._left is Left.DETACHED and self._cast.live and self._cast.waits_to_write:
            poll.register(self._cast, select.POLLOUT)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return
            self._cast.flush()

    def _on_room(self, _: int) -> None:
        self._terminal.flush()

    def _on_signal(self, fd: int, _: int) -> None:
        if set(os.read(fd, 4096)) - {signal.SIGWINCH}:
            self._left = Left.HUNG_UP
            return
        self._fit()
        self._display.measure()
        self._display.paint(time.monotonic())


@contextmanager
def _caught(numbers: tuple[int, ...]) -> Iterator[int]:
    """A descriptor on which these signals arrive, as one byte each; nothing else comes of them."""
    reading, writing = os.pipe()
    for fd in (reading, writing):
        os.set_blocking(fd, False)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    old = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


__all__ = ["Attachment", "Left", "Size", "Wishes"]
