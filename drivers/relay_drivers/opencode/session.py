"""One OpenCode session: its server's stream in, prompts and answers out."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import httpx

from relay_runtime.contract import (
    Capabilities,
    Context,
    DriverError,
    Handed,
    HarnessGone,
    Injection,
    Json,
    Receipt,
    ResumeRefused,
    Session,
    SessionSpec,
    Settlement,
    StartFailed,
    StopPlan,
    Unsupported,
    Verdict,
)
from relay_runtime.events import Event, Evidence, Notice, SessionReady

from .api import Api, ApiError, open_api
from .config import rules
from .fold import EVIDENCE, Fold
from .protocol import (
    Removed,
    StatusSeen,
    at,
    items_at,
    message_id,
    part_id,
    read_message,
    text_at,
)
from .reading import is_busy, read_messages, read_record
from .record import Record, turn_of, unanswered
from .server import MEMO_PASSWORD, address, did_not_start
from .stream import Listening, listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup

#: Between attempts to connect to the stream while the process lives; doubles up to the second.
RECONNECT_S, RECONNECT_MAX_S = 0.05, 2.0
#: Failed attempts in a row (some 10 s) after which a person is told.
UNREACHABLE_AFTER = 10
#: The kernel closes a dead process's connections at once; a child that inherited one does not.
LAST_WORDS_S = 1.0
#: Whoever adopts a session asks at once; connecting and catching up takes some 0.1 s.
CONNECTED_S = 10.0
#: An abort takes effect in 0.3 s, but one sent while a turn is still being set up has none.
INTERRUPT_S, INTERRUPT_TRIES = 5.0, 3
#: A prompt that was taken is stored some 30 ms later, once what a turn needs is loaded.
STORED_S = 2.0
#: Disposing takes 0.3 s. What it does not end, the holder kills.
DISPOSE_S = 5.0

_log = logging.getLogger(__name__)


class OpencodeSession(Session):
    """`past` is the checkpoint of the session that this one takes over."""

    def __init__(
        self, spec: SessionSpec, ctx: Context, capabilities: Capabilities, past: Json = None
    ) -> None:
        self.capabilities = capabilities
        self._spec = spec
        self._ctx = ctx
        self._api: Api | None = None
        self._fold: Fold | None = None
        self._directory: str | None = None
        if conversation := text_at(past, "conversation"):
            self._fold = Fold(conversation, past=at(past, "fold"))
            self._directory = text_at(past, "directory") or None
        self._news = anyio.Event()
        self._exited = anyio.Event()
        self._caught_up = anyio.Event()
        self._lost: HarnessGone | None = None
        self._listening: Listening | None = None
        self._draining = False
        self._new = False  # the conversation is ours since a moment ago: its record is empty

    # --- the pump -------------------------------------------------------------------------------

    async def run(self) -> None:
        failure: DriverError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._mind_exit, tasks.cancel_scope)
            try:
                await self._live(tasks)
            except DriverError as error:
                failure = error  # raised bare below: a group would wrap it
            tasks.cancel_scope.cancel()
        if failure := failure or self._lost:
            raise failure

    async def _mind_exit(self, everything: anyio.CancelScope) -> None:
        try:
            await self._ctx.holder.wait_exit()
        except HarnessGone as error:
            self._lost = error
            everything.cancel()
            return
        self._exited.set()
        self._tell()
        await anyio.sleep(LAST_WORDS_S)
        if self._listening is not None:
            self._listening.hang_up()

    async def _live(self, tasks: TaskGroup) -> None:
        url = await address(self._ctx.holder)
        password = (await self._ctx.holder.status()).memo.get(MEMO_PASSWORD, "")
        if url is not None:
            async with open_api(url, password) as api:
                if self._fold is None:
                    self._fold = await self._open(api)
                api.directory = self._directory
                self._api = api
                tasks.start_soon(self._warm_up, api)
                try:
                    await self._stay_connected(api, self._fold)
                finally:
                    self._api = None
        elif self._fold is None:
            raise await did_not_start(self._ctx.holder)
        if self._fold is not None:
            await self._emit(self._fold, self._fold.gone())

    async def _warm_up(self, api: Api) -> None:
        """Let the server load now what its first turn would wait for (0.7 s)."""
        await self._caught_up.wait()  # not before: it answers nobody else meanwhile
        with suppress(httpx.RequestError, ApiError):
            await api.load()

    async def _stay_connected(self, api: Api, fold: Fold) -> None:
        failures = 0
        while not self._exited.is_set():
            why = "it closed the event stream"
            try:
                async with listen(api) as listening:
                    self._listening = listening
                    await self._catch_up(api, fold, listening)
                    self._caught_up.set()
                    self._tell()
                    failures = 0
                    async for batch in listening:
                        await self._take(api, fold, [e for said in batch for e in fold.feed(said)])
            except (httpx.RequestError, ApiError) as error:
                why = str(error) or type(error).__name__
            finally:
                self._listening = None
            failures += 1
            _log.debug("session %s: %s", self._spec.session_id, why)
            if failures == UNREACHABLE_AFTER:
                text = f"the agent runs but its server does not answer: {why}"
                await self._ctx.emit(Notice("harness.unreachable", text))
            with anyio.move_on_after(min(RECONNECT_S * 2**failures, RECONNECT_MAX_S)):
                await self._exited.wait()

    async def _catch_up(self, api: Api, fold: Fold, listening: Listening) -> None:
        if self._new:
            self._new, record = False, Record((), busy=False)
        else:
            record = await read_record(api, fold.session, fold.mark)
        since = listening.arrived()
        if any(isinstance(said, StatusSeen) and said.session == fold.session for said in since):
            record = replace(record, busy=None)
        events = fold.catch_up(record)
        await self._take(api, fold, events + [e for said in since for e in fold.feed(said)])

    async def _take(self, api: Api, fold: Fold, events: Sequence[Event]) -> None:
        await self._emit(fold, events)
        self._tell()
        for message in fold.stranded:
            if not await self._take_back(api, fold, message):
                return  # something runs again; its end leads here once more

    async def _take_back(self, api: Api, fold: Fold, message: str) -> bool:
        """Delete a message that a turn left behind, so that "not read" stays true. False: busy.

        The server refuses while anything runs, so no step can read it in the middle of this.
        """
        listed = [found for found, _ in await read_messages(api, fold.session, fold.mark)]
        turn = turn_of(message, listed)
        if turn is not None:
            await self._emit(fold, fold.confirm(message, turn))
            return True
        try:
            if not await api.delete_message(fold.session, message):
                return False
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
        await self._emit(fold, fold.feed(Removed(fold.session, message)))
        return True

    async def _emit(self, fold: Fold, events: Sequence[Event]) -> None:
        if events:
            await self._ctx.emit(
                *events,
                checkpoint={
                    "conversation": fold.session,
                    "directory": self._directory,
                    "fold": fold.checkpoint(),
                },
            )

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    # --- opening the conversation ---------------------------------------------------------------

    async def _open(self, api: Api) -> Fold:
        try:
            config = await api.first("/config")
            version = text_at(await api.get("/global/health"), "version") or None
            fold = await (self._resume(api) if self._spec.conversation else self._begin(api))
        except ApiError as error:
            raise StartFailed(f"opencode: {error}") from None
        except httpx.RequestError as error:
            with anyio.move_on_after(LAST_WORDS_S):
                await self._exited.wait()
            if self._exited.is_set():
                raise await did_not_start(self._ctx.holder) from None
            why = str(error) or type(error).__name__
            raise StartFailed(f"opencode listens but does not answer: {why}") from None
        model = self._spec.model or text_at(config, "model") or None
        await self._emit(fold, [SessionReady(fold.session, version, model)])
        return fold

    async def _begin(self, api: Api) -> Fold:
        # With a title of ours OpenCode does not ask the model for one.
        info = await api.create_session(self._spec.name, rules(self._spec.approval))
        self._directory = text_at(info, "directory") or None
        self._new = True
        return Fold(text_at(info, "id"))

    async def _resume(self, api: Api) -> Fold:
        conversation = self._spec.conversation or ""
        try:
            info = await api.get(f"/session/{conversation}")
        except ApiError as error:
            raise ResumeRefused(f"opencode cannot continue {conversation}: {error}") from None
        api.directory = self._directory = text_at(info, "directory") or None
        wanted = rules(self._spec.approval)
        if wanted and list(items_at(info, "permission"))[-len(wanted) :] != wanted:
            await api.add_permission(conversation, wanted)
        page, _ = await api.messages(conversation, None)
        listed = [found[0] for element in page if (found := read_message(element)) is not None]
        # Nothing resumes by itself after a death: what no step has read would enter some later turn
        # behind our back.
        for message in unanswered(listed):
            await api.delete_message(conversation, message)
        return Fold(conversation, max((found.order for found in listed), default=(0, "")))

    # --- what the runtime asks for --------------------------------------------------------------

    async def receive_message(self, injection: Injection) -> Receipt:
        if self._draining:
            return Receipt(Handed.DEFERRED, "the session is being released")
        api, fold = await self._connected()
        text = injection.text.encode("utf-8", "replace")
        if len(text) > self.capabilities.max_input_bytes:
            limit = self.capabilities.max_input_bytes
            return Receipt(Handed.FAILED, f"{len(text)} bytes are more than the {limit} it takes")
        message = message_id(injection.write_id)
        fold.hand(message)
        try:
            part = part_id(injection.write_id)
            await api.prompt(fold.session, message, part, text.decode())
        except (httpx.ConnectError, httpx.ConnectTimeout):
            fold.unhand(message)
            return Receipt(Handed.DEFERRED, "the agent's server takes no connections")
        except httpx.RequestError as error:
            return await self._look_up(api, fold, message, str(error) or type(error).__name__)
        except ApiError as error:
            if error.status >= httpx.codes.INTERNAL_SERVER_ERROR:
                return await self._look_up(api, fold, message, str(error))
            fold.unhand(message)
            return Receipt(Handed.FAILED, f"opencode refused it: {error}")
        return Receipt(Handed.ACCEPTED)

    async def _look_up(self, api: Api, fold: Fold, message: str, why: str) -> Receipt:
        """No clear answer to a prompt: is it stored? If not now, it may still be on its way."""
        try:
            await api.get(f"/session/{fold.session}/message/{message}")
        except (ApiError, httpx.RequestError):
            fold.unhand(message)
            raise HarnessGone(f"no answer from the agent's server: {why}") from None
        return Receipt(Handed.ACCEPTED)

    async def settle(self, write_id: str) -> Settlement:
        message = message_id(write_id)
        try:
            api, fold = await self._connected()
            found = await self._look(api, fold, message)
            if found is None:
                # Taken and not stored yet? Posted again it might start a second turn, much later.
                await api.load()
                with anyio.move_on_after(STORED_S):
                    await self._until(lambda: fold.knows(message))
                found = await self._look(api, fold, message)
        except (HarnessGone, ApiError, httpx.RequestError) as error:
            return Settlement(Verdict.UNKNOWN, reason=f"opencode's record: {error}")
        if found is None:
            fold.unhand(message)
            return Settlement(Verdict.ABSENT, reason="opencode has no such message")
        return found

    async def _look(self, api: Api, fold: Fold, message: str) -> Settlement | None:
        """What the record says of a message; None when it is not there."""
        try:
            found = read_message(await api.get(f"/session/{fold.session}/message/{message}"))
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return None
        if found is None:
            return Settlement(Verdict.UNKNOWN, reason="opencode's record cannot be read")
        listed = [m for m, _ in await read_messages(api, fold.session, found[0].order)]
        busy = await is_busy(api, fold.session)
        turn = turn_of(message, listed)
        if turn is not None:
            return Settlement(Verdict.PRESENT, Evidence(EVIDENCE, message, turn))
        if busy:
            return Settlement(Verdict.UNKNOWN, reason="it waits for the next step of the turn")
        return Settlement(Verdict.ABSENT, reason="the agent has not read it")

    async def interrupt(self) -> None:
        api, fold = await self._connected()
        for _ in range(INTERRUPT_TRIES):
            await self._ask(api.post(f"/session/{fold.session}/abort"))
            with anyio.move_on_after(INTERRUPT_S):
                await self._until(lambda: fold.quiet)
                return

    async def answer(self, request_id: str, allow: bool, message: str | None = None) -> None:
        api, fold = await self._connected()
        ask = fold.asks[request_id]
        body: Json
        if not ask.question:
            path = f"/permission/{request_id}/reply"
            body = {"reply": "once" if allow else "reject"}
            if message and not allow:
                body = {"reply": "reject", "message": message}
        elif not allow:
            path, body = f"/question/{request_id}/reject", None
        elif message:
            path = f"/question/{request_id}/reply"
            body = {"answers": [[message]] * ask.count}
        else:
            raise Unsupported("this is a question: give the answer as the message, or deny it")
        try:
            await self._ask(api.post(path, body))
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                raise KeyError(request_id) from None
            raise Unsupported(f"opencode refused the answer: {error}") from None

    async def drain(self) -> None:
        self._draining = True
        fold = self._fold
        if fold is not None:
            await self._until(lambda: fold.quiet or self._exited.is_set())

    async def release(self, stop: StopPlan) -> None:
        self._draining = True
        if self._api is not None:
            with suppress(httpx.RequestError, ApiError), anyio.move_on_after(DISPOSE_S):
                await self._api.post("/global/dispose")
        # It does not end when its input closes, so there is nothing to wait for.
        await self._ctx.holder.stop(replace(stop, drain_s=0))

    # --- inside ---------------------------------------------------------------------------------

    async def _connected(self) -> tuple[Api, Fold]:
        """The server, once what it has to tell was caught up with."""
        with anyio.move_on_after(CONNECTED_S):
            await self._until(lambda: self._caught_up.is_set() or self._exited.is_set())
        if self._api is None or self._fold is None or not self._caught_up.is_set():
            raise HarnessGone("the agent's server is not up")
        return self._api, self._fold

    async def _ask(self, request: Awaitable[Json]) -> None:
        try:
            await request
        except httpx.RequestError as error:
            why = str(error) or type(error).__name__
            raise HarnessGone(f"no answer from the agent's server: {why}") from None

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._news.wait()


__all__ = ["OpencodeSession"]
