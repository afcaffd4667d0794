"""A session of codex: one app-server, one thread in it, and this end of the connection.

Everything that changes what is known of the thread happens under one lock, together with the commit
of the events that follow from it: what is committed and what is known never differ by half a step.
"""

from __future__ import annotations

import logging
import os
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
    StartFailed,
    StopPlan,
    Stream,
    Verdict,
)
from relay_runtime.events import Event, Outcome, Proven, Refused, SessionReady

from . import approvals, checkpoint, history, program
from .attach import begin, greet, rejoin
from .items import client_id
from .mentions import keep_text, may_mention
from .protocol import EVIDENCE, Thread
from .read import Obj, objects, sub, text
from .rpc import CallRefused, Message, Peer, connect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo
    from pathlib import Path

    from relay_runtime.contract import Context, Injection

_log = logging.getLogger(__name__)

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

#: Between attempts to connect. Codex listens some 60 ms after its start, so begin far below that;
#: later it is a process that hangs or is about to end.
FIRST_RETRY_S: Final = 0.005
MAX_RETRY_S: Final = 1.0
#: After the process is gone, for what it had sent before: that is in our socket already.
LAST_WORDS_S: Final = 5.0
#: Of its error output: the message and the warnings around it.
LAST_WORDS_BYTES: Final = 8192
#: A submission in codex's own queue (a person's) starts its turn 10 to 50 ms after the one before.
#: When none has started by now, the queue is paused, and codex waits like we do.
QUEUE_S: Final = 2.0
#: A settlement that comes while we reconnect waits for that, well inside the runtime's own bound.
SETTLE_WAIT_S: Final = 15.0
#: An accepted turn starts within milliseconds; an interrupt may come before it has.
TURN_START_S: Final = 5.0


