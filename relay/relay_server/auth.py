"""Who may talk to the relay: the token, the name it is called by, the page that calls.

A web page can send requests to 127.0.0.1 from any browser on this machine. It cannot read a token, so
the token keeps it out; without one the two other checks do: `Host` is then the attacker's own name
(DNS rebinding), or `Origin` is. Requests with side effects must be JSON, which no page can send across
origins without asking first.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from typing import TYPE_CHECKING

from .errors import ApiError
from .settings import is_loopback

if TYPE_CHECKING:
    from starlette.types import Scope

    from .settings import Settings

# Clients call a relay by a handful of names; a flood of others must not fill the memory.
MAX_KNOWN_HOSTS = 64

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
#: What may be asked without a token: whether the process is up.
OPEN_PATHS = frozenset({"/health", "/api/health"})


class Guard:
    """Checks a request before anything else is done with it."""

    def __init__(self, settings: Settings) -> None:
        self._token = None if settings.token is None else _digest(settings.token.encode())
        self._origins = settings.cors_origins
        self._names = {name.lower() for name in settings.allowed_hosts}
        self._any_address = not is_loopback(settings.host)
        if self._any_address:
            # A name of the attacker's is what rebinding needs, so our own and addresses are safe.
            self._names |= {settings.host.lower(), socket.gethostname().lower()}
        self._known_hosts: set[bytes] = set()

    def headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Headers that let the asking page see the answer, if it is of an allowed foreign origin.

        Raises `ApiError`: 401 unauthorized, 403 host_not_allowed or origin_not_allowed.
        """
        hosts: list[bytes] = []
        origin = authorization = token = None
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origin = value
            elif name == b"authorization":
                authorization = value
            elif name == b"x-agent-relay-token":
                token = value
        self._check_host(hosts)
        foreign = None if origin is None else self._check_origin(origin, hosts[0])
        # A browser asks first, without the token, whether it may send it.
        preflight = foreign is not None and scope["method"] == "OPTIONS"
        if self._token is not None and not preflight and scope["path"] not in OPEN_PATHS:
            self._check_token(authorization, token)
        return [] if foreign is None else _cors_headers(foreign, preflight)

    def _check_host(self, hosts: list[bytes]) -> None:
        if len(hosts) == 1 and hosts[0] in self._known_hosts:
            return
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            raise ApiError(
                "host_not_allowed",
                "the relay is not called by this name: use 127.0.0.1 or localhost, or add the name "
                "to AGENT_RELAY_ALLOWED_HOSTS",
                status=403,
            )
        if len(self._known_hosts) < MAX_KNOWN_HOSTS:
            self._known_hosts.add(hosts[0])

    def _is_ours(self, host: bytes) -> bool:
        found = _HOST.fullmatch(host.decode("latin-1").lower())
        if found is None:
            return False
        name = found[1].strip("[]")
        if is_loopback(name) or name in self._names:
            return True
        return self._any_address and _is_address(name)

    def _check_origin(self, origin: bytes, host: bytes) -> str | None:
        text = origin.decode("latin-1").lower()
        scheme, separator, authority = text.partition("://")
        if (
            separator
            and scheme in ("http", "https")
            and authority == host.decode("latin-1").lower()
        ):
            return None
        if text in self._origins or ("*" in self._origins and text != "null"):
            return text
        raise ApiError(
            "origin_not_allowed",
            "web pages of this origin may not use the relay: add it to AGENT_RELAY_CORS_ORIGINS",
            status=403,
        )

    def _check_token(self, authorization: bytes | None, token: bytes | None) -> None:
        if token is None and authorization is not None:
            scheme, _, value = authorization.partition(b" ")
            token = value.strip() if scheme.lower() == b"bearer" else None
        assert self._token is not None  # called only with one
        # Digests have one length, so the comparison tells nothing about the token.
        if token is None or not hmac.compare_digest(_digest(token), self._token):
            raise ApiError(
                "unauthorized",
                "a valid token is required: send Authorization: Bearer with AGENT_RELAY_TOKEN",
                status=401,
                headers={"www-authenticate": "Bearer"},
            )


def _cors_headers(origin: str, preflight: bool) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"x-relay-version, retry-after"),
        (b"vary", b"origin"),
    ]
    if preflight:
        headers += [
            (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
            (
                b"access-control-allow-headers",
                b"authorization, content-type, last-event-id, x-agent-relay-token",
            ),
            (b"access-control-max-age", b"600"),
        ]
    return headers


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


__all__ = ["Guard"]
