"""The relay's routes: parse, ask the store, encode. What is decided is decided elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import anyio
from pydantic import ConfigDict, Field
from starlette.responses import JSONResponse, Response

from relay_client.types import (
    FINAL,
    MAX_BODY_BYTES,
    MAX_ID,
    MAX_WAIT_S,
    Agent,
    AgentRegistration,
    AgentStatus,
    Cursor,
    DeliveryBatch,
    DeliveryStatus,
    Health,
    Heartbeat,
    HeartbeatResult,
    Inbox,
    Label,
    Message,
    Name,
    NewMessage,
    NewReceipts,
    Number,
    ReceiptResults,
    Receipts,
    RelayEvent,
    Request,
    RuntimeHeartbeat,
    SendResult,
    Stats,
)
from relay_client.version import VERSION

from .asgi import header, read_body
from .errors import BadRequest, Busy, Conflict
from .hub import message_topic, runtime_topic
from .openapi import Operation, describe, query, read, reply, require_json
from .sse import EventStream, Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request as HttpRequest
    from starlette.types import Receive, Scope

    from .hub import Hub
    from .store import Store

T = TypeVar("T")

# JSON may write each byte of a body as \\u00XX, six bytes; the rest of a message is small.
MAX_MESSAGE_REQUEST_BYTES = 6 * MAX_BODY_BYTES + 256 * 1024
# A report of a thousand receipts with long reasons.
MAX_RECEIPTS_REQUEST_BYTES = 8 * 1024 * 1024
MAX_PAGE = 500

Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_S)]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]


class AgentFilter(Request):
    tag: str | None = None
    machine: str | None = None
    status: AgentStatus | None = None
    capability: str | None = None
    label: str | None = None
    runtime: str | None = None


class CapabilityFilter(Request):
    capability: Name


class InboxQuery(Request):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    agent: Name = Field(alias="for")
    unread: bool = False
    after: Number = 0
    limit: Limit = 100


class ThreadQuery(Request):
    after: Number = 0  #: a message of the thread
    limit: Limit = 100


class DeliveriesQuery(Request):
    after: Number = 0
    wait_s: Wait = 0.0
    limit: Limit = 100


class ReceiptsQuery(Request):
    until: Literal["accepted", "delivered"] | None = None
    wait_s: Wait = 0.0


class EventsQuery(Request):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    agent: Name | None = Field(default=None, alias="for")
    after: Number | None = None  #: without a cursor the stream begins now


class Api:
    """The endpoints, on one store and hub."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._tail = Tail(store)
        self._document = describe(self.table(), title="Agent relay", version=VERSION, prefix="/api")

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

    def table(self) -> list[Operation]:
        """Every operation; paths are below `/api`."""
        return [
            *self._agent_operations(),
            *self._message_operations(),
            *self._runtime_operations(),
            *self._relay_operations(),
        ]

    def _agent_operations(self) -> list[Operation]:
        return [
            Operation(
                "POST",
                "/agents",
                self.register_agent,
                "Register or update an agent",
                body=AgentRegistration,
                response=Agent,
                errors=_BODY,
            ),
            Operation(
                "GET",
                "/agents",
                self.list_agents,
                "List agents",
                query=AgentFilter,
                response=Agent,
                many=True,
                errors=_QUERY,
            ),
            Operation(
                "GET",
                "/agents/find",
                self.find_agents,
                "Find agents by capability",
                query=CapabilityFilter,
                response=Agent,
                many=True,
                errors=_QUERY,
            ),
            Operation(
                "GET", "/agents/{id}", self.get_agent, "Get an agent", response=Agent, errors=_ONE
            ),
            Operation(
                "DELETE",
                "/agents/{id}",
                self.remove_agent,
                "Remove an agent; what no runtime has taken for it fails",
                status=204,
                errors=_ONE,
            ),
            Operation(
                "POST",
                "/agents/{id}/heartbeat",
                self.heartbeat_agent,
                "Say that an agent lives",
                body=Heartbeat,
                response=Agent,
                errors=(*_ONE, *_BODY),
            ),
            Operation(
                "PATCH",
                "/agents/{id}/label",
                self.label_agent,
                "Set or remove an agent's label",
                body=Label,
                response=Agent,
                errors=(*_ONE, *_BODY),
            ),
        ]

    def _message_operations(self) -> list[Operation]:
        return [
            Operation(
                "POST",
                "/messages",
                self.send_message,
                "Send a message; 200 when the idempotency key was used before",
                body=NewMessage,
                response=SendResult,
                status=201,
                errors=(404, 409, *_BODY),
            ),
            Operation(
                "GET",
                "/messages",
                self.poll_inbox,
                "Poll an agent's inbox",
                query=InboxQuery,
                response=Inbox,
                errors=(404, 409, *_QUERY),
            ),
            Operation(
                "GET",
                "/messages/cursor",
                self.get_cursor,
                "The cursor to poll from for what comes next",
                response=Cursor,
                errors=_ANY,
            ),
            Operation(
                "GET",
                "/messages/{id}",
                self.get_message,
                "Get a message",
                response=Message,
                errors=_ONE,
            ),
            Operation(
                "GET",
                "/messages/{id}/thread",
                self.get_thread,
                "Get the thread that a message is in",
                query=ThreadQuery,
                response=Message,
                many=True,
                errors=(*_ONE, *_QUERY),
            ),
            Operation(
                "GET",
                "/messages/{id}/receipts",
                self.get_receipts,
                "Get a message's receipts; waits until all its deliveries got that far",
                query=ReceiptsQuery,
                response=Receipts,
                errors=(*_ONE, *_QUERY),
            ),
        ]

    def _runtime_operations(self) -> list[Operation]:
        return [
            Operation(
                "POST",
                "/receipts",
                self.report_receipts,
                "Report receipts; each is judged by itself",
                body=NewReceipts,
                response=ReceiptResults,
                errors=_BODY,
            ),
            Operation(
                "GET",
                "/runtimes/{id}/deliveries",
                self.get_deliveries,
                "Wait for deliveries to a runtime's agents",
                query=DeliveriesQuery,
                response=DeliveryBatch,
                errors=(409, *_QUERY),
            ),
            Operation(
                "POST",
                "/runtimes/{id}/heartbeat",
                self.heartbeat_runtime,
                "Say how a runtime's agents are",
                body=RuntimeHeartbeat,
                response=HeartbeatResult,
                errors=_BODY,
            ),
        ]

    def _relay_operations(self) -> list[Operation]:
        return [
            Operation(
                "GET",
                "/events",
                self.stream_events,
                "Stream events from a cursor or from now on; resumes with Last-Event-ID",
                query=EventsQuery,
                response=RelayEvent,
                errors=(409, *_QUERY),
                media_type="text/event-stream",
            ),
            Operation("GET", "/stats", self.get_stats, "Counts", response=Stats, errors=_ANY),
            Operation(
                "GET",
                "/health",
                self.get_health,
                "Whether the relay answers; needs no token",
                response=Health,
                errors=(403,),
            ),
            Operation("GET", "/openapi.json", self.get_openapi, "This description", errors=_ANY),
        ]


_ANY = (401, 403, 503)
_ONE = (*_ANY, 404)
_QUERY = (*_ANY, 422)
_BODY = (*_ANY, 413, 415, 422)

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
