"""Wrong invocations: each gets one line that says what to do, its exit code, and no traceback."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relay_runtime.cli.app import COMMANDS

from .cli_program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """With one running session, `backend`, and files to go wrong with."""
    program = Program(tmp_path_factory.mktemp("cli"))
    profiles = {
        "broken.json": "{",
        "list.json": "[]",
        "typo.json": '{"lable": "x"}',
        "kind.json": '{"tags": "x"}',
        "claude.json": '{"harness": "claude", "model": "m"}',
        "options.json": '{"harness": "command", "argv": ["cat"], "options": {"promt": "x"}}',
        "nowhere.json": '{"harness": "command", "argv": ["cat"], "cwd": "nowhere"}',
    }
    for name, text in profiles.items():
        (program.work / name).write_text(text)
    program.spawn("backend")
    yield program
    assert program.run("down", "--all", "--force").returncode == 0


def one_line(done: CompletedProcess[str], code: int, words: str) -> None:
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n"), done.stderr
    assert done.stderr.startswith("relay-runtime: ")
    assert words in done.stderr


WRONG: list[tuple[str, int, str]] = [
    # The command line itself.
    ("spwan", 2, "Did you mean 'spawn'"),
    ("--jsno", 2, "No such option"),
    ("ps --al", 2, "--all"),
    ("ps extra", 2, "extra"),
    ("profiles", 2, "relay-runtime profiles --help"),
    ("profiles lst", 2, "list"),
    ("send backend", 2, "relay-runtime send --help"),
    ("send", 2, "relay-runtime send --help"),
    ("interrupt", 2, "NAME"),
    ("release", 2, "NAME"),
    ("release --force", 2, "NAME"),
    ("receipts", 2, "relay-runtime receipts --help"),
    ("approve", 2, "relay-runtime approve --help"),
    ("deny backend r1 r2", 2, "r2"),
    ("attach", 2, "relay-runtime attach --help"),
    ("attach backend --size huge", 2, "latest"),
    ("snapshot", 2, "relay-runtime snapshot --help"),
    ("up now", 2, "now"),
    ("down --al", 2, "--all"),
    # Values.
    ("receipts seven", 2, "valid integer"),
    ("receipts -1", 2, "-1"),
    ("receipts 1e3", 2, "valid integer"),
    ("receipts 99999999999999999999999", 2, ""),
    ("events --since yesterday", 2, "--since"),
    ("events --since -5", 2, "--since"),
    ("events --since 99999999999999999999", 2, "since"),
    ("send backend x --wait", 2, "--wait"),
    ("send backend x --wait forever", 2, "accepted"),
    ("send backend x --timeout soon", 2, "--timeout"),
    ("send backend x --timeout -1", 2, "--timeout"),
    ("send backend x --timeout nan --wait accepted", 2, "--timeout"),
    ("send backend x --ttl 0", 2, "ttl"),
    ("send backend x --ttl inf", 2, "ttl"),
    ("send backend x --thread one", 2, "--thread"),
    ("send backend x --steer --interrupt", 2, "--steer or --interrupt"),
    ("spawn command --timeout 9999 -- cat", 2, "--timeout"),
    ("spawn command --timeout nan -- cat", 2, "--timeout"),
    ("spawn command --mode window -- cat", 2, "headless"),
    ("spawn command --mode headless -- cat", 2, "headless"),
    ("spawn command --approval yolo -- cat", 2, "guarded"),
    ("spawn command --env NAME -- cat", 2, "NAME=VALUE"),
    ("spawn command --env =x -- cat", 2, "NAME=VALUE"),
    ("spawn command --cwd /nonexistent/folder -- cat", 2, "/nonexistent/folder"),
    ("spawn command --cwd typo.json -- cat", 2, "typo.json"),
    ("spawn command --name a/b -- cat", 2, "a/b"),
    ("spawn command --name .. -- cat", 2, ".."),
    ("relay --port 70000", 2, "--port"),
    ("relay --port http", 2, "--port"),
    ("relay --host 0.0.0.0", 2, "AGENT_RELAY_TOKEN"),
    # Harnesses and profiles.
    ("spawn", 2, "relay-runtime harnesses"),
    ("spawn command", 2, "-- PROGRAM"),
    ("spawn cluade", 2, "claude"),
    ("spawn command cat -n", 2, "-n"),
    ("spawn --profile nosuch command -- cat", 2, "nosuch"),
    ("spawn --profile reviwer command -- cat", 2, "reviewer"),
    ("spawn --profile ./missing.json command -- cat", 2, "missing.json"),
    ("spawn --profile ./broken.json command -- cat", 2, "broken.json:1"),
    ("spawn --profile ./list.json command -- cat", 2, "list.json"),
    ("spawn --profile ./typo.json command -- cat", 2, "label"),
    ("spawn --profile ./kind.json command -- cat", 2, "tags"),
    ("spawn --profile ./claude.json command -- cat", 2, "claude"),
    ("spawn --profile ./nowhere.json", 2, "nowhere"),
    ("spawn --profile ./ command -- cat", 2, "not a regular file"),
    ("profiles show nosuch", 2, "nosuch"),
    ("profiles show ./typo.json", 2, "label"),
    ("profiles validate typo.json", 1, "label"),
    ("profiles validate missing.json", 1, "missing.json"),
    # Things that are not there.
    ("send nobody hello", 3, "nobody"),
    ("send tag:nothing hello", 3, "tag:nothing"),
    ("send bakend hello", 3, "backend"),
    ("send label: hello", 2, "label:"),
    ("receipts 424242", 3, "424242"),
    ("interrupt nobody", 3, "nobody"),
    ("pause nobody", 3, "nobody"),
    ("resume nobody", 3, "nobody"),
    ("release nobody", 3, "nobody"),
    ("logs nobody", 3, "nobody"),
    ("events nobody", 3, "nobody"),
    ("approve nobody", 3, "nobody"),
    ("release ..", 3, ".."),
    ("release a/b", 3, "a/b"),
    ("release a?b", 3, "a?b"),
    ("release %2e%2e", 3, "%2e%2e"),
    # Not now.
    ("approve backend", 6, "backend"),
]


@pytest.mark.parametrize(("line", "code", "words"), WRONG, ids=[line for line, _, _ in WRONG])
def test_a_wrong_invocation_gets_one_line(
    program: Program, line: str, code: int, words: str
) -> None:
    one_line(program.run(*line.split(" ")), code, words)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("send", "backend", ""), 2, "empty"),
        (("send", "", "hello"), 2, "to"),
        (("send", "backend", "x", "--from", ""), 2, "from"),
        (("send", "backend", "x", "--from", "a\nb"), 2, "from"),
        (("send", "backend", "x", "--from", "x" * 200), 2, "from"),
        (("send", "backend", b"\xff\xfe"), 2, "UTF-8"),
        (("spawn", "command", "--name", b"\xff", "--", "cat"), 2, "UTF-8"),
        (("spawn", "command", "--name", "", "--", "cat"), 2, "name"),
        (("spawn", "command", "--label", "", "--", "cat"), 2, "label"),
        (("spawn", "command", "--tag", "x" * 200, "--", "cat"), 2, "tags"),
        (("spawn", "command", "--name", "a\x1b[31mb", "--", "cat"), 2, "name"),
        (("spawn", "", "--", "cat"), 2, "harness"),
        (("spawn", "command", "--", ""), 1, "name it after --"),
        (("spawn", "command", "--task", " \n", "--", "cat"), 2, "task: there is nothing to do"),
        (("send", "backend", "x", "--from", "a\tb"), 2, "one line without control characters"),
        (("release", ""), 3, "''"),
        (("", "x"), 2, "relay-runtime --help"),
        (("send", "no\x1b]0;body\x07", "x"), 3, "no"),
    ],
)
def test_hostile_values_are_refused_in_plain_text(
    program: Program, arguments: tuple[str | bytes, ...], code: int, words: str
) -> None:
    done = program.run(*arguments)

    one_line(done, code, words)
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr


@pytest.mark.parametrize(
    ("stdin", "words"),
    [(b"", "empty"), (b"caf\xe9", "byte 3"), (b"x" * 1_000_001, "1000000"), (b"x" * 2**24, "")],
)
def test_standard_input_that_is_no_message_is_refused(
    program: Program, stdin: bytes, words: str
) -> None:
    one_line(program.run("send", "backend", "-", stdin=stdin), 2, words)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"RELAY_RUNTIME_HOME": "relative/path"}, "absolute"),
        ({"RELAY_RUNTIME_HOME": "/dev/null"}, "/dev/null"),
        ({"RELAY_RUNTIME_HOME": "/proc/nowhere"}, "/proc/nowhere"),
        ({"RELAY_RUNTIME_HOME": "/" + "x" * 300}, "RELAY_RUNTIME_HOME"),
        ({"AGENT_RELAY_APPROVAL": "yolo"}, "AGENT_RELAY_APPROVAL"),
        ({"AGENT_RELAY_PROFILE": "nosuch"}, "nosuch"),
        ({"AGENT_RELAY_PROFILES_FILE": "/dev/null", "AGENT_RELAY_PROFILE": "x"}, "/dev/null"),
    ],
)
def test_a_wrong_environment_gets_one_line(
    program: Program, environ: dict[str, str], words: str
) -> None:
    done = program.run("spawn", "command", "--name", "never", "--", "cat", environ=environ)

    one_line(done, 2, words)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"AGENT_RELAY_PORT": "http"}, "AGENT_RELAY_PORT must be a number"),
        ({"AGENT_RELAY_PORT": "70000"}, "AGENT_RELAY_PORT must be a number"),
        ({"AGENT_RELAY_HOST": "0.0.0.0"}, "AGENT_RELAY_HOST=0.0.0.0 lets other machines in"),
        ({"AGENT_RELAY_TOKEN": "two\nlines"}, "AGENT_RELAY_TOKEN must be printable"),
        ({"AGENT_RELAY_URL": "ftp://x"}, "AGENT_RELAY_URL: 'ftp://x' is no relay URL"),
        ({"AGENT_RELAY_URL": "http://[::1"}, "AGENT_RELAY_URL: Invalid IPv6 URL"),
    ],
)
def test_a_supervisor_that_its_environment_keeps_from_starting_says_which_variable(
    program: Program, environ: dict[str, str], words: str
) -> None:
    home = {"RELAY_RUNTIME_HOME": str(program.folder / "never")}

    for command in ("up", "send backend x", "spawn command -- cat"):
        one_line(program.run(*command.split(), environ=environ | home), 4, words)


def test_a_port_that_is_taken_is_told_with_its_variable(program: Program) -> None:
    home = {"RELAY_RUNTIME_HOME": str(program.folder / "never")}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = program.run("up", environ=home | {"AGENT_RELAY_PORT": port})
        one_line(done, 4, f"port {port} on 127.0.0.1 is in use")
        assert "set AGENT_RELAY_PORT" in done.stderr
        one_line(program.run("relay", "--port", port, environ=home), 4, f"port {port}")


def test_a_relay_that_refuses_us_is_told_and_nothing_is_started(program: Program) -> None:
    """With a wrong token; the session would be there and nobody could ever reach it."""
    elsewhere = {"RELAY_RUNTIME_HOME": str(program.folder / "elsewhere")}
    relay = {"AGENT_RELAY_TOKEN": "right", "DB_PATH": str(program.folder / "elsewhere.db")}
    with program.start("relay", "--port", "0", "--json", environ=relay) as serving:
        assert serving.stdout is not None
        url = json.loads(serving.stdout.readline())["url"]
        environ = elsewhere | {"AGENT_RELAY_URL": url, "AGENT_RELAY_TOKEN": "wrong"}
        for command in ("spawn command -- cat", "send backend x"):
            done = program.run(*command.split(), environ=environ)
            one_line(done, 6, "AGENT_RELAY_TOKEN")
        assert program.run("ps", "--all", "--json", environ=environ).stdout == "[]\n"
        assert program.run("down", "--all", environ=environ).returncode == 0
        serving.terminate()


def as_others(program: Program, command: str) -> CompletedProcess[str]:
    """The command without what lets root pass every permission."""
    drop = "-dac_override,-dac_read_search"
    capless = f"setpriv --bounding-set={drop} --inh-caps={drop} " if os.geteuid() == 0 else ""
    return program.shell(f"exec {capless}{command}")


def test_folders_without_permission_get_one_line(program: Program) -> None:
    closed, fixed = program.folder / "closed", program.folder / "fixed"
    closed.mkdir(mode=0)
    fixed.mkdir(mode=0o500)
    for home in (fixed, closed, fixed / "below"):
        for command in ("up", "spawn command -- cat", "send backend x", "relay --port 0"):
            done = as_others(program, f"env RELAY_RUNTIME_HOME={home} relay-runtime {command}")
            one_line(done, 2, f"cannot use {home}: Permission denied; set RELAY_RUNTIME_HOME")
    home = program.folder / "mine"
    here = f"env RELAY_RUNTIME_HOME={home} relay-runtime"
    try:
        done = as_others(program, f"{here} spawn command --cwd {closed} -- /bin/cat")
        one_line(done, 1, f"cannot execute /bin/cat in {closed}")
        done = as_others(program, f"{here} spawn --profile {closed}/x.json -- /bin/cat")
        one_line(done, 2, "Permission denied")
    finally:
        assert as_others(program, f"{here} down --all").returncode == 0


@pytest.mark.parametrize("name", ["a\nb\x1b[31m\u202e", "d" * 200, " ", "\x01"])
def test_a_session_works_in_a_folder_whatever_its_name(program: Program, name: str) -> None:
    (program.work / name).mkdir()

    done = program.run("spawn", "command", "--json", "--name", "odd", "--cwd", name, "--", "cat")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cwd"] == str(program.work / name)
    assert program.run("release", "odd", "--force").returncode == 0


def test_a_state_folder_that_others_can_enter_is_refused(program: Program) -> None:
    home = program.folder / "open"
    home.mkdir(mode=0o755)
    (home / "something").touch()

    done = program.run("up", environ={"RELAY_RUNTIME_HOME": str(home)})

    one_line(done, 2, f"chmod 700 {home}")


def test_a_working_directory_that_is_gone_gets_one_line(program: Program) -> None:
    gone = program.folder / "gone"
    command = f"mkdir {gone} && cd {gone} && rmdir {gone} && exec relay-runtime"

    for arguments in ("spawn command -- cat", "profiles list", "doctor", "profiles validate"):
        done = program.shell(f"{command} {arguments}")
        one_line(done, 2, "working directory")
    assert program.shell(f"{command} ps").returncode == 0


def test_what_is_not_utf8_in_the_environment_is_told_and_left_out(program: Program) -> None:
    done = program.shell(
        "BAD=$(printf '\\377') exec relay-runtime spawn command --name env -- /usr/bin/env"
    )

    assert "'BAD' is not UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_that_is_full_gets_one_line(program: Program) -> None:
    one_line(program.shell("relay-runtime ps > /dev/full"), 1, "No space left")


@pytest.mark.parametrize("command", ["ps", "events", "--help", "profiles list", "logs backend"])
def test_a_reader_that_goes_away_is_no_error(program: Program, command: str) -> None:
    # The reader is gone before anything is written.
    done = program.shell(f"(relay-runtime {command}; echo $? >&2) | true")

    assert done.stderr in ("141\n", "0\n")


def test_an_unforeseen_fault_is_one_line_and_a_traceback_only_when_asked_for(
    program: Program,
) -> None:
    """A file of ours that is a folder stands for what nobody thought of."""
    home = program.folder / "odd"
    (home / "start.lock").mkdir(parents=True)
    home.chmod(0o700)
    environ = {"RELAY_RUNTIME_HOME": str(home)}

    one_line(program.run("up", environ=environ), 1, "start.lock: Is a directory")
    done = program.run("up", environ=environ | {"RELAY_RUNTIME_DEBUG": "1"})
    assert "Traceback" in done.stderr


def test_every_command_takes_json(program: Program) -> None:
    for name in COMMANDS.keys() - {"attach"}:  # which has no result, only a screen
        subcommands = ["list", "show", "validate", "schema"] if name == "profiles" else [""]
        for subcommand in subcommands:
            words = [name, subcommand] if subcommand else [name]
            done = program.run(*words, "--help")
            assert "--json" in done.stdout, words


def test_help_says_what_the_exit_codes_mean(program: Program) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        done = program.run(*arguments)
        assert done.returncode == 0
        text = " ".join(done.stdout.split())
        assert "5 timed out" in text and "3 no such session" in text


def test_a_profile_error_on_the_way_leaves_the_rest_of_the_list(program: Program) -> None:
    mine = program.folder / "mine.json"
    mine.write_text(json.dumps({"good": {"label": "g"}, "bad": {"labl": "b"}}))

    done = program.run("profiles", "list", environ={"AGENT_RELAY_PROFILES_FILE": str(mine)})

    one_line(done, 1, "label")
    assert "good" in done.stdout


def test_all_exit_codes_are_in_the_manual() -> None:
    from relay_runtime.cli.failure import Exit

    manual = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for code in Exit:
        assert f"| {code.value} |" in manual
    for name in COMMANDS:
        assert f"`{name}" in manual or f"relay-runtime {name}" in manual