class CodexSession(Session):
    """See the module. `thread` is None until the conversation has begun."""

    capabilities = CAPABILITIES

    def __init__(
        self,
        ctx: Context,
        socket: Path,
        zone: tzinfo | None,
        known: tuple[Thread, str] | None = None,
    ) -> None:
        self._ctx = ctx
        self._socket = socket
        self._zone = zone
        self._thread: Thread | None = known[0] if known else None
        self._rollout = known[1] if known else ""
        self._peer: Peer | None = None
        self._lock = anyio.Lock()
        self._exited = anyio.Event()
        self._changed = anyio.Event()  # replaced at every change of thread or connection
        self._draining = False
        self._queue_empty = False  # codex's own queue, as far as we know
        self._queue_until: float | None = None  # when to stop waiting for it

    # --- the pump --------------------------------------------------------------------------------

    async def run(self) -> None:
        failure: DriverError | None = None
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                nonlocal failure
                try:
                    await self._ctx.holder.wait_exit()
                except HarnessGone as error:  # it is the holder that is lost: adopt me again
                    failure = error
                else:
                    self._exited.set()
                    self._tell()
                    await anyio.sleep(LAST_WORDS_S)
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                await self._connections()
            except DriverError as error:
                failure = error  # raised below: a group would wrap it
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if self._thread is None:
            raise StartFailed(await self._why_not_started())

    async def _connections(self) -> None:
        """One connection after another while the process lives."""
        delay = FIRST_RETRY_S
        while not self._exited.is_set():
            try:
                async with connect(_address(self._socket)) as peer:
                    await self._attach(peer)
                    delay = FIRST_RETRY_S
                    await self._pump(peer)
            except (HarnessGone, CallRefused) as error:
                _log.debug("! %s", error, extra={"action": "codex_connection"})
            finally:
                self._peer = None
                self._tell()
            with anyio.move_on_after(delay):
                await self._exited.wait()
            delay = min(delay * 2, MAX_RETRY_S)

    async def _attach(self, peer: Peer) -> None:
        """Begin or rejoin the conversation, tell what was missed, and whether it waits."""
        version = await greet(peer)
        async with self._lock:
            self._queue_empty, self._queue_until = False, None
            events: list[Event] = []
            thread, fresh = self._thread, False
            if thread is None:
                begun = await begin(peer, self._ctx.spec, self._zone)
                thread, fresh, self._rollout = begun.thread, begun.fresh, begun.rollout
                events.append(SessionReady(thread.conversation, version, begun.model))
            else:
                self._rollout = await rejoin(peer, thread) or self._rollout
            if not fresh:
                events += await self._missed(peer, thread)
            # Answers come after what codex had to say before them, so open requests are here now.
            backlog = peer.arrived()
            asked = [ask.request_id for message in backlog if (ask := _ask(message))]
            events += thread.replayed(asked)
            self._thread = thread
            await self._commit(peer, thread, [*events, *self._fold(thread, backlog)])
            self._peer = peer
        self._tell()

    async def _missed(self, peer: Peer, thread: Thread) -> list[Event]:
        turns, entries = await history.missed(peer, thread)
        record = await history.read_rollout(self._rollout) or history.Rollout()
        return thread.catch_up(turns, entries, record.usage, record.total)

    async def _pump(self, peer: Peer) -> None:
        while True:
            batch: list[Message] | None = None
            with anyio.move_on_after(self._patience()):
                batch = await peer.batch()
            if batch is not None and not batch:
                return
            async with self._lock:
                assert self._thread is not None, "there is a thread once it is attached"
                await self._commit(peer, self._thread, self._fold(self._thread, batch or []))
            self._tell()

    def _patience(self) -> float | None:
        """How long to wait for codex to go on with its own queue; None: for ever."""
        if self._queue_until is None:
            return None
        return max(self._queue_until - anyio.current_time(), 0)

    def _fold(self, thread: Thread, batch: Sequence[Message]) -> list[Event]:
        events: list[Event] = []
        for message in batch:
            if message.rpc_id is not None:
                if (ask := _ask(message)) is not None:
                    events += thread.request(ask)
                continue
            ours = text(message.params, "threadId") == thread.conversation
            if message.method == "thread/queue/changed" and ours:
                self._queue_empty = False
            elif message.method == "thread/closed" and ours:
                raise HarnessGone("codex has unloaded the thread")  # resumed when we reconnect
            events += thread.observe(message.method, message.params, message.at)
        return events

    async def _commit(self, peer: Peer, thread: Thread, events: list[Event]) -> None:
        """Commit `events`, and that codex waits for input when nothing of them says otherwise."""
        sure = await self._sure(events)
        if not thread.boundary:
            self._queue_until = None
        elif await self._nothing_queued(peer, thread):
            sure += thread.say_idle()
        await self._emit(thread, sure)

    async def _emit(self, thread: Thread, events: list[Event]) -> None:
        if events:
            saved = checkpoint.dump(thread, self._rollout)
            await self._ctx.emit(*events, checkpoint=saved)

    async def _sure(self, events: list[Event]) -> list[Event]:
        return [sure for event in events if (sure := await self._certain(event)) is not None]

    async def _certain(self, event: Event) -> Event | None:
        """A refusal only if the record has no trace of the write; else its proof, or nothing."""
        if not isinstance(event, Refused):
            return event
        record = await history.read_rollout(self._rollout, event.write_id)
        if record is None:
            return event
        if record.evidence is not None:
            return Proven(event.write_id, record.evidence)
        return None if record.orphan else event

    async def _nothing_queued(self, peer: Peer, thread: Thread) -> bool:
        """Whether codex will not go on by itself with what a person has queued in it."""
        if self._queue_empty:
            return True
        if self._queue_until is not None and anyio.current_time() >= self._queue_until:
            self._queue_until = None
            return True
        queued = await peer.call("thread/queue/list", {"threadId": thread.conversation})
        self._queue_empty = not any(objects(queued, "data"))
        if self._queue_empty or thread.outcome is Outcome.INTERRUPTED:  # which pauses the queue
            return True
        self._queue_until = self._queue_until or anyio.current_time() + QUEUE_S
        return False

    # --- what the runtime asks for ------------------------------------------------------------------

    async def receive_message(self, injection: Injection) -> Receipt:
        peer, thread = self._peer, self._thread
        if peer is None or thread is None:
            return Receipt(Handed.DEFERRED, "codex is being reconnected")
        if self._draining:
            return Receipt(Handed.DEFERRED, "the session is about to end")
        given = await self._as_text(peer, injection.text)
        if (reason := _unfit(given)) is not None:
            return Receipt(Handed.FAILED, reason)
        steer = injection.entry is Entry.STEER
        async with self._lock:
            if steer and thread.turn is None:
                return Receipt(Handed.DEFERRED, "no turn is running to steer")
            if not steer and thread.turn is not None:
                return Receipt(Handed.DEFERRED, "codex has begun another turn")
            thread.hand(injection.write_id, injection.entry)
            expected = thread.turn
        try:
            turn_id = await _hand_over(peer, thread, injection.write_id, given, expected)
        except CallRefused as error:
            async with self._lock:
                thread.forget(injection.write_id)
            too_large = text(error.data, "input_error_code") == "input_too_large"
            return Receipt(Handed.FAILED if too_large else Handed.DEFERRED, str(error))
        async with self._lock:
            await self._emit(thread, await self._sure(thread.accepted(injection.write_id, turn_id)))
        return Receipt(Handed.ACCEPTED)

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

    async def settle(self, write_id: str) -> Settlement:
        with anyio.move_on_after(SETTLE_WAIT_S):
            while self._peer is None and not self._exited.is_set():
                await self._changed.wait()
        if self._thread is None:
            return Settlement(Verdict.UNKNOWN, reason="codex has not begun the conversation")
        try:
            settlement = await self._look_up(self._thread, write_id)
        except (HarnessGone, CallRefused) as error:
            return Settlement(Verdict.UNKNOWN, reason=str(error))
        if settlement.verdict is not Verdict.UNKNOWN:
            async with self._lock:
                self._thread.forget(write_id)
        return settlement

    async def _look_up(self, thread: Thread, write_id: str) -> Settlement:
        peer, still_out = self._peer, False
        if peer is not None:
            # First whether anything can still come, then what has come: not the other way round.
            still_out = not await history.is_quiet(peer, thread.conversation)
            evidence = await history.listed(peer, thread.conversation, write_id)
            if evidence is not None:
                return Settlement(Verdict.PRESENT, evidence)
        elif (await self._ctx.holder.status()).exit is None:
            return Settlement(Verdict.UNKNOWN, reason="codex does not answer now")
        record = await history.read_rollout(self._rollout, write_id)
        if record is None:
            return Settlement(Verdict.UNKNOWN, reason=f"cannot read {self._rollout}")
        if record.evidence is not None:
            return Settlement(Verdict.PRESENT, record.evidence)
        if still_out:
            return Settlement(Verdict.UNKNOWN, reason="a turn is running that may still take it in")
        if record.orphan:
            why = "codex was killed while it took in a message, and the record does not say whose"
            return Settlement(Verdict.UNKNOWN, reason=why)
        return Settlement(Verdict.ABSENT, reason="codex has no record of it")

    async def interrupt(self) -> None:
        peer, thread = await self._attached()
        with anyio.move_on_after(TURN_START_S):
            while thread.turn is None and thread.writes:
                await self._changed.wait()
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
        ask = thread.asks[request_id]
        result = approvals.answer(ask, allow, message)
        thread.answered(request_id, allow)
        await peer.reply(ask.rpc_id, result)

    async def drain(self) -> None:
        self._draining = True
        while not self._exited.is_set() and (self._thread is None or self._thread.turn is not None):
            await self._changed.wait()

    async def release(self, stop: StopPlan) -> None:
        # Its input means nothing to an app-server, and an interrupt ends it as rudely as a kill.
        await self._ctx.holder.stop(StopPlan(drain_s=0, interrupt_s=0, term_s=stop.term_s))
        program.forget_socket(self._socket)

    # --- inside ------------------------------------------------------------------------------------

    async def _attached(self) -> tuple[Peer, Thread]:
        with anyio.move_on_after(TURN_START_S):
            while self._peer is None and not self._exited.is_set():
                await self._changed.wait()
        if self._peer is None or self._thread is None:
            raise HarnessGone("codex does not answer now; try again")
        return self._peer, self._thread

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _why_not_started(self) -> str:
        """Codex's own words."""
        end = (await self._ctx.holder.status()).offsets.get(Stream.ERR, 0)
        said = bytearray()
        async for chunk in self._ctx.holder.read(Stream.ERR, max(end - LAST_WORDS_BYTES, 0)):
            said += chunk.data
        words = said.decode(errors="replace").strip()
        last = words.splitlines()[-1] if words else "it said nothing"
        return f"codex did not start: {program.last_error(words) or last}"


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


def _ask(message: Message) -> approvals.Ask | None:
    if message.rpc_id is None:
        return None
    return approvals.ask(message.rpc_id, message.method, message.params)


def _address(socket: Path) -> str:
    """Where codex really listens: behind the link, at a path that is never too long to connect."""
    return os.path.realpath(socket)


__all__ = ["CAPABILITIES", "CodexSession"]
