"""Wake-ups. The hub holds no data: who is woken looks in the store, so a wake-up too many costs a
read, and a wake-up lost costs latency, never a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Something was added to the event log.
EVENTS = "events"
#: A deadline was set that is earlier than all others.
DEADLINES = "deadlines"


def runtime_topic(runtime_id: str) -> str:
    """New deliveries for the agents of a runtime."""
    return f"runtime:{runtime_id}"


def message_topic(message_id: int) -> str:
    """New receipts of a message."""
    return f"message:{message_id}"


class Watch:
    """Registered from `with` on, so what happens between a read and `wait` is not missed."""

    def __init__(self, hub: Hub, topic: str) -> None:
        self._hub = hub
        self._topic = topic
        self._event = anyio.Event()

    def __enter__(self) -> Self:
        self._hub._watches.setdefault(self._topic, set()).add(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        watches = self._hub._watches[self._topic]
        watches.discard(self)
        if not watches:
            del self._hub._watches[self._topic]

    async def wait(self, seconds: float | None = None) -> bool:
        """True when woken since the last `wait`; False after `seconds`, or when the hub closed."""
        if self._hub.closed:
            return False
        with anyio.move_on_after(seconds):
            await self._event.wait()
        woken = self._event.is_set()
        self._event = anyio.Event()
        return woken and not self._hub.closed

    def _wake(self) -> None:
        self._event.set()


class Hub:
    """Who waits for what, in this process."""

    def __init__(self) -> None:
        self._watches: dict[str, set[Watch]] = {}
        self.closed = False

    def watch(self, topic: str) -> Watch:
        """A context manager to wait for `topic` in."""
        return Watch(self, topic)

    def wake(self, topics: Iterable[str]) -> None:
        """Wake everyone who watches one of `topics`."""
        for topic in topics:
            for watch in self._watches.get(topic, ()):
                watch._wake()

    def close(self) -> None:
        """End every wait now and from now on: the process is going to stop."""
        self.closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch._wake()


__all__ = ["DEADLINES", "EVENTS", "Hub", "Watch", "message_topic", "runtime_topic"]
