"""The session's terminal as this driver sees it: whether Claude works, and what it shows."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from relay_runtime.attach.connection import NoTerminal, Screencast, Unreachable
from relay_runtime.contract import HarnessGone

from .screen import TuiScreen, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay_runtime.screen import Screen

#: How the window's title begins while Claude waits, in every version so far.
_RESTS: Final = "✳"


class View:
    """`on_change` is called when output has come; `rests_since` is by anyio's clock."""

    def __init__(self, state_dir: str, on_change: Callable[[], None]) -> None:
        self._state_dir = state_dir
        self._on_change = on_change
        self._cast: Screencast | None = None
        self._title = ""
        self.rests_since: float | None = None
        self.changed_at = 0.0
        self.drawn_at = 0.0  #: the same in seconds since the epoch

    async def run(self) -> None:
        """Follow the output until the program has ended. Raises `HarnessGone`."""
        try:
            cast = Screencast(self._state_dir, read_only=True)
        except Unreachable as error:
            raise HarnessGone(str(error)) from None
        self._cast = cast
        try:
            while not cast.ended:
                await anyio.wait_readable(cast)
                self._receive(cast)
                await anyio.lowlevel.checkpoint()
        except NoTerminal:
            return  # it has ended already
        except Unreachable as error:
            raise HarnessGone(str(error)) from None
        finally:
            self._cast = None
            cast.close()

    def _receive(self, cast: Screencast) -> None:
        if cast.waits_to_write:
            cast.flush()
        before = cast.rebuilt
        deque(cast.receive(), 0)  # nothing is given out: it all goes to the screen
        if not cast.ready or cast.replay is None or cast.rebuilt == before:
            return
        self.changed_at, self.drawn_at = anyio.current_time(), time.time()
        title = cast.replay.screen.title
        if title != self._title or not title:
            self._title = title
            if not self._shows_rest(cast.replay.screen):
                self.rests_since = None
            elif self.rests_since is None:
                self.rests_since = self.changed_at
        self._on_change()

    def _shows_rest(self, screen: Screen) -> bool:
        if self._title:
            return self._title.startswith(_RESTS)
        shown = read(screen)  # a setting of the user keeps Claude from giving one
        return shown.input != "none" and not shown.busy

    @property
    def rests(self) -> bool:
        """Whether the title says that Claude waits: for input, or for an answer to a dialogue."""
        return self.rests_since is not None

    def read(self) -> TuiScreen | None:
        """What is shown now. None: there is no screen (yet, or any more)."""
        if self._cast is None:
            return None
        try:
            self._receive(self._cast)
        except (Unreachable, NoTerminal):
            return None
        replay = self._cast.replay
        return read(replay.screen) if replay is not None and self._cast.ready else None


__all__ = ["View"]
