"""Who is let in: token, Host and Origin, in every combination that matters."""

from __future__ import annotations

import pytest

from relay_server.auth import Guard
from relay_server.errors import ApiError
from relay_server.settings import Settings

LOCAL = Guard(Settings())
TOKEN = Guard(Settings(token="secret"))
REMOTE = Guard(Settings(host="0.0.0.0", token="secret", allowed_hosts=frozenset({"relay.lan"})))


def ask(
    guard: Guard, *headers: tuple[str, str], method: str = "GET", path: str = "/api/stats"
) -> list[tuple[bytes, bytes]]:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return guard.headers({"type": "http", "method": method, "path": path, "headers": raw})


def refused(guard: Guard, *headers: tuple[str, str]) -> str:
    with pytest.raises(ApiError) as error:
        ask(guard, *headers)
    assert error.value.status == (401 if error.value.code == "unauthorized" else 403)
    return error.value.code


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:4850", "localhost:1", "LOCALHOST", "[::1]:4850", "127.1.2.3"],
)
def test_loopback_names_are_taken(host: str) -> None:
    assert ask(LOCAL, ("Host", host)) == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4850",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.168.1.5",
        "127.0.0.1:x",
        "127.0.0.1:4850@evil.example",
        "evil.example#127.0.0.1",
        "",
        "[::1",
        "127.0.0.1 ",
        "0x7f.1",
        "ⓛocalhost".encode().decode("latin-1"),
    ],
)
def test_a_rebound_name_is_refused_on_loopback(host: str) -> None:
    assert refused(LOCAL, ("Host", host)) == "host_not_allowed"


def test_a_request_needs_exactly_one_host() -> None:
    assert refused(LOCAL) == "host_not_allowed"
    assert refused(LOCAL, ("Host", "localhost"), ("Host", "localhost")) == "host_not_allowed"


def test_a_refused_host_stays_refused_however_many_came_before() -> None:
    guard = Guard(Settings())
    for port in range(200):
        ask(guard, ("Host", f"localhost:{port}"))
    assert refused(guard, ("Host", "evil.example")) == "host_not_allowed"
    assert ask(guard, ("Host", "localhost:60000")) == []


@pytest.mark.parametrize("host", ["100.64.1.2:4850", "[fd00::1]:4850", "relay.lan", "localhost"])
def test_a_relay_for_others_is_called_by_addresses_and_by_names_it_was_told(host: str) -> None:
    assert ask(REMOTE, ("Host", host), ("Authorization", "Bearer secret")) == []


def test_a_relay_for_others_is_not_called_by_any_other_name() -> None:
    evil = ("Host", "evil.example")
    assert refused(REMOTE, evil, ("Authorization", "Bearer secret")) == "host_not_allowed"


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", "Bearer secret"),
        ("Authorization", "bearer  secret"),
        ("X-Agent-Relay-Token", "secret"),
    ],
)
def test_the_token_is_taken_from_either_header(header: tuple[str, str]) -> None:
    assert ask(TOKEN, ("Host", "localhost"), header) == []


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", "Bearer secret2")],
        [("Authorization", "Bearer")],
        [("Authorization", "Basic secret")],
        [("Authorization", "secret")],
        [("X-Agent-Relay-Token", "")],
        [("X-Agent-Relay-Token", "wrong"), ("Authorization", "Bearer secret")],
        [("Authorization", "Bearer s\xe9cret")],
    ],
    ids=str,
)
def test_without_the_right_token_nobody_gets_in(headers: list[tuple[str, str]]) -> None:
    assert refused(TOKEN, ("Host", "localhost"), *headers) == "unauthorized"


def test_health_needs_no_token_and_still_the_right_name() -> None:
    assert ask(TOKEN, ("Host", "localhost"), path="/health") == []
    with pytest.raises(ApiError, match="not called by this name"):
        ask(TOKEN, ("Host", "evil.example"), path="/health")


@pytest.mark.parametrize("origin", ["http://localhost:4850", "https://LOCALHOST:4850"])
def test_a_page_of_the_relay_itself_may_use_it(origin: str) -> None:
    assert ask(LOCAL, ("Host", "localhost:4850"), ("Origin", origin)) == []


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://localhost",
        "http://localhost:4851",
        "file://localhost:4850",
        "http://localhost:4850.evil.example",
        "localhost:4850",
    ],
)
def test_a_page_of_any_other_origin_may_not(origin: str) -> None:
    headers = ("Host", "localhost:4850"), ("Origin", origin)
    assert refused(LOCAL, *headers) == "origin_not_allowed"


def test_an_allowed_origin_gets_the_headers_that_let_it_read() -> None:
    guard = Guard(Settings(cors_origins=frozenset({"https://app.example"})))
    headers = dict(ask(guard, ("Host", "localhost"), ("Origin", "https://app.example")))
    assert headers[b"access-control-allow-origin"] == b"https://app.example"
    assert headers[b"vary"] == b"origin"
    other = ("Host", "localhost"), ("Origin", "https://other.example")
    assert refused(guard, *other) == "origin_not_allowed"


def test_a_star_allows_every_origin_but_an_opaque_one() -> None:
    guard = Guard(Settings(cors_origins=frozenset({"*"})))
    assert ask(guard, ("Host", "localhost"), ("Origin", "https://any.example"))
    assert refused(guard, ("Host", "localhost"), ("Origin", "null")) == "origin_not_allowed"


def test_a_preflight_needs_no_token_and_an_allowed_origin() -> None:
    guard = Guard(Settings(token="secret", cors_origins=frozenset({"https://app.example"})))
    host, origin = ("Host", "localhost"), ("Origin", "https://app.example")
    headers = dict(ask(guard, host, origin, method="OPTIONS"))
    assert b"authorization" in headers[b"access-control-allow-headers"]
    with pytest.raises(ApiError, match="token"):
        ask(guard, host, method="OPTIONS")
    with pytest.raises(ApiError, match="token"):
        ask(guard, host, origin)
