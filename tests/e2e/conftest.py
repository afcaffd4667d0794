"""The real agent CLIs, each against the scripted model server and in a home of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from relay_runtime.testing.clis import PINS, Cli, CliName, Pin, cache_folder, find_cli, pins_of
from relay_runtime.testing.model_server import ModelServer, run_model_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Read now: the tests themselves run without the developer's settings.
_CACHE = cache_folder()
_IN_CI = os.environ.get("CI") == "true"


@pytest.fixture
async def model_server(anyio_backend: str) -> AsyncIterator[ModelServer]:
    async with run_model_server() as server:
        yield server


# `any_cli` is for promises that every version must keep, `newest_cli` for those in which a
# CLI's older version has nothing of its own to show. `claude-tui` is claude in its terminal
# interface; what the older one of that has of its own is in `test_claude_tui`.


@pytest.fixture(params=[*PINS, None], ids=lambda pin: pin.folder if pin else "claude-tui")
def any_cli(request: pytest.FixtureRequest) -> Cli:
    pin: Pin | None = request.param
    return _terminal() if pin is None else _installed(pin.cli, pin.version)


@pytest.fixture(params=["claude", "claude-tui", "codex", "opencode"])
def newest_cli(request: pytest.FixtureRequest) -> Cli:
    return _terminal() if request.param == "claude-tui" else _installed(request.param)


@pytest.fixture(params=["claude", "codex", "opencode"])
def headless_cli(request: pytest.FixtureRequest) -> Cli:
    return _installed(request.param)


@pytest.fixture(params=[pin.version for pin in pins_of("claude")])
def tui_cli(request: pytest.FixtureRequest) -> Cli:
    return _terminal(request.param)


@pytest.fixture
def newest_tui() -> Cli:
    return _terminal()


def _terminal(version: str | None = None) -> Cli:
    return replace(_installed("claude", version), mode="pty")


@pytest.fixture
def newest_clis() -> list[Cli]:
    return [_installed(name) for name in ("claude", "codex", "opencode")]


@pytest.fixture(params=[pin.version for pin in pins_of("claude")])
def claude_cli(request: pytest.FixtureRequest) -> Cli:
    return _installed("claude", request.param)


@pytest.fixture
def codex_cli() -> Cli:
    return _installed("codex")


@pytest.fixture
def opencode_cli() -> Cli:
    return _installed("opencode")


def _installed(name: CliName, version: str | None = None) -> Cli:
    cli = find_cli(name, version, _CACHE)
    if cli is not None:
        return cli
    wanted = version or pins_of(name)[0].version
    missing = f"{name} {wanted} is not in {_CACHE}; 'make clis' gets it"
    if _IN_CI:
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)
