"""A person at a terminal, played through a real PTY: `relay-runtime attach`, or an agent's CLI."""

from __future__ import annotations

import re
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio.to_thread
import pexpect

from relay_runtime.screen import new_screen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from relay_runtime.testing.fleet import Fleet

#: A terminal interface paints in a second; on a machine that is busy with other tests in many.
SOON_S: Final = 60.0
#: Before a person presses a key again.
PATIENCE_S: Final = 2.0
DETACH: Final = "\x1c\x04"


class Person:
    """See the module. What comes to the terminal, of 40 by 120, is taken at once, as terminals do."""

    def __init__(self, terminal: pexpect.spawn[str]) -> None:
        self._screen = new_screen(40, 120)
        self._said = ""
        self._over = False
        self._terminal = terminal
        self._terminal.delaybeforesend = None
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # --- what they see --------------------------------------------------------------------------

    @property
    def shown(self) -> str:
        with self._news:
            return "\n".join(self._screen.text())

    @property
    def runs(self) -> bool:
        """The program has not ended."""
        with self._news:
            return not self._over

    async def sees(self, *patterns: str) -> None:
        """Wait until the screen shows each of them, in any order."""
        await self.sees_that(
            lambda: all(re.search(pattern, self.shown) for pattern in patterns), patterns
        )

    async def sees_no(self, pattern: str) -> None:
        await self.sees_that(lambda: not re.search(pattern, self.shown), f"no {pattern}")

    async def hears(self, sequence: str) -> None:
        """Wait until this has come, which terminals do not show."""
        await self.sees_that(lambda: sequence in self._said, sequence)

    async def sees_that(self, holds: Callable[[], bool], what: object) -> None:
        """Wait until it holds; it is looked at whenever something has come."""

        def wait() -> None:
            with self._news:
                assert self._news.wait_for(holds, SOON_S), f"{what} never came:\n{self.shown}"

        await anyio.to_thread.run_sync(wait)

    async def is_left(self) -> str:
        """Wait until the program has ended, and well; what it said on the restored terminal."""
        await self.sees_that(lambda: self._over, "the end")
        await anyio.to_thread.run_sync(self._terminal.wait)
        assert self._terminal.exitstatus == 0, (self._terminal.exitstatus, self._said[-500:])
        return self._said.rpartition("\x1b[?1049l")[2]

    # --- what they do ---------------------------------------------------------------------------

    def types(self, text: str) -> None:
        self._terminal.send(text)

    def pastes(self, text: str) -> None:
        self.types(f"\x1b[200~{text}\x1b[201~")

    async def presses(self, key: str, dialog: str) -> None:
        """Answer a dialog: again when nothing came of it, as one that has only just appeared may
        take no keys yet. Nothing is pressed once it is gone."""

        def press() -> None:
            with self._news:
                for _ in range(int(SOON_S / PATIENCE_S)):
                    self.types(key)
                    if self._news.wait_for(lambda: not re.search(dialog, self.shown), PATIENCE_S):
                        return
                raise AssertionError(f"{dialog} does not go away:\n{self.shown}")

        await anyio.to_thread.run_sync(press)

    async def leaves(self) -> str:
        """Detach; what is said on the terminal after it was restored."""
        self.types(DETACH)
        return await self.is_left()

    def close(self) -> None:
        self._terminal.close(force=True)
        self._reader.join(SOON_S)

    def _read(self) -> None:
        while True:
            try:
                data = self._terminal.read_nonblocking(65_536, timeout=0.5)
            except pexpect.TIMEOUT:
                continue
            except (pexpect.EOF, OSError, ValueError):  # it has ended, or the test has
                break
            with self._news:
                self._said += data
                self._screen.feed(data.encode())
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()


@asynccontextmanager
async def attached(fleet: Fleet, *arguments: str) -> AsyncIterator[Person]:
    person = Person(fleet.terminal("attach", *arguments))
    try:
        yield person
    finally:
        person.close()


__all__ = ["Person", "attached"]
