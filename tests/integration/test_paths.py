"""The state folder: where it is, who may enter it, and sockets in folders that are too deep."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relay_runtime import paths

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_the_home_is_what_the_variable_says_and_private(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b"

    home = paths.home({"RELAY_RUNTIME_HOME": f"{wanted}/../b/"})

    assert home == wanted
    assert home.stat().st_mode & 0o777 == 0o700
    assert paths.home({"RELAY_RUNTIME_HOME": str(home)}) == home


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "{home}/.local/state/relay-runtime"),
        ({"RELAY_RUNTIME_HOME": ""}, "{home}/.local/state/relay-runtime"),
        ({"XDG_STATE_HOME": "/x/state"}, "/x/state/relay-runtime"),
        ({"XDG_STATE_HOME": "relative"}, "{home}/.local/state/relay-runtime"),
        ({"XDG_STATE_HOME": "/x", "RELAY_RUNTIME_HOME": "/y"}, "/y"),
    ],
)
def test_without_it_the_home_is_where_the_platform_keeps_state(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert str(paths.locate(environ)) == expected.format(home=Path.home())


def test_the_home_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    expected = Path.home() / "Library" / "Application Support" / "relay-runtime"
    assert paths.locate({}) == expected


def test_a_relative_home_is_refused() -> None:
    with pytest.raises(paths.StateHomeError, match="absolute"):
        paths.locate({"RELAY_RUNTIME_HOME": "state"})


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o750])
def test_a_home_with_content_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "something").touch()
    tmp_path.chmod(mode)

    with pytest.raises(paths.StateHomeError, match=f"chmod 700 {tmp_path}"):
        paths.home({"RELAY_RUNTIME_HOME": str(tmp_path)})


def test_an_empty_home_is_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    paths.home({"RELAY_RUNTIME_HOME": str(tmp_path)})

    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, -1)

    with pytest.raises(paths.StateHomeError, match="65534"):
        paths.home({"RELAY_RUNTIME_HOME": str(tmp_path)})


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(paths.StateHomeError, match="not a folder"):
        paths.home({"RELAY_RUNTIME_HOME": str(tmp_path / "file")})
    with pytest.raises(paths.StateHomeError, match="Not a directory"):
        paths.home({"RELAY_RUNTIME_HOME": str(tmp_path / "file" / "below")})


def test_the_address_of_a_short_path_is_the_path() -> None:
    assert paths.socket_address(Path("/run/x/control.sock")) == "/run/x/control.sock"
    longest = Path("/" + "x" * (paths.MAX_SOCKET_ADDRESS - 1))
    assert paths.socket_address(longest) == str(longest)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    return folder / "control.sock"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder as short as a real one; pytest's own are too deep for that."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def test_a_socket_in_a_deep_folder_is_bound_and_found_by_its_address(
    deep: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(paths.socket_address(deep))
        server.listen()
        assert paths.socket_address(deep).startswith(str(runtime))
        # Whoever comes by another link reaches the same socket.
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        client.connect(paths.socket_address(deep))
    assert deep.is_socket()


def test_a_link_that_was_swept_away_is_made_again(deep: Path) -> None:
    address = Path(paths.socket_address(deep))
    assert address.parent.resolve() == deep.parent
    address.parent.unlink()

    assert paths.socket_address(deep) == str(address)
    assert address.parent.resolve() == deep.parent


def test_links_to_folders_that_are_gone_are_removed(deep: Path) -> None:
    old = Path(paths.socket_address(deep)).parent
    deep.parent.rmdir()
    other = deep.parent.with_name("other" * 30)
    other.mkdir()

    paths.socket_address(other / "control.sock")

    assert not old.is_symlink()


@pytest.mark.parametrize("trap", ["open", "link", "elsewhere"])
def test_a_folder_for_links_that_is_not_ours_alone_is_not_used(
    deep: Path, runtime: Path, tmp_path: Path, trap: str
) -> None:
    folder = runtime / "relay-runtime"
    match trap:
        case "open":
            folder.mkdir()
            folder.chmod(0o777)
        case "link":
            folder.symlink_to(tmp_path)
        case "elsewhere":
            link = Path(paths.socket_address(deep)).parent
            link.unlink()
            link.symlink_to(tmp_path)

    assert paths.socket_address(deep).startswith("/tmp/relay-runtime-")


def test_a_path_that_no_link_shortens_is_refused() -> None:
    with pytest.raises(paths.StateHomeError, match="RELAY_RUNTIME_HOME"):
        paths.socket_address(Path("/" + "x" * 120))
