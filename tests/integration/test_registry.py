"""Finding drivers by entry point: real installed packages, good ones and broken ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from relay_runtime import registry
from relay_runtime.contract import Harness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Install a package with one driver module and one entry point, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(package: str, entry_point: str, code: str) -> None:
        monkeypatch.delitem(sys.modules, package, raising=False)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[relay_runtime.drivers]\n{entry_point}\n")
        (tmp_path / f"{package}.py").write_text(code)

    return install


def test_the_bundled_drivers_come_in_by_the_same_door() -> None:
    assert registry.names() == sorted(registry.names())
    assert {"claude", "codex", "opencode", "command"} <= set(registry.names())
    assert isinstance(registry.load("command"), Harness)
    assert registry.load("command") is registry.load("command")


def test_a_driver_of_another_package_is_found_and_loaded(
    install: Callable[[str, str, str], None],
) -> None:
    install("outside", "outside = outside:harness", "from relay_drivers.command import harness\n")

    assert "outside" in registry.names()
    assert isinstance(registry.load("outside"), Harness)


def test_an_unknown_harness_is_told_with_what_it_may_be() -> None:
    with pytest.raises(registry.UnknownHarness, match="did you mean claude") as caught:
        registry.load("cluade")
    assert caught.value.candidates == ["claude"]
    with pytest.raises(registry.UnknownHarness, match="there is .*codex"):
        registry.load("zzz")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("raise RuntimeError('first line\\nsecond line')\n", "RuntimeError: first line$"),
        ("harness = = 1\n", "SyntaxError"),
        ("other = 1\n", "has no attribute 'harness'"),
        ("class harness: pass\n", "not a Harness"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_broken_driver_is_told_with_its_package_and_breaks_no_other(
    install: Callable[[str, str, str], None], code: str, why: str
) -> None:
    install("rotten", "rotten = rotten:harness", code)

    assert {"rotten", "command"} <= set(registry.names())
    with pytest.raises(registry.BrokenDriver, match=why) as caught:
        registry.load("rotten")
    assert caught.value.package == "rotten"
    assert "package rotten" in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(registry.load("command"), Harness)


def test_a_name_that_two_packages_offer_is_refused_whichever_is_first(
    install: Callable[[str, str, str], None],
) -> None:
    install("usurper", "command = usurper:harness", "raise AssertionError('must not be loaded')\n")

    assert registry.names().count("command") == 1
    with pytest.raises(registry.DuplicateHarness, match="relay-runtime and usurper: uninstall"):
        registry.load("command")
