"""Finding the pinned CLIs, the environment they run in, and what the installer says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relay_runtime.testing.clis import (
    PINS,
    Cli,
    CliName,
    Pin,
    cache_folder,
    find_cli,
    hermetic_env,
)

ROOT = Path(__file__).parents[2]
NAMES: list[CliName] = ["claude", "codex", "opencode"]


def installed(cache: Path, pin: Pin, size: int = 2_000_000, version: str | None = None) -> Path:
    """A folder as npm leaves it, with a program of `size` bytes."""
    modules = cache / pin.folder / "node_modules"
    package = modules / pin.package
    package.mkdir(parents=True)
    text = json.dumps({"version": version or pin.version})
    (package / "package.json").write_text(text, "utf-8")
    program = modules / pin.native[0].replace("-*/", "-linux-x64/").replace("*", "linux")
    program.parent.mkdir(parents=True, exist_ok=True)
    program.touch(mode=0o755)
    os.truncate(program, size)
    return program


def test_the_newest_installed_version_is_found_unless_one_is_named(tmp_path: Path) -> None:
    newest, older = [pin for pin in PINS if pin.cli == "claude"]
    old_program = installed(tmp_path, older)
    assert find_cli("claude", cache=tmp_path) == Cli("claude", older.version, old_program)
    assert find_cli("claude", newest.version, tmp_path) is None
    new_program = installed(tmp_path, newest)
    assert find_cli("claude", cache=tmp_path) == Cli("claude", newest.version, new_program)
    assert find_cli("claude", older.version, tmp_path) == Cli("claude", older.version, old_program)


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.folder)
def test_a_launcher_or_another_version_does_not_count(tmp_path: Path, pin: Pin) -> None:
    assert find_cli(pin.cli, pin.version, tmp_path / "none") is None
    installed(tmp_path / "launcher", pin, size=2_000)
    assert find_cli(pin.cli, pin.version, tmp_path / "launcher") is None
    installed(tmp_path / "other", pin, version="0.0.1")
    assert find_cli(pin.cli, pin.version, tmp_path / "other") is None


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    assert cache_folder({"RELAY_RUNTIME_CLI_CACHE": "/x"}) == Path("/x")
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/relay-runtime/clis")
    assert cache_folder({}) == Path.home() / ".cache/relay-runtime/clis"


@pytest.mark.parametrize("name", NAMES)
def test_the_environment_has_nothing_of_ours_and_names_no_other_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: CliName
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DEVELOPER", "x")
    monkeypatch.setenv("HOME", "/home/developer")
    home = tmp_path / 'a "home" \\'
    env = hermetic_env(Cli(name, "1.0", Path("/bin/true")), home, "http://127.0.0.1:9")
    assert "SECRET_OF_THE_DEVELOPER" not in env
    assert (home / "bin" / name).resolve() == Path("/bin/true").resolve()
    assert env["PATH"].startswith(f"{home}/bin:")
    assert "/home/developer" not in "\n".join(env.values())
    written = "".join(path.read_text() for path in home.rglob("*") if path.suffix == ".json")
    assert "http" not in (written + "".join(env.values())).replace("http://127.0.0.1:9", "")
    before = (home / "bin" / name).readlink()
    assert hermetic_env(Cli(name, "1.0", before), home, "http://127.0.0.1:9") == env


def test_the_installer_says_what_to_do_without_npm(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "install_clis.py"],
        env={"PATH": str(tmp_path), "RELAY_RUNTIME_CLI_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "npm and node are needed" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]
