"""Somebody at a terminal of their own who knows Claude's screen."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from relay_drivers.claude.tui.screen import TuiScreen, read

from .terminals import Person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .fleets import RealSession


class Reader(Person):
    """Runs `attach`; `box` is what the driver would read from the same screen."""

    @property
    def box(self) -> TuiScreen:
        with self._news:
            return read(self._screen)

    async def sees_box(self, holds: Callable[[TuiScreen], bool]) -> None:
        """Wait until what is read from the screen is so."""
        await self.sees_that(lambda: holds(self.box), "such an input box")

    async def sees_empty_box(self) -> None:
        await self.sees_box(lambda box: box.input == "empty")

    async def sees_draft(self) -> None:
        await self.sees_box(lambda box: box.input == "draft" and not box.stashed)

    async def sees_the_same_as(self, other: Person) -> None:
        await self.sees_that(lambda: self.shown == other.shown, f"the same as\n{other.shown}\nit")

    def resizes(self, rows: int, cols: int) -> None:
        with self._news:
            self._screen.resize(rows, cols)
            self._terminal.setwinsize(rows, cols)


@asynccontextmanager
async def reading(session: RealSession, *options: str) -> AsyncIterator[Reader]:
    """Somebody who sees Claude's input box."""
    reader = Reader(session.fleet.terminal("attach", session.name, *options))
    try:
        await reader.sees_box(lambda box: box.input != "none")
        yield reader
    finally:
        reader.close()
