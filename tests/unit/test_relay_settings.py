"""Settings from the environment, and the refusal to be open to others by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_server.settings import Settings, SettingsError, is_loopback


def test_without_any_variable_the_relay_is_local() -> None:
    settings = Settings.from_environ({})
    assert (settings.host, settings.port, settings.token) == ("127.0.0.1", 4850, None)
    assert settings.stale_ttl_s == 120.0
    assert settings.db_path == Path("agent-relay.db")


def test_every_variable_is_read() -> None:
    settings = Settings.from_environ(
        {
            "HOST": "0.0.0.0",
            "PORT": "0",
            "DB_PATH": "/tmp/x.db",
            "STALE_TTL_MS": "5000",
            "AGENT_RELAY_TOKEN": " secret ",
            "AGENT_RELAY_CORS_ORIGINS": "https://A.example/, http://b.example",
            "AGENT_RELAY_ALLOWED_HOSTS": "relay.lan",
            "AGENT_RELAY_ALLOW_UNAUTH": "1",
        },
        db_path=Path("unused"),
    )
    assert settings == Settings(
        db_path=Path("/tmp/x.db"),
        host="0.0.0.0",
        port=0,
        token="secret",
        stale_ttl_s=5.0,
        cors_origins=frozenset({"https://a.example", "http://b.example"}),
        allowed_hosts=frozenset({"relay.lan"}),
        allow_unauth=True,
    )


def test_an_empty_variable_counts_as_unset() -> None:
    settings = Settings.from_environ({"PORT": " ", "AGENT_RELAY_TOKEN": "", "HOST": ""})
    assert (settings.port, settings.token, settings.host) == (4850, None, "127.0.0.1")


@pytest.mark.parametrize("port", ["abc", "-1", "65536", "4850.0", "１２", "9" * 40])
def test_a_port_that_is_none_is_named_in_the_error(port: str) -> None:
    with pytest.raises(SettingsError, match="PORT must be a number from 0 to 65535"):
        Settings.from_environ({"PORT": port})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "[::]"])
def test_other_machines_are_let_in_only_with_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="AGENT_RELAY_TOKEN"):
        Settings.from_environ({"HOST": host})
    Settings.from_environ({"HOST": host, "AGENT_RELAY_TOKEN": "t"})
    Settings.from_environ({"HOST": host, "AGENT_RELAY_ALLOW_UNAUTH": "1"})
    with pytest.raises(SettingsError):
        Settings.from_environ({"HOST": host, "AGENT_RELAY_ALLOW_UNAUTH": "yes"})


@pytest.mark.parametrize("token", ["two words", "tab\there", "ümlaut", "nul\0"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(SettingsError, match="AGENT_RELAY_TOKEN"):
        Settings.from_environ({"AGENT_RELAY_TOKEN": token})


def test_the_token_is_not_shown() -> None:
    assert "hunter2" not in repr(Settings(token="hunter2"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "app.localhost"])
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example"])
def test_what_is_not_loopback_is_not_taken_for_it(host: str) -> None:
    assert not is_loopback(host)
