"""Talks to the supervisor over `control.sock`. Blocking, because the command line is.

Answers are the JSON of `control_types` as it came, typed by `control_answers`. With httpx and
pydantic a command would spend most of its time importing them (`bench/cli.py`), so this is
`http.client` on a unix socket.
"""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast
from urllib.parse import quote, urlencode

from .paths import socket_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from .control_answers import Event, Receipts, Sent, Session, Status

#: A supervisor on the same machine answers at once; one that takes this long is stuck.
ANSWER_S = 30.0
#: Read at once from a stream.
PIECE_BYTES = 65_536

# --- errors ---------------------------------------------------------------------------------------
#
# ControlError
# ├── Unavailable     the supervisor or its relay cannot be reached, or not now: start it, or wait
# │   └── NotRunning  no supervisor listens: nothing was asked of anyone
# ├── Missing         nothing has that name, or several have it: name another (`candidates`)
# ├── Invalid         the request is wrong: correct it
# ├── Refused         not in the present state: change that first
# ├── NotStarted      the session was spawned and its harness did not start
# ├── TimedOut        the wait ran out: what was asked for goes on
# └── Broken          a fault of the supervisor: its log has more


class ControlError(Exception):
    """Base of what the client raises. The message is one line; `code` is the supervisor's."""

    def __init__(self, message: str, code: str = "", candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.candidates = candidates


class Unavailable(ControlError):
    """Raised when the supervisor or its relay did not answer. A request may have been carried out."""


class NotRunning(Unavailable):
    """Raised when no supervisor listens. No request was made."""


class Missing(ControlError):
    """Raised when no session, target or message is meant by the name, or several are."""


class Invalid(ControlError):
    """Raised when the supervisor or the relay cannot accept what the request says."""


class Refused(ControlError):
    """Raised when the session or the supervisor is in a state where this cannot be done."""


class NotStarted(ControlError):
    """Raised when a harness could not be started; the message has its own words."""


class TimedOut(ControlError):
    """Raised when the wait for an answer ran out."""


class Broken(ControlError):
    """Raised when the supervisor failed in a way that is its own fault."""


_BY_STATUS: Mapping[int, type[ControlError]] = {
    400: Invalid,
    401: Refused,
    403: Refused,
    404: Missing,
    405: Broken,
    408: TimedOut,
    409: Refused,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Refused,
    502: Unavailable,
    503: Unavailable,
    504: TimedOut,
}

_BY_CODE: Mapping[str, type[ControlError]] = {
    "ambiguous_target": Missing,
    "ambiguous_session": Missing,
    "start_failed": NotStarted,
}


class _ErrorBody(TypedDict):
    code: str
    message: str
    candidates: NotRequired[list[str]]


# --- the client -----------------------------------------------------------------------------------


class ControlClient:
    """Asks the supervisor whose socket is at `path`. Holds nothing open between calls.

    Every method raises `ControlError`. `name` is a session's name, its id or its agent's id.
    """

    def __init__(self, path: Path) -> None:
        self._address = socket_address(path)

    def status(self) -> Status:
        return cast("Status", self._call("GET", "/v1/status"))

    def down(self, *, all_sessions: bool, force: bool) -> None:
        """Ask the supervisor to end; it answers before it is gone, sessions that end are gone."""
        self._call("POST", "/v1/down", {"all": all_sessions, "force": force}, wait_s=None)

    def spawn(self, request: Mapping[str, object], wait_s: float) -> Session:
        """Start a session; `request` is a `control_types.Spawn`. Waits for readiness `wait_s`."""
        body = {**request, "wait_s": wait_s}
        return cast("Session", self._call("POST", "/v1/sessions", body, wait_s=wait_s))

    def sessions(self, *, ended: bool = False) -> list[Session]:
        """Every session, oldest first; with `ended` also those that are over."""
        path = "/v1/sessions?all=true" if ended else "/v1/sessions"
        return cast("list[Session]", self._call("GET", path))

    def act(self, name: str, verb: str) -> Session:
        """`verb` is interrupt, pause or resume."""
        return cast("Session", self._call("POST", f"{_session(name)}/{verb}"))

    def answer(
        self, name: str, *, allow: bool, request_id: str | None, message: str | None
    ) -> Session:
        body = {"request_id": request_id, "allow": allow, "message": message}
        return cast("Session", self._call("POST", f"{_session(name)}/answer", body))

    def release(self, name: str, *, force: bool, reason: str | None) -> Session:
        """End a session; returns when it is over, which its stop plan bounds."""
        body = {"reason": reason, "force": force}
        return cast("Session", self._call("POST", f"{_session(name)}/release", body, wait_s=None))

    def send(self, message: Mapping[str, object]) -> Sent:
        """Hand a message to the relay; `message` is a `relay_client.types.NewMessage`."""
        return cast("Sent", self._call("POST", "/v1/messages", message))

    def receipts(
        self, message_id: int, *, until: str | None = None, wait_s: float = 0.0
    ) -> Receipts:
        """What happened to a message so far, after waiting up to `wait_s` until all of its
        deliveries are `until` (accepted or delivered) or final."""
        query = f"?until={until}&wait_s={wait_s:g}" if until else ""
        path = f"/v1/messages/{message_id}/receipts{query}"
        return cast("Receipts", self._call("GET", path, wait_s=wait_s))

    def events(self, *, session: str | None, since: int, follow: bool) -> Iterator[Event]:
        """Events after `since`, oldest first; with `follow` also those to come, without an end."""
        query = {"since": str(since), "follow": "true" if follow else "false"}
        if session is not None:
            query["session"] = session
        pending = b""
        for data in self._stream("/v1/events", query):
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                yield cast("Event", json.loads(line))

    def logs(self, name: str, *, stream: str, follow: bool) -> Iterator[bytes]:
        """The session's output as it came; with `follow` until its agent has exited."""
        query = {"stream": stream, "offset": "0", "follow": "true" if follow else "false"}
        return self._stream(f"{_session(name)}/logs", query)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        wait_s: float | None = 0.0,
    ) -> object:
        """`wait_s`: what the supervisor may take on top; None where it keeps a bound of its own."""
        with self._ask(method, path, body, None if wait_s is None else ANSWER_S + wait_s) as answer:
            return cast("object", json.loads(answer.read()))

    def _stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """The answer in pieces as they come; the last one may be days away."""
        with self._ask("GET", f"{path}?{urlencode(query)}", None, ANSWER_S, live=True) as answer:
            while data := answer.read1(PIECE_BYTES):
                yield data

    @contextmanager
    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        timeout: float | None,
        *,
        live: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        """The supervisor's answer when it is one; `live`: its content has no deadline."""
        connection = _Connection(self._address, timeout)
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            connection.request(method, path, content, headers)
            with connection.getresponse() as response:
                if response.status >= 400:
                    raise _refusal(response.status, response.read())
                if live:
                    connection.wait_forever()
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(error) from error
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over the socket at `address`."""

    def __init__(self, address: str, timeout: float | None) -> None:
        super().__init__("supervisor", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._address)

    def wait_forever(self) -> None:
        self.sock.settimeout(None)


def _session(name: str) -> str:
    # Nothing is called that, and in a path it would mean something else.
    if name in ("", ".", "..") or "/" in name:
        raise Missing(f"no session is called {name!r}")
    return f"/v1/sessions/{quote(name, safe='')}"


def _unreachable(error: OSError | http.client.HTTPException) -> ControlError:
    match error:
        case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
            return NotRunning("no supervisor runs: start one with `relay-runtime up`")
        case PermissionError():
            return Unavailable("this user may not talk to the supervisor: is the home yours?")
        case TimeoutError():
            return Unavailable("the supervisor does not answer: see its log")
        case _:
            return Unavailable("the supervisor went away: start it again with `relay-runtime up`")


def _refusal(status: int, content: bytes) -> ControlError:
    try:
        error = cast("_ErrorBody", json.loads(content)["error"])
        code, message = str(error["code"]), str(error["message"])
        candidates = tuple(map(str, error.get("candidates", [])))
    except (ValueError, KeyError, TypeError):
        return Broken(f"the supervisor answered {status} without a reason")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, Broken)
    return kind(message, code, candidates)


__all__ = [
    "Broken",
    "ControlClient",
    "ControlError",
    "Invalid",
    "Missing",
    "NotRunning",
    "NotStarted",
    "Refused",
    "TimedOut",
    "Unavailable",
]
