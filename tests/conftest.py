"""What every test shares: one event loop, and none of the developer's own settings."""

from __future__ import annotations

import os
import signal

import pytest

#: Of ours and of the agents we drive, whose real accounts must be out of reach.
_SETTINGS = ("AGENT_RELAY_", "ANTHROPIC_", "CLAUDE", "CODEX_", "OPENAI_", "OPENCODE_", "RELAY_")


def pytest_configure() -> None:
    """Programs that tests start must take Ctrl-C, also when a job in the background runs the tests."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests must not depend on, nor write to, a runtime that is installed here."""
    for name in os.environ:
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
