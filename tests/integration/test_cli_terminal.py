"""What a person sees in a terminal: colours or none, a line that moves, Ctrl-C, no stray escapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pexpect
import pytest

from .cli_program import Program
from .control_double import Double, Reply, serving
from .test_cli_answers import SESSION

PENDING = {
    "delivery_id": "d",
    "session_id": None,
    "agent_id": "a",
    "status": "pending",
    "reason": None,
    "evidence": None,
}

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def double(program: Program) -> Iterator[Double]:
    with serving(program.home) as double:
        yield double


def shown(terminal: pexpect.spawn[str]) -> str:
    """Everything it printed until it ended."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.before or ""


def test_states_are_coloured_on_a_terminal_only(program: Program, double: Double) -> None:
    double.on("GET /v1/sessions", Reply([SESSION]))

    assert "\x1b[32midle\x1b[0m" in shown(program.terminal("ps"))
    assert "\x1b" not in program.run("ps").stdout


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(program: Program, double: Double, environ: dict[str, str]) -> None:
    double.on("GET /v1/sessions", Reply([SESSION]))

    said = shown(program.terminal("ps", **environ))

    assert "idle" in said and "\x1b" not in said


def test_spawn_shows_that_it_waits(program: Program, double: Double) -> None:
    double.on("POST /v1/sessions", Reply(SESSION, 201))

    terminal = program.terminal("spawn", "claude", "--name", "me")
    terminal.expect("starting me")
    said = shown(terminal)

    assert "backend: " in said
    assert terminal.exitstatus == 0
    assert said.rstrip().endswith("(claude, headless, pid 4242)")


def test_spawn_shows_nothing_that_moves_when_asked_for_json(
    program: Program, double: Double
) -> None:
    double.on("POST /v1/sessions", Reply(SESSION, 201))

    said = shown(program.terminal("spawn", "claude", "--json"))

    assert json.loads(said) == SESSION


def test_a_failure_in_a_terminal_is_one_line_too(program: Program, double: Double) -> None:
    double.refuse("POST /v1/sessions", 422, "start_failed", "not logged in: run claude /login")

    terminal = program.terminal("spawn", "claude")
    said = shown(terminal)

    assert terminal.exitstatus == 1
    assert said.count("not logged in") == 1 and "Traceback" not in said


@pytest.mark.parametrize("command", ["events --follow", "send x hello --wait delivered"])
def test_ctrl_c_is_silent(program: Program, double: Double, command: str) -> None:
    event = {"cursor": 1, "at": 1.0, "session_id": "s", "name": "n", "type": "seen", "data": {}}
    waiting = {"message_id": 7, "receipts": [], "deliveries": []}
    double.on("GET /v1/events", Reply(json.dumps(event).encode() + b"\n"))
    double.on("POST /v1/messages", Reply(waiting, 201))
    double.on("GET /v1/messages/7/receipts", Reply({**waiting, "deliveries": [PENDING]}))

    terminal = program.terminal(*command.split())
    if command.startswith("events"):
        terminal.expect("seen")
    else:
        double.wait_for("GET /v1/messages/7/receipts")
    terminal.sendintr()
    said = shown(terminal)

    assert terminal.exitstatus == 130
    left = said.rpartition("\x1b[2K")[2]  # what the line of progress was erased with
    assert left.strip() in ("", "^C")


def test_ctrl_c_while_a_session_starts_restores_the_terminal(
    program: Program, double: Double
) -> None:
    double.on("POST /v1/sessions", Reply(SESSION, 201, hold=True))

    terminal = program.terminal("spawn", "claude", "--name", "me")
    terminal.expect("starting me")
    terminal.sendintr()
    said = shown(terminal)

    assert terminal.exitstatus == 130
    assert "Traceback" not in said
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l")  # the cursor is back


def test_logs_on_a_terminal_are_text(program: Program, double: Double) -> None:
    screen = (
        b"\x1b]0;title\x07\x1b[2J\x1b[1;31mhello\x1b[0m\x1b]52;c;cHduZWQ=\x1b\\ w\xc3\xb6rld\r\n"
    )
    double.on("GET /v1/sessions/backend/logs", Reply(screen))

    said = shown(program.terminal("logs", "backend"))

    assert said.split() == ["hello", "wörld"]
    assert program.run("logs", "backend").stdout.encode() == screen


def test_completion_knows_the_commands_and_their_options(program: Program) -> None:
    def complete(words: str) -> str:
        environ = {"_RELAY_RUNTIME_COMPLETE": "complete_bash"}
        count = str(len(words.split(" ")) - 1)
        return program.run(environ=environ | {"COMP_WORDS": words, "COMP_CWORD": count}).stdout

    assert {"spawn", "status", "send"} <= set(complete("relay-runtime s").split())
    assert "--profile" in complete("relay-runtime spawn --p").split()
    script = program.run("--show-completion", environ={"SHELL": "/bin/bash"})
    assert script.returncode == 0 or "shell" in script.stderr.lower()
