"""Profiles in real files: which one counts, and edits that are noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import relay_profiles
from relay_profiles.errors import BrokenFile, ProfileError, UnknownProfile, WrongValue
from relay_profiles.lookup import Origin, check, find, listing
from relay_profiles.resolve import Flags, resolve
from relay_profiles.schema import schema
from relay_profiles.watch import ProfileCatalog

PACKAGE = Path(relay_profiles.__file__).parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with a folder `src` to start sessions in."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    (folder / "src").mkdir()
    return folder


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home)}


def write(path: Path, profiles: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(profiles if isinstance(profiles, str) else json.dumps(profiles, indent=1))
    return path


def test_the_project_is_before_the_user_and_the_user_before_the_bundled_ones(
    project: Path, home: Path, environ: dict[str, str]
) -> None:
    cwd = project / "src"
    assert find("reviewer", cwd, environ).origin is Origin.BUNDLED

    write(home / ".config/agent-relay/profiles.json", {"reviewer": {"label": "of the user"}})
    assert find("reviewer", cwd, environ).profile.label == "of the user"

    write(project / ".relay/profiles.json", {"reviewer": {"label": "of the project"}})
    of_project = find("reviewer", cwd, environ)
    assert of_project.profile.label == "of the project"
    assert of_project.base == project


def test_the_users_file_can_be_elsewhere(project: Path, tmp_path: Path, home: Path) -> None:
    named = write(tmp_path / "mine.json", {"a": {"label": "named"}})
    write(home / ".config/agent-relay/profiles.json", {"a": {"label": "default place"}})
    xdg = write(tmp_path / "xdg/agent-relay/profiles.json", {"a": {"label": "xdg"}})
    environ = {"HOME": str(home)}
    assert find("a", project, environ).profile.label == "default place"
    environ["XDG_CONFIG_HOME"] = str(xdg.parents[1])
    assert find("a", project, environ).profile.label == "xdg"
    environ["AGENT_RELAY_PROFILES_FILE"] = str(named)
    assert find("a", project, environ).profile.label == "named"


def test_a_project_file_outside_of_the_repository_does_not_count(
    project: Path, environ: dict[str, str]
) -> None:
    write(project.parent / ".relay/profiles.json", {"outer": {}})
    with pytest.raises(UnknownProfile):
        find("outer", project / "src", environ)


def test_the_nearest_project_file_counts(project: Path, environ: dict[str, str]) -> None:
    write(project / ".relay/profiles.json", {"a": {"label": "root"}})
    write(project / "src/.relay/profiles.json", {"a": {"label": "src"}})
    assert find("a", project / "src", environ).profile.label == "src"


def test_an_unknown_name_gets_the_likely_one(project: Path, environ: dict[str, str]) -> None:
    with pytest.raises(UnknownProfile, match=r"^no profile named 'reviwer' \(did you mean 'revie"):
        find("reviwer", project, environ)


def test_a_wrong_profile_does_not_fall_through_to_one_of_the_same_name(
    project: Path, environ: dict[str, str]
) -> None:
    write(project / ".relay/profiles.json", {"reviewer": {"aproval": "read-only"}, "ok": {}})
    with pytest.raises(WrongValue, match="did you mean 'approval'"):
        find("reviewer", project, environ)
    assert find("ok", project, environ).name == "ok"


def test_a_broken_project_file_is_an_error_for_every_name(
    project: Path, environ: dict[str, str]
) -> None:
    write(project / ".relay/profiles.json", "{")
    with pytest.raises(BrokenFile, match=r"profiles.json:1:2: not JSON"):
        find("reviewer", project, environ)


def test_a_path_is_a_file_with_one_profile(project: Path, environ: dict[str, str]) -> None:
    write(project / "agents/x.json", {"$schema": "s", "label": "x", "cwd": "here"})
    profile = find("agents/x.json", project, environ)
    assert (profile.name, profile.origin) == ("x", Origin.PATH)
    assert resolve(Flags(profile="agents/x.json"), environ, project).cwd == str(
        project / "agents/here"
    )
    with pytest.raises(UnknownProfile, match="no such profile file"):
        find("agents/y.json", project, environ)


def test_a_path_to_named_profiles_says_how_they_are_used(
    project: Path, environ: dict[str, str]
) -> None:
    write(project / "all.json", {"a": {"label": "x"}, "b": {}})
    with pytest.raises(WrongValue, match=r"give one of these names as the profile \(a, b\) and"):
        find("./all.json", project, environ)


def test_folders_devices_and_unreadable_bytes_are_told_in_one_line(
    project: Path, environ: dict[str, str]
) -> None:
    (project / "folder.json").mkdir()
    (project / "bytes.json").write_bytes(b'{"label": "\xff"}')
    (project / "big.json").write_bytes(b" " * 1_000_001)
    for name, told in [
        ("folder.json", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("bytes.json", r"not UTF-8 text \(byte 11\)"),
        ("big.json", "1000001 bytes, more than"),
    ]:
        with pytest.raises(BrokenFile, match=told):
            find(name, project, environ)


def test_the_environment_can_name_the_profile_and_the_flag_wins(
    project: Path, environ: dict[str, str]
) -> None:
    environ["AGENT_RELAY_PROFILE"] = "reviewer"
    assert resolve(Flags(), environ, project).profile == "reviewer"
    assert resolve(Flags(profile="implementer"), environ, project).profile == "implementer"


def test_the_listing_has_each_name_once_and_tells_what_is_wrong(
    project: Path, home: Path, environ: dict[str, str]
) -> None:
    write(home / ".config/agent-relay/profiles.json", {"planner": {"label": "u"}, "bad": {"x": 1}})
    write(project / ".relay/profiles.json", "[]")
    found = listing(project, environ)
    origins = {each.name: each.origin for each in found.profiles}
    assert origins["planner"] is Origin.USER
    assert origins["reviewer"] is Origin.BUNDLED
    assert "bad" not in origins
    assert [type(problem) for problem in found.problems] == [BrokenFile, WrongValue]


def test_a_file_is_checked_whole(project: Path) -> None:
    many = write(project / "many.json", {"a": {"x": 1}, "b": {}, "c": 5})
    assert [problem.key for problem in check(many)] == ["a.x", "c"]
    assert check(write(project / "one.json", {"label": "a"})) == []
    assert [str(p) for p in check(project / "none.json")] == [f"{project}/none.json: no such file"]


def test_every_bundled_profile_is_valid_and_described() -> None:
    bundled = sorted((PACKAGE / "bundled").glob("*.json"))
    assert len(bundled) >= 3
    for path in bundled:
        assert check(path) == []
        assert find(str(path), Path("/"), {}).profile.description


def test_the_stored_schema_is_the_generated_one() -> None:
    stored = json.loads((PACKAGE / "profiles.schema.json").read_text(encoding="utf-8"))
    assert stored == schema()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, relay_profiles, relay_profiles.errors\n"
        "sys.exit(any(m in sys.modules for m in ('pydantic', 'anyio', 'watchfiles')))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_finding_a_profile_does_not_load_the_watcher() -> None:
    code = (
        "import sys, relay_profiles.resolve\n"
        "sys.exit(any(m in sys.modules for m in ('anyio', 'watchfiles')))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_an_edit_counts_from_the_next_look_up(project: Path, environ: dict[str, str]) -> None:
    path = write(project / ".relay/profiles.json", {"a": {"label": "before"}})
    assert resolve(Flags(profile="a"), environ, project).label == "before"
    write(path, {"a": {"label": "after"}})
    assert resolve(Flags(profile="a"), environ, project).label == "after"


@pytest.mark.anyio
async def test_edits_are_noticed_and_a_broken_one_is_told_once(
    project: Path, home: Path, environ: dict[str, str]
) -> None:
    catalog = ProfileCatalog(project / "src", environ)
    send, receive = anyio.create_memory_object_stream[list[ProfileError]](10)
    with anyio.fail_after(20):
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(catalog.run, send.send)

            # The folder .relay does not exist yet: its creation must be seen too.
            path = write(project / ".relay/profiles.json", {"a": {}})
            assert await receive.receive() == []
            assert "a" in {each.name for each in catalog.listing.profiles}

            write(path, {"a": {"labl": "x"}, "b": {}})
            (problem,) = await receive.receive()
            assert "did you mean 'label'" in str(problem)
            assert "b" in {each.name for each in catalog.listing.profiles}

            # A name that the watcher cannot tell of, made by any other program.
            write(project / ".relay" / os.fsdecode(b"\xff"), {})
            replacement = write(project / ".relay/new", {"a": {}})
            replacement.rename(path)  # how most editors save
            assert await receive.receive() == []
            assert catalog.listing.problems == ()

            write(home / ".config/agent-relay/profiles.json", "{")
            (problem,) = await receive.receive()
            assert "not JSON" in str(problem)
            tasks.cancel_scope.cancel()
