"""The command line against a real supervisor and real sessions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from relay_runtime.processes import alive, descendants_of

from .cli_program import PROGRAM, SOON, Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .cli_program import Json


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    yield program
    done = program.run("down", "--all", "--force")
    assert done.returncode == 0, done.stderr


def test_spawn_starts_the_supervisor_and_says_what_it_started(program: Program) -> None:
    session = program.spawn("backend")

    assert session["name"] == "backend"
    assert session["harness"] == "command"
    assert session["mode"] == "pty"
    assert session["state"] == "idle"
    assert isinstance(session["pid"], int)
    assert {"session_id", "agent_id", "usage", "queued", "waiting", "since"} <= set(session)
    assert [one["session_id"] for one in program.rows("ps")] == [session["session_id"]]
    assert (program.home / "supervisor.log").stat().st_mode & 0o777 == 0o600


def test_a_session_gets_the_environment_and_the_folder_of_its_caller(program: Program) -> None:
    script = program.folder / "show.py"
    script.write_text(
        "import os, json, sys\n"
        "names = ('MINE', 'GIVEN', 'PROFILE', 'AGENT_RELAY_AGENT_ID')\n"
        "print(json.dumps([os.getcwd(), sys.argv[1:], [os.environ.get(n) for n in names]]))\n"
        "input('ready> ')\n"
    )
    program.environ["MINE"] = "from the caller"
    profile = program.folder / "p.json"
    profile.write_text(json.dumps({"env": {"PROFILE": "p"}, "options": {"prompt": "ready> $"}}))

    done = program.run(
        *("spawn", "command", "--name", "s", "--profile", str(profile), "--env", "GIVEN=a=b"),
        *("--", sys.executable, str(script), "--name", "-x"),
    )
    assert done.returncode == 0, done.stderr
    line = program.run("logs", "s").stdout.splitlines()[0]
    cwd, argv, (mine, given, from_profile, agent) = json.loads(line)

    assert cwd == str(program.work)
    assert argv == ["--name", "-x"]
    assert (mine, given, from_profile) == ("from the caller", "a=b", "p")
    assert agent == program.rows("ps")[0]["agent_id"]


def test_a_message_is_delivered_and_its_receipts_are_shown(program: Program) -> None:
    agent = program.spawn("backend")["agent_id"]
    sent = program.json("send", "backend", "hello there", "--wait", "delivered")

    (delivery,) = sent["deliveries"]
    assert delivery["status"] == "delivered"
    assert delivery["agent_id"] == agent
    assert delivery["evidence"]["kind"]
    found = program.json("receipts", str(sent["message_id"]))
    receipts: list[Json] = found["receipts"]
    assert [one["status"] for one in receipts] == ["accepted", "delivered"]
    assert receipts[0]["at"] <= receipts[1]["at"]
    assert "hello there" in program.taken()[0]
    readable = program.run("receipts", str(sent["message_id"])).stdout
    assert "accepted" in readable and "delivered" in readable


def test_a_message_may_come_from_standard_input(program: Program) -> None:
    program.spawn("backend")
    text = "zwei Zeilen\nmit Umlauten: äöü"

    done = program.run("send", "backend", "-", "--wait", "delivered", stdin=text.encode())

    assert done.returncode == 0, done.stderr
    assert "mit Umlauten: äöü" in program.taken()[0]


@pytest.mark.parametrize(
    ("environ", "flags", "sender"),
    [
        ({"USER": "ada", "LOGNAME": "ada"}, [], f"ada@{os.uname().nodename}"),
        ({"AGENT_RELAY_AGENT_ID": "host-project-1234"}, [], "host-project-1234"),
        ({"AGENT_RELAY_AGENT_ID": "host-project-1234"}, ["--from", "boss"], "boss"),
    ],
)
def test_the_sender_is_given_or_the_session_or_the_person(
    program: Program, environ: dict[str, str], flags: list[str], sender: str
) -> None:
    program.spawn("backend")

    done = program.run("send", "backend", "hi", "--wait", "delivered", *flags, environ=environ)

    assert done.returncode == 0, done.stderr
    assert f"from {sender}]" in program.taken()[0]


def test_the_first_task_is_the_first_message(program: Program) -> None:
    program.spawn("backend", "--task", "begin here")
    program.json("send", "backend", "then this", "--wait", "delivered")

    assert "begin here" in program.taken()[0]
    assert "then this" in program.taken()[1]


def test_events_are_json_lines_with_cursors_to_go_on_from(program: Program) -> None:
    program.spawn("backend")
    program.json("send", "backend", "hello", "--wait", "delivered")

    lines = program.run("events", "backend", "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    cursors = [event["cursor"] for event in events]
    assert cursors == sorted(set(cursors))
    assert {"session.ready", "receipt"} <= {event["type"] for event in events}
    rest = program.run("events", "--json", "--since", str(cursors[2])).stdout.splitlines()
    assert [json.loads(line)["cursor"] for line in rest[: len(cursors) - 3]] == cursors[3:]
    readable = program.run("events", "backend").stdout
    assert "session.ready" in readable


def test_events_go_on_across_a_kill_of_the_supervisor(program: Program) -> None:
    program.spawn("backend")
    follower = program.start("events", "--follow", "--json")
    assert follower.stdout is not None
    first = json.loads(follower.stdout.readline())

    pid = program.json("status")["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    program.json("send", "backend", "after the crash", "--wait", "delivered")
    program.json("release", "backend")

    cursors = [first["cursor"]]
    while True:
        event = json.loads(follower.stdout.readline())
        cursors.append(event["cursor"])
        if event["type"] == "session.exited":
            break
    follower.send_signal(signal.SIGINT)
    assert follower.wait(SOON) == 130
    follower.stdout.close()
    assert follower.stderr is not None and follower.stderr.read() == b""
    follower.stderr.close()
    everything = program.run("events", "--json").stdout.splitlines()
    expected = [json.loads(line)["cursor"] for line in everything]
    assert cursors == expected[: len(cursors)]


def test_logs_are_the_bytes_of_the_session(program: Program) -> None:
    program.spawn("backend")
    program.json("send", "backend", "look at me", "--wait", "delivered")

    raw = program.run("logs", "backend").stdout
    assert "agent> " in raw and "look at me" in raw
    lines = program.run("logs", "backend", "--json").stdout.splitlines()
    assert "".join(json.loads(line)["text"] for line in lines) == raw
    assert program.run("logs", "backend", "--stderr").stdout == ""


def test_pause_holds_messages_until_resume(program: Program) -> None:
    program.spawn("backend")
    assert program.json("pause", "backend")["state"] == "held"

    sent = program.json("send", "backend", "later", "--wait", "delivered", "--timeout", "1", code=5)
    (delivery,) = sent["deliveries"]
    assert delivery["status"] in ("accepted", "deferred")
    assert program.run("interrupt", "backend").returncode == 0
    program.json("resume", "backend")
    again = program.json("send", "backend", "now", "--wait", "delivered")

    assert again["message_id"] != sent["message_id"]
    first = program.taken()[0]
    assert "later" in first


def test_a_message_that_fails_ends_send_with_1_and_the_reason(program: Program) -> None:
    program.spawn("backend")
    program.json("pause", "backend")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(program.run, "send", "backend", "x", "--wait", "delivered", "--json")
        program.until("receipt", status="accepted")
        program.json("release", "backend", "--reason", "the work is done")
        done = waiting.result()

    assert done.returncode == 1
    (delivery,) = json.loads(done.stdout)["deliveries"]
    assert delivery["status"] == "failed"
    assert delivery["reason"] == "the work is done"
    assert "the work is done" in done.stderr


def test_release_leaves_no_process_behind(program: Program) -> None:
    session = program.spawn("backend")
    holder = session["holder_pid"]
    assert isinstance(holder, int)
    family = descendants_of(holder)
    assert family

    assert program.json("release", "backend")["state"] == "exited"

    assert alive(family) == []
    assert program.rows("ps") == []
    (over,) = program.rows("ps", "--all")
    assert over["state"] == "exited"
    assert program.run("release", "backend").returncode == 3


def test_a_name_that_is_taken_is_a_conflict(program: Program) -> None:
    program.spawn("backend")

    done = program.run("spawn", "--profile", program.agent(), "--name", "backend")

    assert done.returncode == 6
    assert "backend" in done.stderr


def test_a_program_that_ends_at_once_fails_the_spawn_with_its_own_words(program: Program) -> None:
    done = program.run("spawn", "command", "--", "/bin/sh", "-c", "echo no licence found; exit 3")

    assert done.returncode == 1, done.stderr
    assert "no licence found" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_program_that_is_not_there_fails_the_spawn(program: Program) -> None:
    done = program.run("spawn", "command", "--", "/nonexistent/program")

    assert done.returncode == 1, done.stderr
    assert "/nonexistent/program" in done.stderr


def test_many_spawns_at_once_share_one_supervisor(program: Program) -> None:
    names = [f"s{number}" for number in range(6)]
    path = program.agent()

    with ThreadPoolExecutor(len(names)) as pool:
        done = list(
            pool.map(lambda name: program.run("spawn", "--profile", path, "--name", name), names)
        )

    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * len(names)
    assert sorted(str(one["name"]) for one in program.rows("ps")) == names


def test_losing_the_race_for_the_supervisor_is_silent(program: Program) -> None:
    """Started by hand at the same moment, so that the lock of the command line does not help."""
    environ = program.environ
    program.home.mkdir(mode=0o700)
    command = [sys.executable, "-P", "-m", "relay_runtime.supervisor"]
    with open(program.home / "supervisor.log", "ab") as log:
        rivals = [
            subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
            for _ in range(2)
        ]
    done = program.run("up", "--json")
    assert done.returncode == 0 and done.stderr == "", done
    serving = json.loads(done.stdout)["pid"]

    losers = [one for one in rivals if one.pid != serving]
    assert [one.wait(SOON) for one in losers] == [0] * len(losers)
    program.run("down")
    for one in rivals:
        one.wait(SOON)


def test_down_leaves_sessions_and_up_adopts_them(program: Program) -> None:
    session = program.spawn("backend")
    before = program.json("status")["pid"]

    assert program.json("down") == {"stopped": True, "pid": before}
    assert program.run("status").returncode == 4
    assert not (program.home / "control.sock").exists()
    up = program.json("up")
    assert up["started"] is True and up["pid"] != before
    (found,) = program.rows("ps")
    assert (found["session_id"], found["pid"]) == (session["session_id"], session["pid"])
    assert program.json("up")["started"] is False


def test_down_all_ends_sessions_whose_supervisor_was_killed(program: Program) -> None:
    session = program.spawn("backend")
    holder, pid = session["holder_pid"], program.json("status")["pid"]
    assert isinstance(holder, int) and isinstance(pid, int)
    family = descendants_of(holder)
    os.kill(pid, signal.SIGKILL)

    assert program.json("down", "--all")["stopped"] is True

    assert alive(family) == []
    assert program.json("down", "--all")["stopped"] is False


def test_a_session_does_not_start_the_supervisor_that_would_end_with_it(program: Program) -> None:
    session = str(program.spawn("backend")["session_id"])
    program.run("down")

    for command in (["up"], ["send", "backend", "hello"]):
        done = program.run(*command, environ={"RELAY_RUNTIME_SESSION": session})
        assert (done.returncode, done.stdout) == (4, "")
        assert "run `relay-runtime up` outside" in done.stderr
    # A private one inside the session of another may end with it.
    assert program.run("up", environ={"RELAY_RUNTIME_SESSION": "of-another"}).returncode == 0


def test_without_a_supervisor_commands_that_look_say_so(program: Program) -> None:
    assert program.rows("ps") == []
    assert "no supervisor runs" in program.run("ps").stderr
    assert program.json("status", code=4) == {"running": False, "home": str(program.home)}
    assert program.json("down")["stopped"] is False
    for command in (["events"], ["logs", "x"], ["receipts", "1"], ["pause", "x"], ["release", "x"]):
        done = program.run(*command)
        assert (done.returncode, done.stdout) == (4, "")
        assert "relay-runtime up" in done.stderr
    assert not program.home.exists()


def test_a_supervisor_that_cannot_start_gives_its_reason(program: Program) -> None:
    program.environ["AGENT_RELAY_PORT"] = "99999"

    done = program.run("up")

    assert done.returncode == 4
    assert "the supervisor cannot start" in done.stderr and "PORT" in done.stderr


def test_it_all_works_in_a_folder_too_deep_for_a_socket(program: Program) -> None:
    program.home = program.folder / ("deep" * 30) / "state"
    program.environ["RELAY_RUNTIME_HOME"] = str(program.home)

    program.spawn("backend")

    assert program.json("send", "backend", "hello", "--wait", "delivered")


def test_the_supervisor_survives_the_terminal_it_was_started_from(program: Program) -> None:
    shell = program.terminal("up", "--json")
    shell.expect('"pid": ([0-9]+)')
    assert isinstance(shell.match, re.Match)
    pid = int(shell.match[1])
    shell.close()

    assert program.json("status")["pid"] == pid
    assert os.getsid(pid) == pid


def test_the_console_script_is_the_installed_one() -> None:
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "relay-runtime 0.1.0\n"
