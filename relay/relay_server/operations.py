"""The table of the relay's operations: what is bound, and what is described as OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay_client.types import (
    Agent,
    AgentRegistration,
    Cursor,
    DeliveryBatch,
    Health,
    Heartbeat,
    HeartbeatResult,
    Inbox,
    Label,
    Message,
    NewMessage,
    NewReceipts,
    ReceiptResults,
    Receipts,
    RelayEvent,
    RuntimeHeartbeat,
    SendResult,
    Stats,
)

from .openapi import Operation
from .queries import (
    AgentFilter,
    CapabilityFilter,
    DeliveriesQuery,
    EventsQuery,
    InboxQuery,
    ReceiptsQuery,
    ThreadQuery,
)

if TYPE_CHECKING:
    from .api import Api

# Statuses that a route can refuse with: any of them, one about a thing, with a query, with a body.
_ANY = (401, 403, 503)
_ONE = (*_ANY, 404)
_QUERY = (*_ANY, 422)
_BODY = (*_ANY, 413, 415, 422)


def operations(api: Api) -> list[Operation]:
    """Every operation; paths are below `/api`."""
    return [
        *_agent_operations(api),
        *_message_operations(api),
        *_runtime_operations(api),
        *_relay_operations(api),
    ]


def _agent_operations(api: Api) -> list[Operation]:
    return [
        Operation(
            "POST",
            "/agents",
            api.register_agent,
            "Register or update an agent",
            body=AgentRegistration,
            response=Agent,
            errors=_BODY,
        ),
        Operation(
            "GET",
            "/agents",
            api.list_agents,
            "List agents",
            query=AgentFilter,
            response=Agent,
            many=True,
            errors=_QUERY,
        ),
        Operation(
            "GET",
            "/agents/find",
            api.find_agents,
            "Find agents by capability",
            query=CapabilityFilter,
            response=Agent,
            many=True,
            errors=_QUERY,
        ),
        Operation(
            "GET", "/agents/{id}", api.get_agent, "Get an agent", response=Agent, errors=_ONE
        ),
        Operation(
            "DELETE",
            "/agents/{id}",
            api.remove_agent,
            "Remove an agent; what no runtime has taken for it fails",
            status=204,
            errors=_ONE,
        ),
        Operation(
            "POST",
            "/agents/{id}/heartbeat",
            api.heartbeat_agent,
            "Say that an agent lives",
            body=Heartbeat,
            response=Agent,
            errors=(*_ONE, *_BODY),
        ),
        Operation(
            "PATCH",
            "/agents/{id}/label",
            api.label_agent,
            "Set or remove an agent's label",
            body=Label,
            response=Agent,
            errors=(*_ONE, *_BODY),
        ),
    ]


def _message_operations(api: Api) -> list[Operation]:
    return [
        Operation(
            "POST",
            "/messages",
            api.send_message,
            "Send a message; 200 when the idempotency key was used before",
            body=NewMessage,
            response=SendResult,
            status=201,
            errors=(404, 409, *_BODY),
        ),
        Operation(
            "GET",
            "/messages",
            api.poll_inbox,
            "Poll an agent's inbox",
            query=InboxQuery,
            response=Inbox,
            errors=(404, 409, *_QUERY),
        ),
        Operation(
            "GET",
            "/messages/cursor",
            api.get_cursor,
            "The cursor to poll from for what comes next",
            response=Cursor,
            errors=_ANY,
        ),
        Operation(
            "GET",
            "/messages/{id}",
            api.get_message,
            "Get a message",
            response=Message,
            errors=_ONE,
        ),
        Operation(
            "GET",
            "/messages/{id}/thread",
            api.get_thread,
            "Get the thread that a message is in",
            query=ThreadQuery,
            response=Message,
            many=True,
            errors=(*_ONE, *_QUERY),
        ),
        Operation(
            "GET",
            "/messages/{id}/receipts",
            api.get_receipts,
            "Get a message's receipts; waits until all its deliveries got that far",
            query=ReceiptsQuery,
            response=Receipts,
            errors=(*_ONE, *_QUERY),
        ),
    ]


def _runtime_operations(api: Api) -> list[Operation]:
    return [
        Operation(
            "POST",
            "/receipts",
            api.report_receipts,
            "Report receipts; each is judged by itself",
            body=NewReceipts,
            response=ReceiptResults,
            errors=_BODY,
        ),
        Operation(
            "GET",
            "/runtimes/{id}/deliveries",
            api.get_deliveries,
            "Wait for deliveries to a runtime's agents",
            query=DeliveriesQuery,
            response=DeliveryBatch,
            errors=(409, *_QUERY),
        ),
        Operation(
            "POST",
            "/runtimes/{id}/heartbeat",
            api.heartbeat_runtime,
            "Say how a runtime's agents are",
            body=RuntimeHeartbeat,
            response=HeartbeatResult,
            errors=_BODY,
        ),
    ]


def _relay_operations(api: Api) -> list[Operation]:
    return [
        Operation(
            "GET",
            "/events",
            api.stream_events,
            "Stream events from a cursor or from now on; resumes with Last-Event-ID",
            query=EventsQuery,
            response=RelayEvent,
            errors=(409, *_QUERY),
            media_type="text/event-stream",
        ),
        Operation("GET", "/stats", api.get_stats, "Counts", response=Stats, errors=_ANY),
        Operation(
            "GET",
            "/health",
            api.get_health,
            "Whether the relay answers; needs no token",
            response=Health,
            errors=(403,),
        ),
        Operation("GET", "/openapi.json", api.get_openapi, "This description", errors=_ANY),
    ]
