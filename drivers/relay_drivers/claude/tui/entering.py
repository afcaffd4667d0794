"""How a message goes in: typed, or through the hook that waits for one.

Typed, it is what a person would have sent, so that is the way when nobody is at the keyboard, the
box is empty and no tool is under way whose permission Claude may be about to ask for. Else the hook
takes it: that touches neither draft nor dialogue, but Claude tells its model that it is a
notification. Where neither is possible, it has to wait. Claude can put a draft aside and back (ctrl-S);
that is left to people: one who types on in that moment would find their words in another order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import Entry, Handed, Injection, Receipt, Typed

from . import journal, keys
from .writes import Way, Write, print_of

if TYPE_CHECKING:
    from .live import Live

#: The largest paste that was tried; it arrived unchanged.
MAX_TYPED: Final = 2_000_000
#: Claude cuts what a hook says at 100 000 characters, with what it puts around it.
MAX_WOKEN: Final = 95_000
#: Something comes in between, is understood, and the message may go in after it.
HAND_S: Final = 3.0
#: Claude says that it was sent within 0.1 s. After this, Enter was lost.
SENT_S: Final = 1.5
#: A person's draft that was put aside is back 0.1 s after ours was sent; on a loaded machine later.
STASH_S: Final = 2.0


class Entering:
    def __init__(self, live: Live) -> None:
        self._live = live
        self.closed = False

    async def receive(self, injection: Injection) -> Receipt:
        text = keys.plain(injection.text)
        if len(text.encode("utf-8", "replace")) > MAX_TYPED:
            return Receipt(Handed.FAILED, f"the message is longer than {MAX_TYPED} bytes")
        reason, until = "the session is being released", anyio.current_time() + HAND_S
        while not self.closed:
            told = self._live.told
            # Never cut short: what was typed was typed.
            done, reason = await self._try(injection, text)
            if done:
                return Receipt(Handed.ACCEPTED)
            if anyio.current_time() >= until:
                break
            with anyio.move_on_after(HAND_S / 10):
                await told.wait()
        await self._say_why(wakes=len(text) <= MAX_WOKEN)
        return Receipt(Handed.DEFERRED, reason)

    async def _try(self, injection: Injection, text: str) -> tuple[bool, str]:
        live, state = self._live, self._live.state
        screen = live.view.read()
        if screen is None or not state.ready:
            return False, "claude's terminal is not there"
        if state.asks or screen.dialogue is not None:
            return False, "a dialogue is open in claude's terminal"
        idle = injection.entry is Entry.NEXT_TURN
        if idle and (state.turn is not None or not live.view.rests):
            return False, "claude works on something else"
        away = live.quiet() and live.drawn()
        if screen.input == "empty" and away and not state.running:
            typed = await self._type(injection, text, stashed=screen.stashed)
            return typed, "claude's terminal has changed"
        if state.waiter is not None and len(text) <= MAX_WOKEN:
            return await self._wake(injection, text, state.waiter), "claude's hook is gone"
        if screen.input != "empty" or not away:
            return False, "somebody's input stands in claude's terminal"
        return False, "claude runs a tool"

    async def _say_why(self, *, wakes: bool) -> None:
        """What stands in the way may do so for long: the session says so, and the message waits."""
        live = self._live
        async with live.changing:
            screen = live.view.read()
            if not live.state.ready or live.state.turn is not None or live.state.asks:
                return
            if not live.view.rests:
                await live.commit(live.fold.works())
            elif screen is not None and (screen.input != "empty" or not live.quiet()):
                await live.commit(live.fold.drafting(until_woken=wakes))

    async def _keep(
        self,
        injection: Injection,
        text: str,
        way: Way,
        *,
        stashed: bool = False,
        waiter: int | None = None,
    ) -> Write:
        """Before a byte goes out: what whoever comes after a crash has to know."""
        state = self._live.state
        write = Write(
            injection.write_id,
            print_of(text),
            way,
            injection.seq,
            state.hooks,
            state.record,
            journal.size(state.record),
            time.time(),
            await self._live.running() or "",
            stashed,
            waiter,
        )
        self._live.writes.keep(write)
        return write

    async def _type(self, injection: Injection, text: str, *, stashed: bool) -> bool:
        live = self._live
        write = await self._keep(injection, text, Way.KEYS, stashed=stashed)
        sent = live.sent
        typed = await live.ctx.holder.type(
            keys.paste(text), injection.seq, hooks=write.hooks, quiet_s=live.options.quiet_s
        )
        if typed in (Typed.CHANGED, Typed.HUMAN):
            return False
        if typed is Typed.TYPED:
            live.wanted.set()
            await self._see_it_sent(write, sent)
            if stashed:
                await self._see_draft_back()
        return True

    async def _see_it_sent(self, write: Write, sent: int) -> None:
        """Claude may take Enter for a part of the paste: then it is pressed once more."""
        live = self._live
        with anyio.move_on_after(SENT_S):
            while live.sent == sent:
                await live.told.wait()
            return
        await self.press_enter(write)

    async def press_enter(self, write: Write) -> bool:
        """When what was typed still stands in the box, and is ours alone: with a draft put aside, the
        box has that as soon as ours is sent."""
        live = self._live
        if write.way is not Way.KEYS:
            return False
        screen = live.view.read()
        drafted = screen is not None and screen.input == "draft" and screen.dialogue is None
        ours = drafted and screen is not None and screen.stashed == write.stashed
        if not ours or live.touched_since(write) or live.state.running:
            return False
        return await live.type_quietly([(keys.ENTER, 0)])

    async def _wake(self, injection: Injection, text: str, waiter: int) -> bool:
        live = self._live
        await self._keep(injection, text, Way.WAKE, waiter=waiter)
        live.state.waiter = None
        return await live.ctx.holder.answer_hook(waiter, text)

    async def _see_draft_back(self) -> None:
        """What a person had put aside comes back by itself once ours was sent."""
        live = self._live
        with anyio.move_on_after(STASH_S):
            while (screen := live.view.read()) is not None and screen.stashed:
                await live.shown.wait()


__all__ = ["MAX_TYPED", "Entering"]
