"""Hooks of the agent that wait: for an answer, or until typing that is under way is done."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import Client

Answer = dict[str, object]


class Hook:
    """A request that is answered later. `latest`: a newer one of these lets it go."""

    def __init__(self, client: Client, number: object, answer: Answer, latest: bool) -> None:
        self.client = client
        self.number = number
        self.answer = answer
        self.latest = latest


class Waiting:
    """Each client waits with a few at most, so the number of clients bounds this."""

    def __init__(self) -> None:
        self._asking: dict[int, Hook] = {}  # by the offset of its line
        self._locked: list[Hook] = []

    def lock(self, hook: Hook) -> None:
        """Until `unlock`: nothing may open under what is being typed."""
        self._locked.append(hook)

    def unlock(self) -> list[Hook]:
        locked, self._locked = self._locked, []
        return locked

    def ask(self, offset: int, hook: Hook) -> list[Hook]:
        """Wait for an answer to the line at `offset`. Returns those that this one lets go."""
        old = [at for at, other in self._asking.items() if hook.latest and other.latest]
        gone = [self._asking.pop(at) for at in old]
        self._asking[offset] = hook
        return gone

    def take(self, offset: int) -> Hook | None:
        """The one that waits at `offset`; it no longer does."""
        return self._asking.pop(offset, None)

    def take_all(self) -> list[Hook]:
        asking, self._asking = self._asking, {}
        return list(asking.values())

    def forget(self, client: Client) -> None:
        """The client is gone, and with it what it waited for."""
        self._locked = [hook for hook in self._locked if hook.client is not client]
        self._asking = {at: hook for at, hook in self._asking.items() if hook.client is not client}
