"""The scripted model server: three APIs, one script, one log."""

from __future__ import annotations

import json
import sys
from collections import Counter, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.abc import SocketAttribute

from . import script
from .anthropic import Anthropic
from .chat import Chat
from .dialect import Answer, Dialect, Reply, tool_calls
from .http import BadRequest, ClientGone, HttpConnection, HttpRequest
from .log import Outcome, Recorded, RequestLog
from .responses import Responses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

    from .conversation import Asked, Body
    from .script import Step, StepLike

_DIALECTS: dict[str, Dialect] = {
    "/v1/messages": Anthropic(),
    "/v1/responses": Responses(),
    "/v1/chat/completions": Chat(),
}
#: What a CLI gets that asks for something beside the conversation; all read it as a title.
_SIDE = script.Step(text='{"title": "Scripted session"}')
#: Longest wait of `GET /_requests`; pollers ask again.
_MAX_WAIT_S = 60.0


class ModelServer:
    """A model that says what its script says. Made by `run_model_server`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests = RequestLog()
        self._script: deque[Step] = deque()
        self._failed: Counter[object] = Counter()
        self._numbers = 0

    def script(self, *steps: StepLike) -> None:
        """Append steps, each played once, to whichever main request comes next.

        A script inside the conversation (`SCRIPT:[…]:END`) goes first. Raises `ScriptError`.
        """
        self._script.extend(script.step(item) for item in steps)

    @property
    def unplayed(self) -> int:
        """How many steps given to `script` are left."""
        return len(self._script)

    async def serve(self, stream: SocketStream) -> None:
        """One connection, until the client goes."""
        connection = HttpConnection(stream)
        async with stream:
            try:
                while (request := await connection.next_request()) is not None:
                    await self._dispatch(connection, request)
            except ClientGone:
                return
            except BadRequest as error:
                await _refuse_unreadable(connection, str(error))

    async def _dispatch(self, connection: HttpConnection, request: HttpRequest) -> None:
        if request.path.startswith("/_"):
            await self._admin(connection, request)
            return
        body = _parse(request.content)
        dialect = _DIALECTS.get(request.path) if request.method == "POST" else None
        asked = dialect.read(body, request.headers) if dialect else None
        recorded = self._record(request, body, dialect.name if dialect else "other", asked)
        try:
            if dialect and asked:
                await self._answer(connection, dialect, asked, recorded)
            else:
                await _other(connection, request)
                self.requests.end(recorded, Outcome.ANSWERED)
        finally:
            self.requests.end(recorded, Outcome.ABORTED)

    def _record(self, request: HttpRequest, body: Body, api: str, asked: Asked | None) -> Recorded:
        try:
            return self.requests.add(
                api=api,
                method=request.method,
                path=request.path,
                headers=request.headers,
                body=body,
                asked=asked,
            )
        except OverflowError as error:
            raise BadRequest(str(error)) from None

    async def _answer(
        self, connection: HttpConnection, dialect: Dialect, asked: Asked, recorded: Recorded
    ) -> None:
        try:
            step = self._next_step(asked) if asked.main else _SIDE
        except script.ScriptError as error:
            await connection.send_json(400, dialect.refusal(400, None, str(error)))
            self.requests.end(recorded, Outcome.ANSWERED)
            return
        self._numbers += 1
        calls = tool_calls(step.all_calls, asked.tools)
        answer = Answer(self._numbers, asked.model or "scripted", step, calls)
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                await connection.wait_gone()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            self.requests.end(recorded, await _play(connection, dialect, answer, asked.stream))
            tasks.cancel_scope.cancel()
        if recorded.outcome is not Outcome.ANSWERED:
            raise ClientGone

    def _next_step(self, asked: Asked) -> Step:
        if (found := script.inline(asked.turns)) is not None:
            steps, answers, source = found
            place = (asked.conversation, source, answers)
            step = script.pick(steps, answers, self._failed[place])
            if step is not None:
                self._failed[place] += not step.answers
                return step
        if not self._script:
            return script.DEFAULT
        step = self._script.popleft()
        if not step.answers and step.times > 1:
            self._script.appendleft(step.model_copy(update={"times": step.times - 1}))
        return step

    async def _admin(self, connection: HttpConnection, request: HttpRequest) -> None:
        if (request.method, request.path) == ("GET", "/_health"):
            await connection.send_json(200, {"ok": True, "requests": len(self.requests)})
        elif (request.method, request.path) == ("GET", "/_requests"):
            await connection.send_json(200, await self._shown(request))
        elif (request.method, request.path) == ("POST", "/_script"):
            status, answer = self._scripted(request.content)
            await connection.send_json(status, answer)
        else:
            known = "GET /_health, GET /_requests?since=&wait_s=&bodies=1, POST /_script"
            await connection.send_json(404, {"error": {"message": f"there is {known}"}})

    async def _shown(self, request: HttpRequest) -> list[dict[str, object]]:
        since = int(_number(request, "since"))
        with anyio.move_on_after(min(_number(request, "wait_s"), _MAX_WAIT_S)):
            while len(self.requests) <= since:
                await self.requests.changed()
        bodies = bool(request.query.get("bodies"))
        return [recorded.as_json(bodies) for recorded in self.requests[since:]]

    def _scripted(self, content: bytes) -> tuple[int, dict[str, object]]:
        try:
            steps = script.steps(json.loads(content))
        except ValueError as error:
            return 400, {"error": {"message": str(error)}}
        self.script(*steps)
        return 200, {"unplayed": self.unplayed}


def _parse(content: bytes) -> Body:
    try:
        body = json.loads(content) if content else {}
    except ValueError as error:
        raise BadRequest(f"body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("body is not a JSON object")
    return body


def _number(request: HttpRequest, name: str) -> float:
    try:
        value = float(request.query.get(name, "0"))
    except ValueError:
        raise BadRequest(f"{name} is not a number") from None
    if not 0 <= value < sys.maxsize:
        raise BadRequest(f"{name} must not be negative")
    return value


async def _refuse_unreadable(connection: HttpConnection, message: str) -> None:
    error = {"type": "invalid_request_error", "message": message}
    try:
        await connection.send_json(400, {"error": error}, {"connection": "close"})
    except ClientGone:
        return


async def _other(connection: HttpConnection, request: HttpRequest) -> None:
    """Everything a CLI asks that is not a model request."""
    if request.method == "HEAD":
        await connection.send_whole(200, b"", {})
    elif request.path == "/v1/messages/count_tokens":
        await connection.send_json(200, {"input_tokens": 100})
    elif request.path == "/v1/models":
        await connection.send_json(200, {"object": "list", "data": []})
    else:
        error = {"type": "not_found_error", "message": f"no {request.method} {request.path}"}
        await connection.send_json(404, {"type": "error", "error": error})


async def _play(
    connection: HttpConnection, dialect: Dialect, answer: Answer, stream: bool
) -> Outcome:
    try:
        return await _play_step(connection, dialect, answer, stream)
    except ClientGone:
        return Outcome.ABORTED


async def _play_step(
    connection: HttpConnection, dialect: Dialect, answer: Answer, stream: bool
) -> Outcome:
    step = answer.step
    await anyio.sleep(step.delay)
    if step.hang == "headers":
        await anyio.sleep_forever()
    if step.status is not None:
        body = step.body or dialect.refusal(step.status, step.error, step.message)
        await connection.send_json(step.status, body, step.headers)
        return Outcome.ANSWERED
    if not stream and step.answers:
        await connection.send_json(200, dialect.whole(answer), step.headers)
        return Outcome.ANSWERED
    return await _play_events(connection, dialect.stream(answer), step)


async def _play_events(connection: HttpConnection, reply: Reply, step: Step) -> Outcome:
    await connection.start_events()
    for frame in reply.opening:
        if frame.delta:
            await anyio.sleep(step.chunk_delay)
        await connection.send_event(frame.data)
    if step.hang == "start":
        await anyio.sleep_forever()
    if step.cut:
        return Outcome.CUT
    for frame in reply.closing:
        await connection.send_event(frame.data)
    await connection.end_events()
    return Outcome.ANSWERED


@asynccontextmanager
async def run_model_server(port: int = 0) -> AsyncIterator[ModelServer]:
    """A server on 127.0.0.1 for the time of the block; 0 takes a free port.

    Raises `OSError` when the port is taken.
    """
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    async with listener, anyio.create_task_group() as tasks:
        port = listener.extra(SocketAttribute.local_port)
        server = ModelServer(f"http://127.0.0.1:{port}")
        tasks.start_soon(listener.serve, server.serve)
        try:
            yield server
        finally:
            tasks.cancel_scope.cancel()
