"""One method per route, no policy: whether to retry, when and how often is the caller's business."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from .errors import Misunderstood, RelayError, Unreachable
from .events import EventStream
from .refusals import refusal
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
from .version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

T = TypeVar("T")

# A local relay answers in a millisecond; a remote one behind a slow line still within this.
TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0

_AGENTS = TypeAdapter(list[Agent])
_MESSAGES = TypeAdapter(list[Message])

logger = logging.getLogger(__name__)


class RelayClient:
    """A relay over HTTP. Every method raises `errors.RelayError`; see its tree.

    `transport` replaces the network: `httpx.ASGITransport(app)` talks to a relay in this process,
    except for `events`. Use it as a context manager, or call `aclose`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"accept": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        parts = urlsplit(self.url)
        self._http = httpx.AsyncClient(
            base_url=f"{self.url}/api",
            headers=headers,
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            # Loading the authorities takes longer than everything else here.
            verify=ssl.create_default_context() if parts.scheme == "https" else False,
            # A proxy of the environment must not see, or swallow, what stays on this machine.
            trust_env=not _is_loopback(parts.hostname),
        )
        self._warned = False

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
        await self._http.aclose()

    # Agents.

    async def register(self, agent: AgentRegistration) -> Agent:
        """Register an agent, or replace what is known of it. Its label stays unless one is given."""
        return await self._call("POST", "/agents", Agent, body=agent)

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
        return await self._call("GET", f"/agents/{_segment(agent_id)}", Agent)

    async def heartbeat(self, agent_id: str, status: AgentStatus | None = None) -> Agent:
        """Say that the agent lives. Rejected: unknown_agent."""
        path = f"/agents/{_segment(agent_id)}/heartbeat"
        return await self._call("POST", path, Agent, body=Heartbeat(status=status))

    async def set_label(self, agent_id: str, label: str | None) -> Agent:
        """Set the label, or remove it with None. Rejected: unknown_agent."""
        path = f"/agents/{_segment(agent_id)}/label"
        return await self._call("PATCH", path, Agent, body=Label(label=label))

    async def remove_agent(self, agent_id: str) -> None:
        """What no runtime has taken for it fails as agent_removed. Rejected: unknown_agent."""
        await self._call("DELETE", f"/agents/{_segment(agent_id)}", None)

    # Messages.

    async def send(self, message: NewMessage) -> SendResult:
        """Durable when this returns. Rejected: no_recipients, ambiguous_target, invalid_target,
        unknown_thread, body_too_large, idempotency_conflict.
        """
        return await self._call("POST", "/messages", SendResult, body=message)

    async def inbox(
        self, agent_id: str, *, unread: bool = False, after: int = 0, limit: int = 100
    ) -> Inbox:
        """Messages for an agent that polls. `unread` leaves out what is delivered or failed.

        Rejected: unknown_agent, unknown_cursor.
        """
        params = {"for": agent_id, "unread": unread, "after": after, "limit": limit}
        return await self._call("GET", "/messages", Inbox, params=params)

    async def cursor(self) -> int:
        """The inbox cursor after which comes only what is sent from now on."""
        return (await self._call("GET", "/messages/cursor", Cursor)).cursor

    async def message(self, message_id: int) -> Message:
        """Rejected: unknown_message."""
        return await self._call("GET", f"/messages/{message_id}", Message)

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
        return await self._call("GET", path, Receipts, params=params, wait_s=wait_s)

    # Runtimes.

    async def report(self, receipts: Sequence[NewReceipt]) -> list[ReceiptResult]:
        """Report up to `MAX_RECEIPTS` receipts; one result each, in order. Safe to repeat."""
        body = NewReceipts(receipts=list(receipts))
        return (await self._call("POST", "/receipts", ReceiptResults, body=body)).results

    async def deliveries(
        self, runtime_id: str, *, after: int, wait_s: float = 0.0, limit: int = 100
    ) -> DeliveryBatch:
        """Deliveries to the runtime's agents after a cursor; waits up to `wait_s` for the first.

        Rejected: unknown_cursor (the relay started over: ask from 0).
        """
        params = {"after": after, "wait_s": wait_s, "limit": limit}
        path = f"/runtimes/{_segment(runtime_id)}/deliveries"
        return await self._call("GET", path, DeliveryBatch, params=params, wait_s=wait_s)

    async def runtime_heartbeat(
        self, runtime_id: str, agents: Mapping[str, AgentStatus]
    ) -> list[str]:
        """Say how the runtime's agents are; returns those that it must register again."""
        path = f"/runtimes/{_segment(runtime_id)}/heartbeat"
        body = RuntimeHeartbeat(agents=dict(agents))
        return (await self._call("POST", path, HeartbeatResult, body=body)).unknown

    # The relay.

    def events(self, *, agent_id: str | None = None, after: int | None = None) -> EventStream:
        """The event log from a cursor on, or from now on; of one agent or of all.

            async with client.events(agent_id="backend") as events:
                async for event in events: ...
        """
        return EventStream(self._http, self.url, agent_id=agent_id, after=after)

    async def stats(self) -> Stats:
        """Counts."""
        return await self._call("GET", "/stats", Stats)

    async def health(self) -> Health:
        """Whether the relay answers; needs no token."""
        return await self._call("GET", "/health", Health)

    async def _call(
        self,
        method: str,
        path: str,
        model: type[T] | TypeAdapter[T],
        *,
        params: Mapping[str, Any] | None = None,
        body: BaseModel | None = None,
        wait_s: float = 0.0,
    ) -> T:
        raise NotImplementedError

    def _check_version(self, response: httpx.Response) -> None:
        theirs = response.headers.get("x-relay-version")
        if theirs is None or self._warned or theirs.split(".")[0] == VERSION.split(".")[0]:
            return
        self._warned = True
        logger.warning(
            "the relay at %s has version %s, this client %s: upgrade the older one",
            self.url,
            theirs,
            VERSION,
            extra={"action": "version_mismatch"},
        )


def _segment(text: str) -> str:
    return quote(text, safe="")


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = ["RelayClient"]
