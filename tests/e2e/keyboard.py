"""A person at the terminal of a session: what they see, and the keys they press."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from relay_runtime import paths
from relay_runtime.attach.connection import Screencast, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .fleets import RealSession


class Person:
    """Looks at one session. `label` is what its terminal is called."""

    def __init__(self, cast: Screencast) -> None:
        self._cast = cast

    def press(self, keys: str) -> None:
        self._cast.type(keys.encode())

    async def answer(self, keys: str, dialogue: str) -> None:
        """Press keys until the dialogue is gone: what comes while it is drawn is lost on it."""
        gone = False
        while not gone:
            self.press(keys)
            with suppress(AssertionError):
                await self.see(lambda screen: dialogue not in screen, within_s=2)
                gone = True

    @property
    def screen(self) -> str:
        assert self._cast.replay is not None
        return "\n".join(self._cast.replay.screen.text())

    async def see(self, wanted: str | Callable[[str], bool], within_s: float = 30.0) -> None:
        """Look until the screen has it."""
        shows = wanted if callable(wanted) else lambda screen: wanted in screen
        try:
            with anyio.fail_after(within_s):
                while not shows(self.screen):
                    await anyio.wait_readable(self._cast)
                    deque(self._cast.receive(), 0)
        except TimeoutError:
            raise AssertionError(f"not seen: {wanted!r} in\n{self.screen}") from None


@contextmanager
def person(session: RealSession, session_id: str, label: str = "pts/9") -> Iterator[Person]:
    """Somebody sits down at the session's terminal."""
    folder = str(paths.session_dir(session.fleet.home, session_id))
    with watch(folder, read_only=False, person=label) as cast:
        yield Person(cast)
