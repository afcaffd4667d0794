"""The query strings that the routes take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from relay_client.types import MAX_WAIT_S, AgentStatus, Name, Number, Request

# A page that a client takes at once; `after` leads to the next.
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
