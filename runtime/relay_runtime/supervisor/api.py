"""The control API: what `control_types.py` lists, over the supervisor's unix socket.

Every endpoint parses, asks the supervisor, answers. The socket is 0600 in a 0700 folder, so there
is no token: whoever can connect is the user.
"""

from __future__ import annotations

import logging
import os
import resource
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Router

from relay_client.errors import Rejected, RelayError, Unreachable
from relay_client.types import NewMessage, Number, Receipts, SendResult
from relay_server.boundary import Boundary
from relay_server.errors import ApiError, Conflict
from relay_server.openapi import Operation, bind, describe, query, read, reply

from .. import __version__, paths, registry
from ..contract import DriverError, HarnessGone, Stream, Unsupported
from ..control_types import (
    Answer,
    Down,
    EventRecord,
    HarnessInfo,
    Release,
    SessionInfo,
    Spawn,
    StatusInfo,
)
from .logs import read_log
from .session import SessionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import anyio
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from .journal import EventRow
    from .session import ManagedSession
    from .supervisor import Supervisor

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Environments are tens of kilobytes; a message of a million characters may be escaped six-fold.
MAX_BODY = 8 * 1024 * 1024
#: Events read and written at once for one follower; some can be long.
PAGE = 100


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SessionsQuery(_Query):
    all: bool = False  #: also sessions that have ended


class EventsQuery(_Query):
    session: str | None = None
    since: Number = 0
    follow: bool = False


class LogsQuery(_Query):
    stream: Literal["out", "err"] = "out"
    offset: Number = 0
    follow: bool = False


class ReceiptsQuery(_Query):
    until: Literal["accepted", "delivered"] | None = None
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0.0


class Nothing(BaseModel):
    """An empty answer."""


