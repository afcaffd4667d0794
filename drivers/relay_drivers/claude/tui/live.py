"""What the parts of a session share: its state, and the one way to change it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import HarnessGone

from . import journal, record
from .fold import Fold
from .view import View

if TYPE_CHECKING:
    from relay_runtime.contract import Context
    from relay_runtime.events import Event

    from .hooks import Seen
    from .options import Options
    from .record import Line
    from .state import State
    from .writes import Write, Writes

#: After the title says that Claude waits, its record is complete within 0.2 s; past this nothing
#: more comes of the turn, also on a machine under load.
REST_S: Final = 1.5
#: A person answers a dialogue, and it is gone: what they said is in the record within this.
ANSWERED_S: Final = 0.6
#: The holder notes a person's keys once a second; drawing them takes a part of the next.
NOTED_S: Final = 2.0
#: Keys that show nothing are not waited for longer.
HANGS_S: Final = 10.0
#: From the hook to the dialogue: 0.1 to 0.4 s. One that is not there after this was answered by a
#: hook or a rule of the user.
UNSEEN_S: Final = 5.0


class Live:
    """Everything in here is for one event loop; `changing` is held from a change to its commit."""

    def __init__(self, ctx: Context, state: State, writes: Writes, options: Options) -> None:
        self.ctx = ctx
        self.state = state
        self.writes = writes
        self.options = options
        self.fold = Fold(state, lambda: writes.open)
        self.view = View(ctx.spec.state_dir, self._on_output)
        self.changing = anyio.Lock()
        self.told = anyio.Event()  #: replaced at each line of the hooks log and each commit
        self.shown = anyio.Event()  #: replaced whenever output has come
        self.wanted = anyio.Event()  #: somebody should look at the record
        self.sent = 0  #: inputs that Claude said it was given, in this life
        self.behind = 0  #: up to this byte of the hooks log, what it says happened before this life
        self._heard_at = 0.0  # by anyio's clock
        self._asking = False  # a dialogue for permission was seen on the screen
        self._gone_since: float | None = None

    # --- changes --------------------------------------------------------------------------------

    async def commit(self, events: list[Event]) -> None:
        """With `changing` held."""
        if events:
            await self.ctx.emit(*events, checkpoint=self.state.to_json())
        for write, line, turn in self.fold.proofs:
            self.writes.keep(replace(write, proof=line, turn=turn))
        self.fold.proofs.clear()
        while self.fold.let_go:
            await self.ctx.holder.answer_hook(self.fold.let_go.pop(), None)
        self.told.set()
        self.told = anyio.Event()

    async def heard(self, seen: Seen | None, begin: int, end: int) -> None:
        """A line of the hooks log."""
        async with self.changing:
            self._heard_at = anyio.current_time()
            events = self.fold.hook(seen, begin)
            self.state.hooks = end
            await self.commit(events)
        self.wanted.set()

    async def catch_up(self) -> bool:
        """Read what is new in the record. Whether there was anything."""
        async with self.changing:
            lines, end = await journal.since(self.state.record, self.state.at)
            if end == self.state.at:
                return False
            self._heard_at = anyio.current_time()
            events = [event for line in lines for event in self.fold.line(line)]
            self.sent += sum(map(_is_input, lines))
            self.state.at = end
            await self.commit(events)
        return True

    async def rest(self) -> None:
        """Say what follows from the terminal's being at rest, if it is."""
        async with self.changing:
            if not self.state.ready or self.state.hooks < self.behind or not self.at_rest:
                return
            # A hook may be heard before the title that was shown before it.
            since = max(self.view.rests_since or 0.0, self._heard_at)
            surely = anyio.current_time() - since >= REST_S
            await self.commit(self.fold.resting(surely=surely))

    async def see_answer(self) -> None:
        """A dialogue for permission that a person has closed is no longer asked."""
        if not self.state.asks:
            self._asking, self._gone_since = False, None
            return
        screen = self.view.read()
        if screen is None:
            return
        now = anyio.current_time()
        if screen.dialogue is not None:
            self._asking, self._gone_since = True, None
        elif screen.input != "none":
            self._gone_since = self._gone_since or now
            if now - self._gone_since >= (ANSWERED_S if self._asking else UNSEEN_S):
                async with self.changing:
                    await self.commit(self.fold.dialogue_gone())

    # --- questions ------------------------------------------------------------------------------

    @property
    def at_rest(self) -> bool:
        """Whether Claude shows that it waits for input, and for nothing else."""
        if not self.view.rests or self.state.asks:
            return False
        screen = self.view.read()
        return self.view.rests and screen is not None and screen.dialogue is None

    @property
    def settled(self) -> bool:
        """Whether a further look at the record would show nothing new, unless something happens."""
        state = self.state
        if self.writes.open or state.asks:
            return False
        if self.view.rests:
            return state.boundary and state.turn is None
        return True

    def quiet(self) -> bool:
        """Whether nobody has typed for long enough."""
        return time.time() - self.state.typed_at >= self.options.quiet_s

    def drawn(self) -> bool:
        """Whether the screen has what people typed, as far as can be known: keys are noted once a
        second, and a Claude that is busy shows them late."""
        since = time.time() - self.state.typed_at
        shown = self.view.drawn_at > self.state.typed_at
        return since >= HANGS_S or (shown and since >= NOTED_S)

    def touched_since(self, write: Write) -> bool:
        """Whether a person has typed after this write went in."""
        return self.state.typed_offset >= write.hooks

    async def running(self) -> str | None:
        """The process that is Claude now; None: none runs."""
        status = await self.ctx.holder.status()
        return None if status.pid is None else f"{status.pid}.{status.start_ticks}"

    async def type(self, steps: list[tuple[str, int]], seq: int = 0, *, quiet_s: float = 0) -> bool:
        """Type, unless something has happened that is not known here. Raises `HarnessGone`."""
        typed = await self.ctx.holder.type(steps, seq, hooks=self.state.hooks, quiet_s=quiet_s)
        return typed == "typed"

    async def type_quietly(self, steps: list[tuple[str, int]]) -> bool:
        """As `type`, for what is pointless once the process is gone."""
        try:
            return await self.type(steps)
        except HarnessGone:
            return False

    def _on_output(self) -> None:
        self.shown.set()
        self.shown = anyio.Event()
        if self.view.rests != self.state.boundary or self.state.asks:
            self.wanted.set()


def _is_input(line: Line) -> bool:
    """Whether it says that Claude was sent something."""
    match line:
        case record.Prompt(opens=True) | record.Absorbed() | record.Queued(change=1):
            return True
    return False


__all__ = ["REST_S", "Live"]
