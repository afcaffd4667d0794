"""Whether a write in doubt is in the context, from Claude's own record.

A living Claude may hold it in its box or in its queue, where the record does not show it; at rest,
with an empty box, it holds nothing. A dead one holds nothing either.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import HarnessGone, Settlement, Verdict
from relay_runtime.events import Evidence

from ..writes import BY_TRANSCRIPT
from . import journal
from .writes import Way

if TYPE_CHECKING:
    from .entering import Entering
    from .journal import Found
    from .live import Live
    from .writes import Write

#: From the answer to a hook until Claude has it in its record: 0.3 s, many times that under load.
TAKEN_S: Final = 10.0
#: A model that thinks for longer before its first word has the message all the same; less than
#: after which the runtime asks.
SLOW_S: Final = 4.0


class Settling:
    def __init__(self, live: Live, entering: Entering) -> None:
        self._live = live
        self._entering = entering

    async def settle(self, write_id: str) -> Settlement:
        write = self._live.writes.get(write_id)
        if write is None:
            return Settlement(Verdict.ABSENT, reason="it was never written to claude")
        try:
            return await self._present(write) or await self._missing(write)
        except (OSError, HarnessGone) as error:
            return _unknown(f"claude's record cannot be read: {error}")

    async def _missing(self, write: Write) -> Settlement:
        live = self._live
        status = await live.ctx.holder.status()
        seen = await journal.find(write.record, write.mark, write.text)
        if seen is not None and not seen.taken_back:
            return await self._unanswered(write, seen)
        if write.way is Way.KEYS and status.applied_seq < write.seq:
            return _absent("it was never written to claude")
        if write.agent != await live.running():
            await anyio.sleep(journal.FLUSH_S)  # it may have written this while it died
            return await self._recorded(write) or _absent("it is not in claude's record")
        if write.waiter is not None and await live.ctx.holder.answer_hook(write.waiter, None):
            return _absent("claude's hook never had it")
        if await self._entering.press_enter(write):
            return _unknown("it stood in claude's input box and was sent once more")
        screen = live.view.read()
        holds = screen is None or screen.input != "empty" or live.state.turn is not None
        if holds or not live.at_rest or time.time() - write.at < TAKEN_S:
            return _unknown("claude works on something, and may hold the message")
        await anyio.sleep(journal.FLUSH_S)
        if (found := await self._present(write)) is not None:
            return found
        if not live.touched_since(write) and await journal.has_input(write.record, write.mark):
            return _unknown("claude's record has an input that nobody else made, in other words")
        return _absent("neither claude nor its record has it")

    async def _unanswered(self, write: Write, found: Found) -> Settlement:
        """It is in the record, and nothing of the model followed yet."""
        live = self._live
        if write.agent != await live.running():
            return self._proven(write, found)  # the conversation goes on with it
        if live.state.turn == found.turn or not live.at_rest:
            if time.time() - write.at > SLOW_S:
                return self._proven(write, found)
            return _unknown("claude has it, and its model has not begun to answer")
        screen = live.view.read()
        if screen is None or screen.input != "empty" or not live.state.boundary:
            return _unknown("it was taken back into claude's input box")
        return await self._present(write) or _absent("its turn was interrupted at once")

    async def _present(self, write: Write) -> Settlement | None:
        if write.proof is not None:
            return _present_by(write.proof, write.turn)
        found = await journal.find(write.record, write.mark, write.text)
        return self._proven(write, found) if found is not None and found.answered else None

    async def _recorded(self, write: Write) -> Settlement | None:
        """Of a process that is dead: its record is all there is."""
        found = await journal.find(write.record, write.mark, write.text)
        return self._proven(write, found) if found is not None and not found.taken_back else None

    def _proven(self, write: Write, found: Found) -> Settlement:
        self._live.writes.keep(replace(write, proof=found.line, turn=found.turn))
        return _present_by(found.line, found.turn)


def _present_by(line: str, turn: str | None) -> Settlement:
    return Settlement(Verdict.PRESENT, Evidence(BY_TRANSCRIPT, line, turn))


def _unknown(reason: str) -> Settlement:
    return Settlement(Verdict.UNKNOWN, reason=reason)


def _absent(reason: str) -> Settlement:
    return Settlement(Verdict.ABSENT, reason=reason)


__all__ = ["Settling"]
