"""What reached the model: every request in order, and the proofs that tests draw from it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, overload

import anyio

if TYPE_CHECKING:
    from .conversation import Asked, Body

#: A server that is asked more often than this serves a client gone wild, not a test.
MAX_REQUESTS = 20_000
#: Never kept: what is written down here is shown by the admin route.
_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})


class Outcome(StrEnum):
    OPEN = "open"
    ANSWERED = "answered"  #: all that the step says was sent, a refusal too
    CUT = "cut"  #: closed midway by the script
    ABORTED = "aborted"  #: the client went away first


@dataclass(slots=True)
class Recorded:
    """One request. Only `outcome` changes after it was recorded."""

    index: int
    at: float  #: seconds since the epoch, when the whole request had been read
    api: str  #: anthropic, responses, chat or other
    method: str
    path: str
    headers: Mapping[str, str]
    body: Body
    main: bool = False  #: part of a conversation; false for titles and other side requests
    model: str = ""
    conversation: str = ""
    texts: tuple[str, ...] = ()  #: what the model reads as input, in order; no tool results
    outcome: Outcome = Outcome.OPEN

    def holds(self, marker: str) -> bool:
        return any(marker in text for text in self.texts)

    def as_json(self, bodies: bool) -> dict[str, object]:
        shown: dict[str, object] = {
            "index": self.index,
            "at": self.at,
            "api": self.api,
            "method": self.method,
            "path": self.path,
            "main": self.main,
            "model": self.model,
            "conversation": self.conversation,
            "texts": list(self.texts),
            "outcome": self.outcome,
        }
        return {**shown, "headers": dict(self.headers), "body": self.body} if bodies else shown


class RequestLog(Sequence[Recorded]):
    """Requests in the order in which they arrived. Proofs look at main requests only."""

    def __init__(self) -> None:
        self._requests: list[Recorded] = []
        self._changed = anyio.Event()

    @overload
    def __getitem__(self, index: int) -> Recorded: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Recorded]: ...
    def __getitem__(self, index: int | slice) -> Recorded | Sequence[Recorded]:
        return self._requests[index]

    def __len__(self) -> int:
        return len(self._requests)

    def main(self, conversation: str | None = None) -> list[Recorded]:
        """Main requests, of one conversation or of all."""
        return [
            request
            for request in self._requests
            if request.main and conversation in (None, request.conversation)
        ]

    def conversations(self) -> list[str]:
        return list(self._last_of_each())

    def occurrences(self, marker: str, conversation: str | None = None) -> int:
        """How often `marker` stands in the conversations as they were last sent.

        1 is exactly once: a request repeats everything before it, so only the newest counts.
        """
        return sum(text.count(marker) for text in self._last_texts(conversation))

    def first_seen(self, marker: str, conversation: str | None = None) -> Recorded | None:
        """The first main request that holds `marker`."""
        return next((r for r in self.main(conversation) if r.holds(marker)), None)

    def order(self, markers: Sequence[str], conversation: str | None = None) -> list[str]:
        """Those of `markers` that were seen, in the order in which the model reads them."""
        text = "\n".join(self._last_texts(conversation))
        seen = [(text.find(marker), marker) for marker in markers]
        return [marker for position, marker in sorted(seen) if position >= 0]

    async def wait(
        self, wanted: str | Callable[[Recorded], bool], within: float = 30.0, since: int = 0
    ) -> Recorded:
        """The first wanted request with index ≥ `since`, now or when it arrives in `within` seconds.

        `wanted` as text is a marker in a main request. Raises `TimeoutError`, which tells what
        came instead.
        """
        matches = (lambda r: r.main and r.holds(wanted)) if isinstance(wanted, str) else wanted
        with anyio.move_on_after(within):
            async for request in self._follow(since):
                if matches(request):
                    return request
        seen = [(r.index, r.api, r.main, r.outcome.value) for r in self._requests[since:]][-10:]
        raise TimeoutError(f"no such request in {within:g} s: {wanted!r}; the last were {seen}")

    async def changed(self) -> None:
        """Return when a request arrives or gets its outcome."""
        await self._changed.wait()

    async def wait_outcome(self, request: Recorded, within: float = 30.0) -> Outcome:
        """How it ended, waiting up to `within` seconds for that. Raises `TimeoutError`."""
        with anyio.fail_after(within):
            while request.outcome is Outcome.OPEN:
                await self._changed.wait()
        return request.outcome

    def add(
        self,
        *,
        api: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body,
        asked: Asked | None,
    ) -> Recorded:
        """Record a request. Raises `OverflowError` beyond `MAX_REQUESTS`."""
        if len(self._requests) >= MAX_REQUESTS:
            raise OverflowError(f"more than {MAX_REQUESTS} requests; start a new server")
        kept = {name: value for name, value in headers.items() if name not in _SECRET_HEADERS}
        request = Recorded(len(self._requests), time.time(), api, method, path, kept, body)
        if asked is not None:
            request.main, request.model = asked.main, asked.model
            request.conversation, request.texts = asked.conversation, asked.texts
        self._requests.append(request)
        self._wake()
        return request

    def end(self, request: Recorded, outcome: Outcome) -> None:
        if request.outcome is Outcome.OPEN:
            request.outcome = outcome
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _follow(self, index: int) -> AsyncIterator[Recorded]:
        while True:
            while index < len(self._requests):
                yield self._requests[index]
                index += 1
            await self._changed.wait()

    def _last_of_each(self) -> dict[str, Recorded]:
        return {request.conversation: request for request in self._requests if request.main}

    def _last_texts(self, conversation: str | None) -> Iterator[str]:
        for name, request in self._last_of_each().items():
            if conversation in (None, name):
                yield from request.texts
