"""The few requests that a session makes of its server. Knows HTTP and JSON, decides nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from .protocol import items_at, shown, text_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from relay_runtime.contract import Json

#: The server runs on this machine and has said that it listens. One that does not accept within
#: this is stopped or gone.
CONNECT_S = 5.0
#: Longest wait for an answer. They take milliseconds; a machine under load, seconds.
ANSWER_S = 30.0
#: The first answer waits for the user's plugins, which OpenCode may have to install (90 s seen).
FIRST_ANSWER_S = 120.0
#: The stream says something every 10 s. Three times nothing: the connection is dead.
SILENCE_S = 35.0
#: Messages of one page. A page of long ones has a few MB.
PAGE = 100


class ApiError(Exception):
    """Raised when the server answers and says no. `status` is HTTP's, the text is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One server. Methods raise `ApiError`, or `httpx.RequestError` when no answer comes.

    `directory` goes with every request once it is known: it selects the project whose sessions and
    events are meant.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.directory: str | None = None

    async def get(self, path: str, **params: str) -> Json:
        return _json(await self._send("GET", path, params=params))

    async def post(self, path: str, body: Json = None) -> Json:
        return _json(await self._send("POST", path, body=body))

    async def first(self, path: str) -> Json:
        """A GET that may have to wait for the server to get ready inside."""
        return _json(await self._send("GET", path, within=FIRST_ANSWER_S))

    async def create_session(self, title: str, permission: Sequence[Json]) -> Json:
        body: dict[str, Json] = {"title": title}
        if permission:
            body["permission"] = permission
        response = await self._send("POST", "/session", body=body, within=FIRST_ANSWER_S)
        return _json(response)

    async def add_permission(self, session: str, permission: Sequence[Json]) -> None:
        await self._send("PATCH", f"/session/{session}", body={"permission": permission})

    async def prompt(self, session: str, message: str, part: str, text: str) -> None:
        """Store a user message and see to it that it is answered; returns before either."""
        parts: list[Json] = [{"id": part, "type": "text", "text": text}]
        body: Json = {"messageID": message, "parts": parts}
        await self._send("POST", f"/session/{session}/prompt_async", body=body)

    async def load(self) -> None:
        """Have the server load what a turn needs; what it does for a turn waits for that too."""
        await self.get("/agent")
        await self.get("/config/providers")

    async def messages(self, session: str, before: str | None) -> tuple[Sequence[Json], str | None]:
        """One page in ascending order, newest page first, and the cursor of the page before it."""
        params = {"limit": str(PAGE)} | ({"before": before} if before is not None else {})
        response = await self._send("GET", f"/session/{session}/message", params=params)
        return items_at(_json(response)), response.headers.get("x-next-cursor")

    async def delete_message(self, session: str, message: str) -> bool:
        """False: the session is busy, so the message stays. Raises `ApiError` 404 when unknown."""
        try:
            await self._send("DELETE", f"/session/{session}/message/{message}")
        except ApiError as error:
            if error.status == httpx.codes.CONFLICT:
                return False
            raise
        return True

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """The event stream as it comes from the wire."""
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S, read=SILENCE_S)
        params = self._params({})
        async with self._client.stream("GET", "/event", params=params, timeout=timeout) as response:
            if response.is_error:
                await response.aread()
                raise _error(response)
            yield response.aiter_bytes()

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Json = None,
        within: float | None = None,
    ) -> httpx.Response:
        response = await self._client.request(
            method,
            path,
            params=self._params(params or {}),
            json=body,
            timeout=httpx.Timeout(within or ANSWER_S, connect=CONNECT_S),
        )
        if response.is_error:
            raise _error(response)
        return response

    def _params(self, params: dict[str, str]) -> dict[str, str]:
        return params if self.directory is None else params | {"directory": self.directory}


@asynccontextmanager
async def open_api(url: str, password: str) -> AsyncIterator[Api]:
    # The user's proxy settings are for the agent's model, not for a server on this machine.
    # Compressing what does not leave the machine only costs time.
    async with httpx.AsyncClient(
        base_url=url,
        auth=("opencode", password),
        trust_env=False,
        headers={"accept-encoding": "identity"},
    ) as client:
        yield Api(client)


def _json(response: httpx.Response) -> Json:
    try:
        found: Json = response.json()
    except ValueError:
        return None
    return found


def _error(response: httpx.Response) -> ApiError:
    body = _json(response)
    said = text_at(body, "data", "message") or text_at(body, "message") or _issues(body)
    name = text_at(body, "name") or text_at(body, "_tag") or f"HTTP {response.status_code}"
    path = text_at(body, "data", "path")
    words = " ".join(": ".join(word for word in (name, path, said) if word).split())
    return ApiError(response.status_code, shown(words, 500))


def _issues(body: Json) -> str:
    return "; ".join(text_at(issue, "message") for issue in items_at(body, "data", "issues"))


__all__ = ["Api", "ApiError", "open_api"]
