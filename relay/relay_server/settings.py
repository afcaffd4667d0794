"""Everything that configures a relay, resolved once from the environment."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4850
DEFAULT_DB = Path("agent-relay.db")
# Four heartbeats of a runtime that sends one every thirty seconds.
DEFAULT_STALE_TTL_MS = 120_000


class SettingsError(Exception):
    """Raised for settings that cannot be used. The message names the variable and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`from_environ` reads them; an embedding program may also build its own.

    `cors_origins` are browser origins besides the relay's own; `*` allows all. `allowed_hosts` are
    names that clients may call the relay by, besides loopback names and, when it is bound to other
    addresses, those. Raises `SettingsError` when other machines could connect without a token.
    """

    db_path: Path = DEFAULT_DB
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT  #: 0 takes a free one
    token: str | None = field(default=None, repr=False)
    stale_ttl_s: float = DEFAULT_STALE_TTL_MS / 1000
    cors_origins: frozenset[str] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()
    allow_unauth: bool = False

    def __post_init__(self) -> None:
        if self.token is None and not self.allow_unauth and not is_loopback(self.host):
            raise SettingsError(
                f"HOST={self.host} lets other machines in: set AGENT_RELAY_TOKEN to a secret, "
                "or AGENT_RELAY_ALLOW_UNAUTH=1 to do without"
            )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, db_path: Path = DEFAULT_DB) -> Settings:
        """Settings from HOST, PORT, DB_PATH, STALE_TTL_MS and AGENT_RELAY_*.

        An empty variable counts as unset. `db_path` is used when DB_PATH is not set.
        """
        given = {name: value.strip() for name, value in environ.items() if value.strip()}
        stale_ttl_ms = _number(given, "STALE_TTL_MS", DEFAULT_STALE_TTL_MS, 1000, 7 * 86_400_000)
        return cls(
            db_path=Path(given.get("DB_PATH", db_path)),
            host=given.get("HOST", DEFAULT_HOST).strip("[]"),
            port=_number(given, "PORT", DEFAULT_PORT, 0, 65_535),
            token=_token(given.get("AGENT_RELAY_TOKEN")),
            stale_ttl_s=stale_ttl_ms / 1000,
            cors_origins=_list(given.get("AGENT_RELAY_CORS_ORIGINS")),
            allowed_hosts=_list(given.get("AGENT_RELAY_ALLOWED_HOSTS")),
            allow_unauth=given.get("AGENT_RELAY_ALLOW_UNAUTH") == "1",
        )


def is_loopback(host: str) -> bool:
    """True for `localhost` and every loopback address; a name that resolves to one does not count."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _number(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
        raise SettingsError(f"{name} must be a number from {low} to {high}, not {text!r}")
    return int(text)


def _list(text: str | None) -> frozenset[str]:
    entries = (entry.strip().rstrip("/").lower() for entry in (text or "").split(","))
    return frozenset(entry for entry in entries if entry)


def _token(text: str | None) -> str | None:
    if text is not None and not (text.isascii() and text.isprintable() and " " not in text):
        raise SettingsError("AGENT_RELAY_TOKEN must be printable ASCII without spaces")
    return text


__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "Settings", "SettingsError", "is_loopback"]
