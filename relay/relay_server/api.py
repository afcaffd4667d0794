"""The relay's routes: parse, ask the store, encode. What is decided is decided elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio
from starlette.responses import JSONResponse, Response

from relay_client.types import (
    FINAL,
    MAX_BODY_BYTES,
    MAX_ID,
    AgentRegistration,
    Cursor,
    DeliveryStatus,
    Health,
    Heartbeat,
    HeartbeatResult,
    Label,
    NewMessage,
    NewReceipts,
    ReceiptResults,
    Receipts,
    RuntimeHeartbeat,
)
from relay_client.version import VERSION

from .asgi import header, read_body
from .errors import BadRequest, Busy, Conflict
from .hub import message_topic, runtime_topic
from .openapi import describe, query, read, reply, require_json
from .operations import operations
from .queries import (
    AgentFilter,
    CapabilityFilter,
    DeliveriesQuery,
    EventsQuery,
    InboxQuery,
    ReceiptsQuery,
    ThreadQuery,
)
from .sse import EventStream, Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request as HttpRequest
    from starlette.types import Receive, Scope

    from .hub import Hub
    from .store import Store

T = TypeVar("T")

PREFIX = "/api"
# JSON may write each byte of a body as \\u00XX, six bytes; the rest of a message is small.
MAX_MESSAGE_REQUEST_BYTES = 6 * MAX_BODY_BYTES + 256 * 1024
# A report of a thousand receipts with long reasons.
MAX_RECEIPTS_REQUEST_BYTES = 8 * 1024 * 1024


class Api:
    """The endpoints, on one store and hub."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._tail = Tail(store)
        self.operations = operations(self)  #: paths are below `PREFIX`
        self._document = describe(
            self.operations, title="Agent relay", version=VERSION, prefix=PREFIX
        )

    # Agents.

    async def register_agent(self, request: HttpRequest) -> Response:
        return reply(await self._store.register(await read(request, AgentRegistration)))

    async def list_agents(self, request: HttpRequest) -> Response:
        wanted = query(request, AgentFilter).model_dump(mode="json")
        return reply(self._store.agents(**wanted))

    async def find_agents(self, request: HttpRequest) -> Response:
        return reply(self._store.agents(capability=query(request, CapabilityFilter).capability))

    async def get_agent(self, request: HttpRequest) -> Response:
        return reply(self._store.agent(request.path_params["id"]))

    async def heartbeat_agent(self, request: HttpRequest) -> Response:
        beat = await read(request, Heartbeat)
        return reply(await self._store.heartbeat(request.path_params["id"], beat.status))

    async def label_agent(self, request: HttpRequest) -> Response:
        label = (await read(request, Label)).label
        return reply(await self._store.set_label(request.path_params["id"], label))

    async def remove_agent(self, request: HttpRequest) -> Response:
        await self._store.remove_agent(request.path_params["id"])
        return reply(None)

    # Messages.

    async def send(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        """Status and answer of a send: without a `Request`, because it is the hot path."""
        require_json(header(scope, b"content-type"))
        body = await read_body(scope, receive, MAX_MESSAGE_REQUEST_BYTES)
        sent = await self._store.send(NewMessage.model_validate_json(body))
        status = 201 if sent.earlier is None else 200
        return status, sent.answer()

    async def send_message(self, request: HttpRequest) -> Response:
        status, body = await self.send(request.scope, request.receive)
        return Response(body, status, media_type="application/json")

    async def poll_inbox(self, request: HttpRequest) -> Response:
        wanted = query(request, InboxQuery)
        inbox = self._store.inbox(wanted.agent, wanted.unread, wanted.after, wanted.limit)
        return reply(inbox)

    async def get_cursor(self, request: HttpRequest) -> Response:
        return reply(Cursor(cursor=self._store.cursor()))

    async def get_message(self, request: HttpRequest) -> Response:
        return reply(self._store.message(_message_id(request)))

    async def get_thread(self, request: HttpRequest) -> Response:
        wanted = query(request, ThreadQuery)
        return reply(self._store.thread(_message_id(request), wanted.after, wanted.limit))

    async def get_receipts(self, request: HttpRequest) -> Response:
        message_id = _message_id(request)
        wanted = query(request, ReceiptsQuery)
        found = await self._look(
            message_topic(message_id),
            wanted.wait_s,
            lambda: self._store.receipts(message_id),
            lambda found: _reached(found, wanted.until),
        )
        return reply(found)

    # Runtimes.

    async def report_receipts(self, request: HttpRequest) -> Response:
        reports = await read(request, NewReceipts, MAX_RECEIPTS_REQUEST_BYTES)
        return reply(ReceiptResults(results=await self._store.report(reports.receipts)))

    async def get_deliveries(self, request: HttpRequest) -> Response:
        runtime_id: str = request.path_params["id"]
        wanted = query(request, DeliveriesQuery)
        batch = await self._look(
            runtime_topic(runtime_id),
            wanted.wait_s,
            lambda: self._store.deliveries(runtime_id, wanted.after, wanted.limit),
            lambda batch: bool(batch.deliveries),
        )
        return reply(batch)

    async def heartbeat_runtime(self, request: HttpRequest) -> Response:
        agents = (await read(request, RuntimeHeartbeat)).agents
        unknown = await self._store.heartbeat_runtime(request.path_params["id"], agents)
        return reply(HeartbeatResult(unknown=unknown))

    # The relay.

    async def stream_events(self, request: HttpRequest) -> Response:
        wanted = query(request, EventsQuery)
        last = self._store.last_event()
        cursor = _resume_cursor(request, wanted.after)
        if cursor is not None and cursor > last:
            raise Conflict(
                "unknown_cursor",
                f"this relay's newest event is {last}: the cursor is another relay's",
            )
        return EventStream(self._tail, self._hub, last if cursor is None else cursor, wanted.agent)

    async def get_stats(self, request: HttpRequest) -> Response:
        return reply(await self._store.stats())

    async def get_health(self, request: HttpRequest) -> Response:
        return reply(Health(status="ok", version=VERSION))

    async def get_openapi(self, request: HttpRequest) -> Response:
        return JSONResponse(self._document)

    async def _look(
        self, topic: str, wait_s: float, look: Callable[[], T], done: Callable[[T], bool]
    ) -> T:
        """Long poll: what `look` finds once it is `done`, or when the wait is over.

        Raises `Busy` when the relay stops meanwhile: an early answer would make callers spin.
        """
        deadline = anyio.current_time() + wait_s
        with self._hub.watch(topic) as watch:
            while True:
                found = look()
                left = deadline - anyio.current_time()
                if done(found) or left <= 0:
                    return found
                if self._hub.closed:
                    raise Busy("stopping", "the relay is stopping: connect again later")
                await watch.wait(left)


_WELL_ON = frozenset(DeliveryStatus) - {DeliveryStatus.PENDING}


def _reached(found: Receipts, until: str | None) -> bool:
    if until is None:
        return True
    enough = FINAL if until == "delivered" else _WELL_ON
    return all(delivery.status in enough for delivery in found.deliveries)


def _message_id(request: HttpRequest) -> int:
    text: str = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_ID):
        raise BadRequest("invalid_message_id", "a message id is a number")
    return int(text)


def _resume_cursor(request: HttpRequest, after: int | None) -> int | None:
    """`Last-Event-ID` is newer than the URL that a browser connects again with."""
    text = request.headers.get("last-event-id")
    if not text:
        return after
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_ID):
        raise BadRequest("invalid_cursor", "Last-Event-ID is a number of this relay's event log")
    return int(text)


__all__ = ["Api"]