class ControlApi:
    """`stop` ends the supervisor; once `closing` is set, open streams end."""

    def __init__(
        self, supervisor: Supervisor, *, stop: Callable[[], None], closing: anyio.Event
    ) -> None:
        self._supervisor = supervisor
        self._stop = stop
        self._closing = closing

    def app(self) -> ASGIApp:
        return Boundary(Router(bind(self.table())))

    def table(self) -> list[Operation]:
        name = "/v1/sessions/{name}"
        gone, busy = (404,), (404, 409, 422)
        events = "application/x-ndjson"
        return [
            Operation("GET", "/v1/status", self.status, "The supervisor", response=StatusInfo),
            Operation("POST", "/v1/down", self.down, "Stop it", body=Down, response=Nothing),
            Operation(
                "POST",
                "/v1/sessions",
                self.spawn,
                "Start a session",
                body=Spawn,
                response=SessionInfo,
                status=201,
                errors=busy,
            ),
            Operation(
                "GET",
                "/v1/sessions",
                self.sessions,
                "List sessions",
                query=SessionsQuery,
                response=SessionInfo,
                many=True,
            ),
            Operation("GET", name, self.session, "One session", response=SessionInfo, errors=gone),
            self._order(name, "interrupt", "Stop its turn"),
            self._order(name, "pause", "Write nothing more to it"),
            self._order(name, "resume", "End every hold"),
            Operation(
                "POST",
                f"{name}/release",
                self.release,
                "End it",
                body=Release,
                response=SessionInfo,
                errors=gone,
            ),
            Operation(
                "POST",
                f"{name}/answer",
                self.answer,
                "Answer a permission request",
                body=Answer,
                response=SessionInfo,
                errors=busy,
            ),
            Operation(
                "GET",
                f"{name}/logs",
                self.logs,
                "Raw output",
                query=LogsQuery,
                errors=gone,
                media_type="application/octet-stream",
            ),
            Operation(
                "GET",
                "/v1/events",
                self.events,
                "Events, one JSON object a line",
                query=EventsQuery,
                response=EventRecord,
                errors=gone,
                media_type=events,
            ),
            Operation(
                "POST",
                "/v1/messages",
                self.send,
                "Send a message",
                body=NewMessage,
                response=SendResult,
                status=201,
                errors=(404, 409, 502),
            ),
            Operation(
                "GET",
                "/v1/messages/{id:int}/receipts",
                self.receipts,
                "What happened to a message",
                query=ReceiptsQuery,
                response=Receipts,
                errors=(404, 502),
            ),
            Operation(
                "GET",
                "/v1/harnesses",
                self.harnesses,
                "What can be spawned",
                response=HarnessInfo,
                many=True,
            ),
            Operation("GET", "/openapi.json", self.openapi, "This description"),
        ]

    def _order(self, path: str, verb: str, summary: str) -> Operation:
        async def endpoint(request: Request) -> Response:
            session = self._session(request)
            await _told(getattr(session, verb)())
            return reply(session.info())

        return Operation(
            "POST", f"{path}/{verb}", endpoint, summary, response=SessionInfo, errors=(404, 409)
        )

    # The supervisor itself.

    async def status(self, request: Request) -> Response:
        supervisor = self._supervisor
        states: dict[str, int] = {}
        for info in supervisor.infos():
            states[info.state] = states.get(info.state, 0) + 1
        return reply(
            StatusInfo(
                pid=os.getpid(),
                version=__version__,
                home=str(supervisor.home),
                since=supervisor.since,
                relay_url=supervisor.relay_url,
                relay_embedded=supervisor.relay_embedded,
                sessions=states,
                rss_bytes=_rss_bytes(),
            )
        )

    async def down(self, request: Request) -> Response:
        order = await read(request, Down)
        if order.all:
            await self._supervisor.release_all(force=order.force)
        self._stop()
        return reply(Nothing())

    async def harnesses(self, request: Request) -> Response:
        infos = []
        for name in registry.names():
            try:
                harness = registry.load(name)
            except registry.RegistryError as error:
                _log.error("%s", error, extra={"action": "broken_driver"})
                continue
            can = harness.capabilities
            infos.append(
                HarnessInfo(
                    name=name,
                    modes=sorted(can.modes),
                    default_mode=harness.default_mode,
                    boundary=can.boundary,
                    evidence=can.evidence,
                    steer=can.steer,
                    interrupt=can.interrupt,
                    resume=can.resume,
                    permissions=can.permissions,
                )
            )
        return reply(infos)

    async def openapi(self, request: Request) -> Response:
        title = "relay-runtime control API"
        return JSONResponse(describe(self.table(), title=title, version=__version__))

    # Sessions.

    def _session(self, request: Request) -> ManagedSession:
        return self._supervisor.find(request.path_params["name"])

    async def spawn(self, request: Request) -> Response:
        wanted = await read(request, Spawn, MAX_BODY)
        if not self._supervisor.relay_embedded:
            await _relayed(self._supervisor.relay.check())
        return reply(await self._supervisor.spawn(wanted), 201)

    async def sessions(self, request: Request) -> Response:
        wanted = query(request, SessionsQuery)
        return reply(self._supervisor.infos(ended=wanted.all))

    async def session(self, request: Request) -> Response:
        return reply(self._supervisor.info(request.path_params["name"]))

    async def release(self, request: Request) -> Response:
        order = await read(request, Release)
        session = self._session(request)
        await session.release(force=order.force, reason=order.reason)
        return reply(session.info())

    async def answer(self, request: Request) -> Response:
        answer = await read(request, Answer)
        session = self._session(request)
        await _told(session.answer(answer.request_id, answer.allow, answer.message))
        return reply(session.info())

    async def logs(self, request: Request) -> Response:
        wanted = query(request, LogsQuery)
        session_id = self._supervisor.session_id(request.path_params["name"])
        folder = str(paths.session_dir(self._supervisor.home, session_id))
        content = read_log(folder, Stream(wanted.stream), wanted.offset, follow=wanted.follow)
        return StreamingResponse(content, media_type="application/octet-stream")

    # Events.

    async def events(self, request: Request) -> Response:
        wanted = query(request, EventsQuery)
        session_id = self._supervisor.session_id(wanted.session) if wanted.session else None
        content = self._events(wanted.since, session_id, wanted.follow)
        return StreamingResponse(content, media_type="application/x-ndjson")

    async def _events(
        self, cursor: int, session_id: str | None, follow: bool
    ) -> AsyncIterator[str]:
        while not self._closing.is_set():
            news = self._supervisor.news
            rows = self._supervisor.journal.events(cursor, session_id, PAGE)
            if rows:
                cursor = rows[-1].cursor
                yield "".join(_event_line(row) for row in rows)
            elif follow:
                await news.wait()
            else:
                return

    # Messages: the relay's own answers, through the supervisor's connection to it.

    async def send(self, request: Request) -> Response:
        message = await read(request, NewMessage, MAX_BODY)
        return reply(await _relayed(self._supervisor.relay.client.send(message)), 201)

    async def receipts(self, request: Request) -> Response:
        wanted = query(request, ReceiptsQuery)
        number = request.path_params["id"]
        client = self._supervisor.relay.client
        return reply(
            await _relayed(client.receipts(number, until=wanted.until, wait_s=wanted.wait_s))
        )


def _event_line(row: EventRow) -> str:
    record = EventRecord(
        cursor=row.cursor,
        at=row.at,
        session_id=row.session_id,
        name=row.name,
        type=row.type,
        data=row.data,
    )
    return record.model_dump_json() + "\n"


async def _told(order: Awaitable[None]) -> None:
    """Carry out an order to a session; what stands against it as the API says it."""
    try:
        await order
    except (SessionError, Unsupported) as error:
        raise Conflict("not_now", str(error)) from None
    except HarnessGone:
        raise Conflict("not_now", "the agent has just ended; try again") from None
    except KeyError as error:
        raise Conflict("no_such_request", f"no open request {error}") from None
    except DriverError as error:
        raise Conflict("refused", str(error)) from None


async def _relayed(answer: Awaitable[T]) -> T:
    """The relay's answer; its refusals are passed on as they are."""
    try:
        return await answer
    except Rejected as error:
        raise ApiError(
            error.code, str(error), status=error.status, candidates=error.candidates
        ) from None
    except Unreachable as error:
        raise ApiError("relay_unreachable", str(error), status=502) from None
    except RelayError as error:
        raise ApiError("relay_failed", str(error), status=502) from None


def _rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
