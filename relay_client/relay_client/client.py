"""One method per route, no policy: whether to retry, when and how often is the caller's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from .connection import Connection
from .events import EventStream
from .types import (
    Agent,
    AgentRegistration,
    AgentStatus,
    Cursor,
    DeliveryBatch,
    Health,
    Heartbeat,
    HeartbeatResult,
    Inbox,
    Label,
    Message,
    NewMessage,
    NewReceipt,
    NewReceipts,
    ReceiptResult,
    ReceiptResults,
    Receipts,
    RuntimeHeartbeat,
    SendResult,
    Stats,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from pydantic import BaseModel

    from .direct import App

T = TypeVar("T")

_AGENT = TypeAdapter(Agent)
_AGENTS = TypeAdapter(list[Agent])
_CURSOR = TypeAdapter(Cursor)
_DELIVERYBATCH = TypeAdapter(DeliveryBatch)
_HEALTH = TypeAdapter(Health)
_HEARTBEATRESULT = TypeAdapter(HeartbeatResult)
_INBOX = TypeAdapter(Inbox)
_MESSAGE = TypeAdapter(Message)
_MESSAGES = TypeAdapter(list[Message])
_RECEIPTRESULTS = TypeAdapter(ReceiptResults)
_RECEIPTS = TypeAdapter(Receipts)
_SENDRESULT = TypeAdapter(SendResult)
_STATS = TypeAdapter(Stats)


class RelayClient:
    """A relay over HTTP. Every method raises `errors.RelayError`; see its tree.

    `url` is like `http://127.0.0.1:4850`; anything that cannot be one raises `ValueError`.
    `app` is the ASGI application of that relay when it runs in this process: then only `events`
    uses the network. Use it as a context manager, or call `aclose`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        app: App | None = None,
    ) -> None:
        self._connection = Connection(url, token, app)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._connection.aclose()

    # Agents.

    async def register(self, agent: AgentRegistration) -> Agent:
        """Register an agent, or replace what is known of it. Its label stays unless one is given."""
        return await self._call("POST", "/agents", _AGENT, body=agent)

    async def agents(
        self,
        *,
        tag: str | None = None,
        machine: str | None = None,
        status: AgentStatus | None = None,
        capability: str | None = None,
        label: str | None = None,
        runtime: str | None = None,
    ) -> list[Agent]:
        """The agents that match every filter given, oldest registration first."""
        filters = {
            "tag": tag,
            "machine": machine,
            "status": status,
            "capability": capability,
            "label": label,
            "runtime": runtime,
        }
        return await self._call("GET", "/agents", _AGENTS, params=filters)

    async def find_agents(self, capability: str) -> list[Agent]:
        """The agents that have the capability."""
        params = {"capability": capability}
        return await self._call("GET", "/agents/find", _AGENTS, params=params)

    async def agent(self, agent_id: str) -> Agent:
        """Rejected: unknown_agent."""
        return await self._call("GET", f"/agents/{_segment(agent_id)}", _AGENT)

    async def heartbeat(self, agent_id: str, status: AgentStatus | None = None) -> Agent:
        """Say that the agent lives. Rejected: unknown_agent."""
        path = f"/agents/{_segment(agent_id)}/heartbeat"
        return await self._call("POST", path, _AGENT, body=Heartbeat(status=status))

    async def set_label(self, agent_id: str, label: str | None) -> Agent:
        """Set the label, or remove it with None. Rejected: unknown_agent."""
        path = f"/agents/{_segment(agent_id)}/label"
        return await self._call("PATCH", path, _AGENT, body=Label(label=label))

    async def remove_agent(self, agent_id: str) -> None:
        """What no runtime has taken for it fails as agent_removed. Rejected: unknown_agent."""
        await self._connection.request("DELETE", f"/agents/{_segment(agent_id)}")

    # Messages.

    async def send(self, message: NewMessage) -> SendResult:
        """Durable when this returns. Rejected: no_recipients, ambiguous_target, invalid_target,
        unknown_thread, body_too_large, idempotency_conflict.
        """
        return await self._call("POST", "/messages", _SENDRESULT, body=message)

    async def inbox(
        self, agent_id: str, *, unread: bool = False, after: int = 0, limit: int = 100
    ) -> Inbox:
        """Messages for an agent that polls. `unread` leaves out what is delivered or failed.

        Rejected: unknown_agent, unknown_cursor.
        """
        params: dict[str, str | int] = {"for": agent_id, "unread": unread, "after": after}
        params["limit"] = limit
        return await self._call("GET", "/messages", _INBOX, params=params)

    async def cursor(self) -> int:
        """The inbox cursor after which comes only what is sent from now on."""
        return (await self._call("GET", "/messages/cursor", _CURSOR)).cursor

    async def message(self, message_id: int) -> Message:
        """Rejected: unknown_message."""
        return await self._call("GET", f"/messages/{message_id}", _MESSAGE)

    async def thread(self, message_id: int, *, after: int = 0, limit: int = 100) -> list[Message]:
        """The thread that the message is in, oldest first, after message `after`.

        Rejected: unknown_message.
        """
        params = {"after": after, "limit": limit}
        return await self._call("GET", f"/messages/{message_id}/thread", _MESSAGES, params=params)

    async def receipts(
        self, message_id: int, *, until: str | None = None, wait_s: float = 0.0
    ) -> Receipts:
        """Everything that happened to the message.

        With `until` "accepted" or "delivered", waits up to `wait_s` seconds until all its
        deliveries got that far or are final; the answer says whether they did.
        Rejected: unknown_message.
        """
        params = {"until": until, "wait_s": wait_s}
        path = f"/messages/{message_id}/receipts"
        return await self._call("GET", path, _RECEIPTS, params=params, wait_s=wait_s)

    # Runtimes.

    async def report(self, receipts: Sequence[NewReceipt]) -> list[ReceiptResult]:
        """Report up to `MAX_RECEIPTS` receipts; one result each, in order. Safe to repeat."""
        body = NewReceipts(receipts=list(receipts))
        return (await self._call("POST", "/receipts", _RECEIPTRESULTS, body=body)).results

    async def deliveries(
        self, runtime_id: str, *, after: int, wait_s: float = 0.0, limit: int = 100
    ) -> DeliveryBatch:
        """Deliveries to the runtime's agents after a cursor; waits up to `wait_s` for the first.

        Rejected: unknown_cursor (the relay started over: ask from 0).
        """
        params = {"after": after, "wait_s": wait_s, "limit": limit}
        path = f"/runtimes/{_segment(runtime_id)}/deliveries"
        return await self._call("GET", path, _DELIVERYBATCH, params=params, wait_s=wait_s)

    async def runtime_heartbeat(
        self, runtime_id: str, agents: Mapping[str, AgentStatus]
    ) -> list[str]:
        """Say how the runtime's agents are; returns those that it must register again."""
        path = f"/runtimes/{_segment(runtime_id)}/heartbeat"
        body = RuntimeHeartbeat(agents=dict(agents))
        return (await self._call("POST", path, _HEARTBEATRESULT, body=body)).unknown

    # The relay.

    def events(self, *, agent_id: str | None = None, after: int | None = None) -> EventStream:
        """The event log from a cursor on, or from now on; of one agent or of all.

        async with client.events(agent_id="backend") as events:
            async for event in events: ...
        """
        return EventStream(self._connection, agent_id, after)

    async def stats(self) -> Stats:
        """Counts."""
        return await self._call("GET", "/stats", _STATS)

    async def health(self) -> Health:
        """Whether the relay answers; needs no token."""
        return await self._call("GET", "/health", _HEALTH)

    async def _call(
        self,
        method: str,
        path: str,
        answer: TypeAdapter[T],
        *,
        params: Mapping[str, str | int | float | bool | None] | None = None,
        body: BaseModel | None = None,
        wait_s: float = 0.0,
    ) -> T:
        sent = None if body is None else body.model_dump_json(by_alias=True, exclude_unset=True)
        received = await self._connection.request(
            method, path, params=params, content=sent, wait_s=wait_s
        )
        try:
            return answer.validate_json(received)
        except ValidationError as exc:
            raise self._connection.misunderstood(f"its answer to {method} {path}") from exc


def _segment(text: str) -> str:
    return quote(text, safe="")


__all__ = ["RelayClient"]
