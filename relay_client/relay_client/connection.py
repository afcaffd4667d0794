"""HTTP to one relay: what goes wrong leaves as an error of `errors`, whatever it was."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from pydantic import ValidationError

from . import direct
from .errors import Busy, Faulty, Misunderstood, Rejected, RelayError, Unreachable
from .lean import httpx
from .types import ErrorResponse
from .version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

# A local relay answers in a millisecond; a remote one on a slow line still within this.
TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
# When a busy relay does not say when to come back, and the longest it may ask for.
RETRY_AFTER_S = 1.0
MAX_RETRY_AFTER_S = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """A pool of connections to a relay. Raises `ValueError` for a URL that cannot be one.

    With `app`, only streams use the network.
    """

    def __init__(self, url: str, token: str | None, app: direct.App | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no relay URL: write it like http://127.0.0.1:4850")
        self.url = url.rstrip("/")
        self._host = parts.netloc
        self._app = app
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # Loading the authorities takes longer than everything else here.
            verify=ssl.create_default_context() if parts.scheme == "https" else False,
            # A proxy of the environment must neither see nor swallow what stays on this machine.
            trust_env=not _is_loopback(parts.hostname),
        )
        self._warned = False

    async def aclose(self) -> None:
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | float | bool | None] | None = None,
        content: str | None = None,
        wait_s: float = 0.0,
    ) -> bytes:
        """The body of a successful answer. `wait_s` is how long the relay may take on purpose."""
        query = urlencode(_texts(params or {}))
        if self._app is None:
            request = self._build(method, path, query, content, TIMEOUT_S + wait_s)
            try:
                answer = _answer(await self._http.send(request))
            except httpx.RequestError as exc:
                raise self._failure(exc) from exc
        else:
            headers = {"host": self._host, **self._headers}
            if content is not None:
                headers["content-type"] = "application/json"
            body = (content or "").encode()
            told = await direct.call(self._app, method, f"/api{path}", query, headers, body)
            answer = Answer(*told)
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)
        self._check_version(answer.headers)
        return answer.body

    async def stream(
        self,
        path: str,
        params: Mapping[str, str | int | None],
        last_id: int | None,
        silence_s: float,
    ) -> httpx.Response:
        """An answer whose body is read as it comes; the caller closes it.

        It counts as broken when nothing comes for `silence_s` seconds.
        """
        request = self._build("GET", path, urlencode(_texts(params)), None, silence_s)
        request.headers["accept"] = "text/event-stream"
        if last_id is not None:
            request.headers["last-event-id"] = str(last_id)
        try:
            response = await self._http.send(request, stream=True)
            if response.is_success:
                self._check_version(response.headers)
                return response
            try:
                await response.aread()
            finally:
                await response.aclose()
        except httpx.RequestError as exc:
            raise self._failure(exc) from exc
        raise self._refusal(_answer(response))

    def broken(self, reason: object) -> Unreachable:
        """For a stream that ended."""
        return Unreachable(self.url, reason)

    def misunderstood(self, reason: object) -> Misunderstood:
        return Misunderstood(self.url, reason)

    def _build(
        self, method: str, path: str, query: str, content: str | None, read_s: float
    ) -> httpx.Request:
        return self._http.build_request(
            method,
            f"{self.url}/api{path}" + (f"?{query}" if query else ""),
            content=content,
            headers=None if content is None else {"content-type": "application/json"},
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=read_s),
        )

    def _failure(self, exc: httpx.RequestError) -> RelayError:
        if isinstance(exc, httpx.DecodingError):
            return self.misunderstood(exc)
        return Unreachable(self.url, str(exc) or type(exc).__name__)

    def _refusal(self, answer: Answer) -> RelayError:
        status = answer.status
        try:
            error = ErrorResponse.model_validate_json(answer.body).error
        except ValidationError:
            told = f"HTTP {status} without a reason"
            return Faulty(status, told) if status >= 500 else self.misunderstood(told)
        if status in (429, 503):
            return Busy(error.code, error.message, _retry_after(answer))
        if status >= 500:
            return Faulty(status, error.message)
        return Rejected(status, error.code, error.message, error.candidates)

    def _check_version(self, headers: Mapping[str, str]) -> None:
        theirs = headers.get("x-relay-version")
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


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content)


def _texts(params: Mapping[str, str | int | float | bool | None]) -> dict[str, str]:
    """What is given, as JSON writes it."""
    given = {name: value for name, value in params.items() if value is not None}
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in given.items()}


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    seconds = float(text) if text.isascii() and text.isdigit() else RETRY_AFTER_S
    return min(seconds, MAX_RETRY_AFTER_S)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
