"""The relay's event log as an iterator that outlives connections: nothing twice, nothing left out."""

from __future__ import annotations

import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Self

import anyio
from pydantic import ValidationError

from .errors import Busy, Retryable
from .lean import httpx
from .sse import SseError, SseParser
from .types import RelayEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from .connection import Connection
    from .sse import Block

# The relay says something every 15 seconds; twice that and a half means that it is gone.
SILENCE_S = 37.5
# Delays between attempts double from the first to the last.
FIRST_DELAY_S = 0.1
LAST_DELAY_S = 5.0
# A connection that is given up gets this long to close properly.
CLOSE_TIMEOUT_S = 1.0

logger = logging.getLogger(__name__)


class EventStream:
    """Made by `RelayClient.events`; use it as a context manager, then iterate.

    Entering connects, and raises what goes wrong: from then on every event is seen. Iterating
    connects again by itself, with growing delays, and continues after the last event; it raises
    `Rejected` (unauthorized, unknown_cursor) and `Misunderstood`, which do not go away by waiting.
    A cancelled `__anext__` loses nothing: the next one goes on.
    """

    def __init__(self, connection: Connection, agent_id: str | None, after: int | None) -> None:
        self._connection = connection
        self._params: dict[str, str | int | None] = {"for": agent_id}
        #: The last event seen, or passed over as not ours; None before the first connection.
        self.cursor = after
        self._waiting: deque[tuple[int, RelayEvent | None]] = deque()
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._parser = SseParser()
        self._delay_s = FIRST_DELAY_S

    async def __aenter__(self) -> Self:
        await self._connect()
        # The first block says where the stream stands, also when it began "now".
        while self.cursor is None and not self._waiting:
            await self._read()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                await response.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RelayEvent:
        """The next event; waits for it however long it takes, and for the relay to come back."""
        while True:
            while self._waiting:
                seq, event = self._waiting.popleft()
                if self.cursor is not None and seq <= self.cursor:
                    continue
                self.cursor = seq
                if event is not None:
                    return event
            try:
                if self._pieces is None:
                    await self._connect()
                await self._read()
            except Retryable as exc:
                await self._back_off(exc)

    async def _connect(self) -> None:
        params = self._params if self.cursor is None else {**self._params, "after": self.cursor}
        self._response = await self._connection.stream("/events", params, self.cursor, SILENCE_S)
        self._pieces = self._response.aiter_raw()
        self._parser = SseParser()

    async def _read(self) -> None:
        """Take in the next piece. Whatever interrupts it, the connection is of no use then."""
        assert self._pieces is not None  # called when connected
        try:
            piece = await anext(self._pieces)
            for block in self._parser.feed(piece):
                self._take(block)
        except StopAsyncIteration:
            await self.aclose()
            raise self._connection.broken("the event stream ended") from None
        except httpx.RequestError as exc:
            await self.aclose()
            raise self._connection.broken(str(exc) or type(exc).__name__) from exc
        except (SseError, ValidationError, ValueError) as exc:
            await self.aclose()
            raise self._connection.misunderstood(f"its event stream: {exc}") from exc
        except BaseException:
            await self.aclose()
            raise
        self._delay_s = FIRST_DELAY_S

    def _take(self, block: Block) -> None:
        if block.data is not None:
            event = RelayEvent.model_validate_json(block.data)
            self._waiting.append((event.seq, event))
        elif block.id is not None and self.cursor is None and not self._waiting:
            self.cursor = int(block.id)
        elif block.id is not None:
            self._waiting.append((int(block.id), None))

    async def _back_off(self, exc: Retryable) -> None:
        delay = self._delay_s * random.uniform(0.5, 1.0)  # so that clients do not come all at once
        if isinstance(exc, Busy):
            delay = max(delay, exc.retry_after)
        logger.info(
            "= events interrupted, again in %.1f s: %s",
            delay,
            exc,
            extra={"action": "events_reconnect"},
        )
        self._delay_s = min(self._delay_s * 2, LAST_DELAY_S)
        await anyio.sleep(delay)


__all__ = ["EventStream"]
