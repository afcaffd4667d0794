"""What `doctor` finds on a machine, sound or not."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest

from .cli_program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .cli_program import Json


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    yield program
    program.run("down")


def finding(report: Json, subject: str) -> Json:
    (found,) = [one for one in report["findings"] if one["subject"] == subject]
    return dict(found)


def test_it_needs_no_supervisor_and_touches_nothing(program: Program) -> None:
    report = program.json("doctor")

    assert report["broken"] == 0
    assert finding(report, "supervisor" if program.home.exists() else "state folder")
    assert {one["name"] for one in report["harnesses"]} >= {"claude", "codex", "opencode"}
    assert not program.home.exists()


def test_an_agent_that_is_not_installed_is_told_what_to_do_and_breaks_nothing(
    program: Program,
) -> None:
    program.environ["PATH"] = str(program.work)  # an empty folder

    done = program.run("doctor")

    assert done.returncode == 0, done.stdout
    report = program.json("doctor")
    missing = [one for one in report["harnesses"] if one["path"] is None]
    assert {one["name"] for one in missing} >= {"claude", "codex", "opencode"}
    assert all(one["advice"] for one in missing)
    assert all(str(one["advice"]) in " ".join(done.stdout.split()) for one in missing)


def test_a_running_supervisor_is_told_with_its_relay(program: Program) -> None:
    up = program.json("up")

    report = program.json("doctor")

    assert str(up["pid"]) in finding(report, "supervisor")["detail"]
    assert str(up["relay_url"]) in finding(report, "relay")["detail"]
    assert finding(report, "socket")["verdict"] == "ok"


def test_a_port_that_is_taken_is_told_with_who_has_it(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program.environ["AGENT_RELAY_PORT"] = str(port)
        done = program.run("doctor", "--json")

    assert done.returncode == 1
    assert "1 to mend" in done.stderr
    found = finding(json.loads(done.stdout), "relay")
    assert found["verdict"] == "broken"
    assert f"pid {os.getpid()}" in found["detail"]
    assert "AGENT_RELAY_PORT" in found["advice"]


def test_a_state_folder_that_others_can_enter_is_told_and_not_touched(program: Program) -> None:
    program.home.mkdir()
    (program.home / "something").touch()
    program.home.chmod(0o755)

    found = finding(program.json("doctor", code=1), "state folder")

    assert (found["verdict"], found["advice"]) == ("broken", f"chmod 700 {program.home}")
    assert program.home.stat().st_mode & 0o777 == 0o755


def test_a_supervisor_that_runs_but_does_not_listen_is_told(program: Program) -> None:
    pid = program.json("up")["pid"]
    (program.home / "control.sock").rename(program.home / "away.sock")

    found = finding(program.json("doctor", code=1), "supervisor")

    assert found["verdict"] == "broken" and str(pid) in found["detail"]
    (program.home / "away.sock").rename(program.home / "control.sock")


def test_a_profile_file_with_a_mistake_is_told_with_its_place(program: Program) -> None:
    mine = program.folder / "mine.json"
    mine.write_text('{"a": {"labl": "x"}}')
    program.environ["AGENT_RELAY_PROFILES_FILE"] = str(mine)

    found = finding(program.json("doctor", code=1), "profiles")

    assert found["verdict"] == "broken"
    assert "mine.json:1" in found["detail"] and "label" in found["detail"]


def test_a_deep_state_folder_is_told_with_the_way_to_its_socket(program: Program) -> None:
    program.home = program.folder / ("deep" * 30)
    program.home.mkdir(mode=0o700)
    program.environ["RELAY_RUNTIME_HOME"] = str(program.home)

    found = finding(program.json("doctor"), "socket")

    assert found["verdict"] == "note" and "/relay-runtime-" in found["detail"]
