"""What a user installs: our five packages whole, nothing beside them, and public names that exist."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("relay_client", "relay_drivers", "relay_profiles", "relay_runtime", "relay_server")
SOURCES = {
    "relay_client": ROOT / "relay_client",
    "relay_drivers": ROOT / "drivers",
    "relay_profiles": ROOT / "profiles",
    "relay_runtime": ROOT / "runtime",
    "relay_server": ROOT / "relay",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """Names of the files in a wheel built from this tree, without the network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-index", "--quiet", "--wheel-dir", str(out)]
    built = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return frozenset(archive.namelist())


def test_the_wheel_holds_our_five_packages_and_nothing_beside_them(wheel: frozenset[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_every_file_of_them(wheel: frozenset[str]) -> None:
    missing = [
        name
        for package, source in SOURCES.items()
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
        if (name := path.relative_to(source).as_posix()) not in wheel
    ]
    assert missing == []
    assert all(f"{package}/py.typed" in wheel for package in PACKAGES)
    assert any(name.startswith("relay_profiles/") and name.endswith(".json") for name in wheel)
    assert any(name.startswith("relay_server/") and name.endswith(".sql") for name in wheel)
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def modules() -> list[str]:
    paths = [path for source in SOURCES.values() for path in source.glob("relay_*/**/*.py")]
    roots = {
        path: next(root for root in SOURCES.values() if root in path.parents) for path in paths
    }
    dotted = [".".join(path.relative_to(roots[path]).with_suffix("").parts) for path in paths]
    return sorted(name.removesuffix(".__init__") for name in dotted if "__main__" not in name)


@pytest.mark.parametrize("name", modules())
def test_every_module_imports_and_has_the_names_it_says_it_has(name: str) -> None:
    module = importlib.import_module(name)
    said = getattr(module, "__all__", [])
    assert [public for public in said if not hasattr(module, public)] == []
    assert len(said) == len(set(said))


def test_entry_points_lead_to_something() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    points = {**project["scripts"], **project["entry-points"]["relay_runtime.drivers"]}
    for target in points.values():
        module, _, attribute = target.partition(":")
        assert hasattr(importlib.import_module(module), attribute), target
