"""A session of codex: one app-server and one thread in it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import (
    Capabilities,
    DriverError,
    Entry,
    Handed,
    HarnessGone,
    Mode,
    Receipt,
    Session,
    Settlement,
    StopPlan,
    Verdict,
)

from . import approvals, history, program
from .items import client_id
from .mentions import keep_text, may_mention
from .protocol import EVIDENCE, Thread
from .pump import Pump
from .read import Obj, objects, sub, text
from .rpc import CallRefused, Peer

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path

    from relay_runtime.contract import Context, Injection

#: Codex refuses longer inputs. It counts characters, of which there are never more than bytes.
MAX_INPUT: Final = 1_048_576
CAPABILITIES: Final = Capabilities(
    modes=frozenset({Mode.HEADLESS}),
    boundary="codex.turn_completed",
    evidence=EVIDENCE,
    steer=True,
    permissions=True,
    max_input_bytes=MAX_INPUT,
)
#: What comes while we reconnect waits for that, well inside the runtime's own bounds.
CONNECT_WAIT_S: Final = 10.0
#: An accepted turn starts within milliseconds; an interrupt may come before it has.
TURN_START_S: Final = 5.0


class CodexSession(Session):
    """See the module. `known` is what the checkpoint has of the thread, and its rollout's path;
    `join` is the thread to take part in, where it is not ours."""

    capabilities = CAPABILITIES

    def __init__(
        self,
        ctx: Context,
        socket: Path,
        zone: tzinfo | None,
        known: tuple[Thread, str] | None = None,
        *,
        join: str | None = None,
    ) -> None:
        self._ctx = ctx
        self._socket = socket
        self._pump = Pump(ctx, socket, zone, known, join)
        self._draining = False

    async def run(self) -> None:
        await self._pump.run()

    async def receive_message(self, injection: Injection) -> Receipt:
        pump, write_id = self._pump, injection.write_id
        peer, thread = pump.peer, pump.thread
        if peer is None or thread is None:
            return Receipt(Handed.DEFERRED, "codex is being reconnected")
        if self._draining:
            return Receipt(Handed.DEFERRED, "the session is about to end")
        given = await self._as_text(peer, injection.text)
        if (reason := _unfit(given)) is not None:
            return Receipt(Handed.FAILED, reason)
        steer = injection.entry is Entry.STEER
        async with pump.lock:
            # Codex itself would take it now: it merges the input of a new turn into a running one.
            if steer is (thread.turn is None):
                reason = "no turn is running to steer" if steer else "codex has begun another turn"
                return Receipt(Handed.DEFERRED, reason)
            thread.writes.hand(write_id, injection.entry)
            running = thread.turn
        try:
            turn_id = await _hand_over(peer, thread, write_id, given, running)
        except CallRefused as error:
            async with pump.lock:
                thread.writes.drop(write_id)
            too_large = text(error.data, "input_error_code") == "input_too_large"
            return Receipt(Handed.FAILED if too_large else Handed.DEFERRED, str(error))
        async with pump.lock:
            await pump.emit(thread, thread.accepted(write_id, turn_id))
        return Receipt(Handed.ACCEPTED)

    async def settle(self, write_id: str) -> Settlement:
        await self._wait_attached()
        thread = self._pump.thread
        if thread is None:
            return Settlement(Verdict.UNKNOWN, reason="codex has not begun the conversation")
        try:
            settlement = await self._look_up(thread, write_id)
        except (HarnessGone, CallRefused) as error:
            return Settlement(Verdict.UNKNOWN, reason=str(error))
        if settlement.verdict is not Verdict.UNKNOWN:
            async with self._pump.lock:
                thread.writes.drop(write_id)
        return settlement

    async def _look_up(self, thread: Thread, write_id: str) -> Settlement:
        peer, may_come = self._pump.peer, False
        if peer is not None:
            # First whether anything can still come, then what has come: not the other way round.
            may_come = not await history.is_quiet(peer, thread.conversation)
            evidence = await history.listed(peer, thread.conversation, write_id)
            if evidence is not None:
                return Settlement(Verdict.PRESENT, evidence)
        elif not await self._has_ended():
            return Settlement(Verdict.UNKNOWN, reason="codex does not answer now")
        record = await history.read_rollout(self._pump.rollout, write_id)
        if record is None:
            return Settlement(Verdict.UNKNOWN, reason=f"cannot read {self._pump.rollout}")
        if record.evidence is not None:
            return Settlement(Verdict.PRESENT, record.evidence)
        if may_come:
            return Settlement(Verdict.UNKNOWN, reason="a turn is running that may still take it in")
        if record.orphan:
            why = "codex was killed while it took in a message, and the record does not say whose"
            return Settlement(Verdict.UNKNOWN, reason=why)
        return Settlement(Verdict.ABSENT, reason="codex has no record of it")

    async def interrupt(self) -> None:
        peer, thread = await self._attached()
        with anyio.move_on_after(TURN_START_S):
            while thread.turn is None and thread.writes.handed:
                await self._pump.change()
        turn_id = thread.turn
        if turn_id is None:
            return
        turn: Obj = {"threadId": thread.conversation, "turnId": turn_id}
        try:
            await peer.call("turn/interrupt", turn)
        except CallRefused:
            return  # it has just ended
        await _end_commands(peer, thread, turn_id)

    async def answer(self, request_id: str, allow: bool, message: str | None = None) -> None:
        peer, thread = await self._attached()
        ask = thread.asks.open[request_id]
        result = approvals.answer(ask, allow, message)
        thread.asks.answered(request_id, allow)
        await peer.reply(ask.rpc_id, result)

    async def drain(self) -> None:
        self._draining = True
        pump = self._pump
        while not pump.exited.is_set() and (pump.thread is None or pump.thread.turn is not None):
            await pump.change()

    async def release(self, stop: StopPlan) -> None:
        # An app-server that is told to end waits for its running turn. Its input means nothing to
        # it, and the signal SIGINT ends it as rudely as a kill: the turn is what to interrupt.
        with anyio.move_on_after(stop.interrupt_s), suppress(DriverError):
            if self._pump.peer is not None:
                await self.interrupt()
        await self._ctx.holder.stop(StopPlan(drain_s=0, interrupt_s=0, term_s=stop.term_s))
        program.forget_socket(self._socket)

    # --- inside ----------------------------------------------------------------------------------

    async def _has_ended(self) -> bool:
        """Codex has: nothing more will come to its record."""
        return (await self._ctx.holder.status()).exit is not None

    async def _as_text(self, peer: Peer, given: str) -> str:
        if not may_mention(given):
            return given
        try:
            answer = await peer.call("skills/list", {"cwds": [self._ctx.spec.cwd]})
        except CallRefused:
            return keep_text(given, None)
        skills = {
            text(skill, "name")
            for folder in objects(answer, "data")
            for skill in objects(folder, "skills")
        }
        return keep_text(given, skills)

    async def _wait_attached(self) -> None:
        with anyio.move_on_after(CONNECT_WAIT_S):
            while self._pump.peer is None and not self._pump.exited.is_set():
                await self._pump.change()

    async def _attached(self) -> tuple[Peer, Thread]:
        await self._wait_attached()
        peer, thread = self._pump.peer, self._pump.thread
        if peer is None or thread is None:
            raise HarnessGone("codex does not answer now: wait, or release the session")
        return peer, thread


async def _hand_over(
    peer: Peer, thread: Thread, write_id: str, given: str, turn_id: str | None
) -> str:
    """Steer the turn `turn_id`, or start one. The turn it is for. Raises `CallRefused`."""
    name = client_id(write_id)
    message: Obj = {
        "threadId": thread.conversation,
        "clientUserMessageId": name,
        "input": [{"type": "text", "text": given, "text_elements": []}],
    }
    if turn_id is not None:
        return text(await peer.call("turn/steer", {**message, "expectedTurnId": turn_id}), "turnId")
    # The trigger is in the record before anything else of the turn is: see `history.scan`.
    answer = await peer.call("turn/start", {**message, "turnTrigger": name})
    return text(sub(answer, "turn"), "id")


async def _end_commands(peer: Peer, thread: Thread, turn_id: str) -> None:
    """End what an interrupted turn was running. Codex lets it go on in the background."""
    earlier = {item_id for item_id, tool in thread.tools.items() if tool.turn_id != turn_id}
    conversation: Obj = {"threadId": thread.conversation}
    running = await peer.call("thread/backgroundTerminals/list", conversation)
    for terminal in objects(running, "data"):
        if text(terminal, "itemId") not in earlier:
            process: Obj = {**conversation, "processId": text(terminal, "processId")}
            await peer.call("thread/backgroundTerminals/terminate", process)


def _unfit(given: str) -> str | None:
    """Why codex can never take this input."""
    if len(given) > MAX_INPUT:
        return f"codex takes {MAX_INPUT} characters at once, and this has {len(given)}"
    try:
        given.encode()
    except UnicodeEncodeError:
        return "the text is no valid Unicode: it has half of a surrogate pair"
    return None


__all__ = ["CAPABILITIES", "CodexSession"]
