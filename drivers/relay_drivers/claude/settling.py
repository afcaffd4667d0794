"""Whether a write in doubt is in the context, from Claude's own record.

A living Claude may hold the write in its queue, where the record does not show it. But Claude reads
its input in order: once it has answered a control request, it has read everything before it. If it
is idle then, its queue is empty, and the record decides. 2.1.330 announces every message that it
reads, so there the record decides for one that was not announced even while a turn runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import HarnessGone, Settlement, Verdict
from relay_runtime.events import Evidence

from .state import aliases
from .writes import BY_TRANSCRIPT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay_runtime.contract import Holder

    from .lookup import Lookup
    from .observations import Responded
    from .state import State
    from .writes import Writes

#: How long a write may wait in Claude's queue behind a running turn or tool before it is taken
#: back, so that the runtime can hand it in at the next boundary instead of giving it up.
WITHDRAW_S: Final = 120.0


class Settling:
    """`ask` sends a control request and returns its answer, or None when there is none in time.

    `busy` guards the state; `ask` is never called with it held, because answers need it.
    """

    def __init__(
        self,
        state: State,
        writes: Writes,
        lookup: Lookup,
        holder: Holder,
        busy: anyio.Lock,
        ask: Callable[..., Awaitable[Responded | None]],
    ) -> None:
        self._state = state
        self._writes = writes
        self._lookup = lookup
        self._holder = holder
        self._busy = busy
        self._ask = ask
        self._waiting: dict[str, float] = {}  # since when, by our clock

    async def settle(self, write_id: str) -> Settlement:
        try:
            found = await self._present(write_id)
            if found is None:
                status = await self._holder.status()
                alive = status.exit is None and status.run > 0
                found = await (self._alive(write_id) if alive else self._dead(write_id))
        except OSError as error:
            return _unknown(f"claude's record cannot be read: {error}")
        except HarnessGone as error:
            return _unknown(str(error))
        if found.verdict is not Verdict.UNKNOWN:
            self._waiting.pop(write_id, None)
        return found

    async def _dead(self, write_id: str) -> Settlement:
        found = await self._present(write_id)  # it may have written this while it died
        return found or Settlement(Verdict.ABSENT, reason="it is not in claude's record")

    async def _alive(self, write_id: str) -> Settlement:
        if await self._ask("get_session_cost") is None:
            return _unknown("claude does not answer")
        known = self._writes.of(write_id)
        unread = self._state.announces and (known is None or not known[1].seen)
        if self._state.cli == "idle" or unread:
            return await self._decided(write_id)
        return await self._present(write_id) or await self._waits(write_id)

    async def _decided(self, write_id: str) -> Settlement:
        """Claude does not hold it: the record has it, or will have it in a moment, or never."""
        found = await self._present(write_id, patient=True)
        if found is not None:
            return found
        async with self._busy:
            self._writes.taken_back(write_id)
        return Settlement(Verdict.ABSENT, reason="claude does not hold it, nor does its record")

    async def _waits(self, write_id: str) -> Settlement:
        waits = _unknown("claude works on something, and the message may wait for it")
        known = self._writes.of(write_id)
        since = self._waiting.setdefault(write_id, anyio.current_time())
        if (known is not None and known[1].started) or anyio.current_time() - since < WITHDRAW_S:
            return waits
        harness_id = self._writes.harness_id(write_id)
        answer = await self._ask("cancel_async_message", message_uuid=harness_id)
        if answer is None or not answer.cancelled:
            return waits
        async with self._busy:
            self._writes.withdrawn(write_id)
        reason = f"taken back after {WITHDRAW_S:.0f} s in claude's queue"
        return Settlement(Verdict.ABSENT, reason=reason)

    async def _present(self, write_id: str, *, patient: bool = False) -> Settlement | None:
        find = self._lookup.find_patiently if patient else self._lookup.find
        harness_id = await find(aliases(write_id))
        if harness_id is None:
            return None
        async with self._busy:
            known = self._writes.of(write_id)
            turn_id = known[1].turn_id if known is not None else None
            self._writes.found(write_id)
        return Settlement(Verdict.PRESENT, Evidence(BY_TRANSCRIPT, harness_id, turn_id))


def _unknown(reason: str) -> Settlement:
    return Settlement(Verdict.UNKNOWN, reason=reason)


__all__ = ["WITHDRAW_S", "Settling"]
