"""The public surface: what is promised exists, and what is light stays light."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import relay_client
from relay_client.version import VERSION

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "module",
    [
        "relay_client",
        "relay_client.client",
        "relay_client.errors",
        "relay_client.events",
        "relay_client.sse",
        "relay_client.types",
        "relay_server.database",
        "relay_server.errors",
        "relay_server.openapi",
        "relay_server.server",
        "relay_server.settings",
        "relay_server.store",
        "relay_server.targets",
        "relay_server.writer",
    ],
)
def test_every_promised_name_exists(module: str) -> None:
    loaded = import_module(module)
    assert len(set(loaded.__all__)) == len(loaded.__all__)
    for name in loaded.__all__:
        assert hasattr(loaded, name), name


def test_every_model_of_the_wire_is_exported() -> None:
    types = import_module("relay_client.types")
    public = {
        name
        for name, value in vars(types).items()
        if isinstance(value, type) and value.__module__ == types.__name__
    }
    assert public <= set(types.__all__)


def test_a_name_that_is_not_there_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        relay_client.nothing  # noqa: B018


def test_types_are_imported_without_an_http_library() -> None:
    program = "import sys, relay_client.types, relay_client.errors; print('httpx' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout == b"False\n"


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == VERSION == relay_client.__version__
