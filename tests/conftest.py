"""What every test shares: one event loop, and none of the developer's own settings."""

from __future__ import annotations

import os

import pytest

#: Of ours and of the agents we drive, whose real accounts must be out of reach.
_SETTINGS = ("AGENT_RELAY_", "ANTHROPIC_", "CLAUDE", "CODEX_", "OPENAI_", "OPENCODE_", "RELAY_")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests must not depend on, nor write to, a runtime that is installed here."""
    for name in os.environ:
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
