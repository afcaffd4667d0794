"""How commands end for every kind of answer: faults, waits that run out, lost connections."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from .cli_program import SOON, Program
from .control_double import Double, Reply, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from .cli_program import Json

AGENT = "host-project-1a2b3c4d"
SESSION: Json = {
    "session_id": "0123456789ab",
    "agent_id": AGENT,
    "name": "backend",
    "harness": "claude",
    "mode": "headless",
    "state": "idle",
    "pid": 4242,
    "turn": None,
    "waiting": [],
    "queued": 0,
    "usage": {
        "turns": 3,
        "input_tokens": 1200,
        "output_tokens": 34,
        "cached_tokens": 0,
        "cost_usd": 0.5,
    },
    "since": 1.0,
    "reason": None,
    "retry_at": None,
    "cwd": "/",
    "model": None,
    "profile": None,
    "created_at": 1.0,
    "a_field_of_a_newer_version": True,
}
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\u2066\x9b31m\nrelay-runtime: forged"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def double(program: Program) -> Iterator[Double]:
    with serving(program.home) as double:
        yield double


def delivery(status: str, reason: str | None = None, agent: str = AGENT) -> Json:
    evidence = {"kind": "k", "reference": "r", "turn_id": None} if status == "delivered" else None
    ids = {"delivery_id": f"d-{agent}", "session_id": "s", "agent_id": agent}
    return {**ids, "status": status, "reason": reason, "evidence": evidence}


def receipts(*deliveries: Json) -> Reply:
    return Reply({"message_id": 7, "receipts": [], "deliveries": list(deliveries)})


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "invalid_json", 2),
        (401, "unauthorized", 6),
        (404, "no_such_session", 3),
        (408, "wait_over", 5),
        (409, "not_now", 6),
        (409, "ambiguous_target", 3),
        (413, "body_too_large", 2),
        (422, "invalid_request", 2),
        (422, "start_failed", 1),
        (429, "too_many", 6),
        (500, "internal", 70),
        (502, "relay_unreachable", 4),
        (503, "busy", 4),
        (504, "relay_timeout", 5),
        (599, "from_the_future", 70),
    ],
)
def test_each_kind_of_refusal_has_its_exit_code(
    program: Program, double: Double, status: int, code: str, exit_code: int
) -> None:
    double.refuse("POST /v1/sessions/backend/pause", status, code, "do this instead", "near-1")

    done = program.run("pause", "backend")

    assert done.returncode == exit_code
    assert done.stderr.startswith("relay-runtime: do this instead (near-1)")
    assert done.stderr.count("\n") == 1
    assert ("supervisor.log" in done.stderr) == (exit_code == 70)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>no</html>", 500),
        Reply(b"", 500),
        Reply([1], 500),
        Reply({"error": "text"}, 502),
        Reply(b"not json", 200),
        Reply(b"", 200),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_internal_error(
    program: Program, double: Double, reply: Reply
) -> None:
    double.on("POST /v1/sessions/backend/pause", reply)

    done = program.run("pause", "backend")

    assert done.returncode == 70
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_supervisor_that_dies_in_the_middle_of_an_answer_is_unreachable(
    program: Program, double: Double
) -> None:
    double.on("POST /v1/sessions/backend/pause", Reply(b'{"name"', cut=True))

    done = program.run("pause", "backend")

    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "went away" in done.stderr


def test_a_message_is_sent_again_under_its_key_when_the_answer_is_lost(
    program: Program, double: Double
) -> None:
    sent = {"message_id": 7, "deliveries": [delivery("pending")]}
    double.on("POST /v1/messages", Reply(b"{", cut=True), Reply(sent, 201))

    done = program.run("send", "backend", "hello", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == sent
    first, second = [json.loads(body) for request, body in double.requests]
    assert first == second
    assert len(first["idempotency_key"]) == 32


def test_a_message_whose_answers_are_all_lost_ends_with_4(program: Program, double: Double) -> None:
    double.on("POST /v1/messages", Reply(b"{", cut=True))

    done = program.run("send", "backend", "hello")

    assert done.returncode == 4
    assert len(double.requests) == 3


def test_what_send_says_is_what_the_relay_gets(program: Program, double: Double) -> None:
    double.on("POST /v1/messages", Reply({"message_id": 7, "deliveries": []}, 201))

    program.run("send", "tag:x", "-", "--thread", "3", "--steer", "--ttl", "9", stdin=b"a\r\nb\0")

    body = json.loads(double.requests[0][1])
    assert body.pop("idempotency_key")
    assert body.pop("from")
    expected = {"to": "tag:x", "body": "a\r\nb\0", "thread_id": 3, "mode": "steer", "ttl_s": 9.0}
    assert body == expected


@pytest.mark.parametrize(
    ("until", "states", "code"),
    [
        ("delivered", ["delivered"], 0),
        ("delivered", ["delivered", "delivered"], 0),
        ("delivered", ["delivered", "failed"], 1),
        ("delivered", ["accepted", "failed"], 1),
        ("delivered", ["delivered", "accepted"], 5),
        ("delivered", ["deferred"], 5),
        ("delivered", ["pending"], 5),
        ("accepted", ["accepted"], 0),
        ("accepted", ["deferred", "delivered"], 0),
        ("accepted", ["pending", "accepted"], 5),
        ("accepted", ["failed"], 1),
    ],
)
def test_send_ends_with_0_only_when_everyone_got_it(
    program: Program, double: Double, until: str, states: list[str], code: int
) -> None:
    found = [delivery(state, "why", f"agent-{n}") for n, state in enumerate(states)]
    sent = [{**one, "status": "pending"} for one in found]
    double.on("POST /v1/messages", Reply({"message_id": 7, "deliveries": sent}, 201))
    double.on("GET /v1/messages/7/receipts", receipts(*found))

    done = program.run("send", "broadcast", "x", "--wait", until, "--timeout", "0.2", "--json")

    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout) == {"message_id": 7, "deliveries": found}
    assert done.stderr.count("\n") == (code != 0)


def test_send_keeps_waiting_over_several_requests(program: Program, double: Double) -> None:
    double.on("POST /v1/messages", Reply({"message_id": 7, "deliveries": []}, 201))
    waiting, done = receipts(delivery("deferred")), receipts(delivery("delivered"))
    double.on("GET /v1/messages/7/receipts", waiting, waiting, done)

    assert program.run("send", "backend", "x", "--wait", "delivered").returncode == 0

    polls = [request for request, _ in double.requests if request.startswith("GET")]
    assert polls == ["GET /v1/messages/7/receipts?until=delivered&wait_s=30"] * 3


def test_a_session_that_is_not_ready_in_time_ends_spawn_with_5(
    program: Program, double: Double
) -> None:
    double.on("POST /v1/sessions", Reply({**SESSION, "state": "starting"}, 201))

    done = program.run("spawn", "claude", "--timeout", "0.5", "--json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["state"] == "starting"
    assert "relay-runtime logs backend" in done.stderr
    assert json.loads(double.requests[-1][1])["wait_s"] == 0.5

    assert program.run("spawn", "claude", "--no-wait").returncode == 0
    assert json.loads(double.requests[-1][1])["wait_s"] == 0


def test_what_spawn_says_is_what_the_supervisor_gets(program: Program, double: Double) -> None:
    double.on("POST /v1/sessions", Reply(SESSION, 201))
    (program.work / "sub").mkdir()

    flags = "spawn claude --name n --mode headless --cwd sub --model m --task t --approval guarded"
    more = "--label l --tag a --tag b --env X=1 -- --effort high"
    done = program.run(*flags.split(), *more.split(), environ={"X": "0", "Y": "y"})

    assert done.returncode == 0, done.stderr
    body = json.loads(double.requests[0][1])
    assert body["harness"] == "claude"
    assert body["cwd"] == str(program.work / "sub")
    assert (body["name"], body["mode"], body["model"]) == ("n", "headless", "m")
    assert (body["task"], body["approval"], body["label"]) == ("t", "guarded", "l")
    assert (body["tags"], body["args"], body["argv"]) == (["a", "b"], ["--effort", "high"], [])
    assert (body["environ"]["X"], body["environ"]["Y"]) == ("1", "y")
    assert body["environ"]["PATH"] == os.environ["PATH"]


def test_the_requests_of_the_command_line_are_what_the_supervisor_takes(
    program: Program, double: Double
) -> None:
    """Against the models themselves, since the double takes anything."""
    from relay_client.types import NewMessage
    from relay_runtime.control_types import Answer, Down, Release, Spawn

    models: dict[str, type[BaseModel]] = {
        "POST /v1/sessions": Spawn,
        "POST /v1/messages": NewMessage,
        "POST /v1/sessions/backend/release": Release,
        "POST /v1/sessions/backend/answer": Answer,
        "POST /v1/down": Down,
    }
    for request in models:
        double.on(request, Reply(SESSION | {"message_id": 7, "deliveries": []}))
    gone = subprocess.Popen(["true"])
    gone.wait()
    double.on("GET /v1/status", Reply({"pid": gone.pid}))
    program.run("spawn", "claude", "--profile", "unattended", "--task", "x")
    program.run("send", "backend", "hello", "--interrupt")
    program.run("release", "backend", "--force", "--reason", "done")
    program.run("deny", "backend", "r1", "--message", "no")
    program.run("down", "--all", "--force")

    seen = {request: body for request, body in double.requests if request in models}
    assert set(seen) == set(models)
    for request, body in seen.items():
        models[request].model_validate_json(body)


def test_down_returns_when_the_supervisor_is_gone(program: Program, double: Double) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as supervisor:
        double.on("GET /v1/status", Reply({"pid": supervisor.pid}))
        double.on("POST /v1/down", Reply({}))
        with program.start("down") as down:
            double.wait_for("POST /v1/down")
            with pytest.raises(subprocess.TimeoutExpired):
                down.wait(1)
            supervisor.communicate()
            assert down.wait(SOON) == 0


def test_texts_of_agents_cannot_act_on_the_terminal(program: Program, double: Double) -> None:
    waiting = {"request_id": "r", "tool": HOSTILE, "detail": HOSTILE}
    double.on("GET /v1/sessions", Reply([{**SESSION, "name": HOSTILE, "waiting": [waiting]}]))
    event = {"cursor": 1, "at": 1.0, "session_id": "s", "name": HOSTILE, "type": "transcript"}
    line = json.dumps({**event, "data": {"text": HOSTILE}}, ensure_ascii=False)
    double.on("GET /v1/events", Reply(line.encode() + b"\n"))
    double.on(
        "GET /v1/messages/7/receipts",
        Reply(
            {
                "message_id": 7,
                "deliveries": [],
                "receipts": [{**delivery("failed", HOSTILE), "at": 1.0}],
            }
        ),
    )
    double.refuse("POST /v1/sessions/backend/pause", 409, "x", HOSTILE, HOSTILE)

    for command in ("ps", "events", "receipts 7", "pause backend"):
        for flags in ([], ["--json"]):
            done = program.run(*command.split(), *flags)
            said = done.stdout + done.stderr
            assert "gnp.exe" in said
            assert not set(said) & set("\x1b\x07\x9b\u202e\u2066"), (command, flags)
            assert not any(line.startswith("relay-runtime: forged") for line in said.split("\n"))


def test_events_survive_separators_that_only_look_like_line_ends(
    program: Program, double: Double
) -> None:
    text = "one\u2028two\x85three"
    event = {"cursor": 1, "at": 1.0, "session_id": "s", "name": "n", "type": "transcript"}
    line = json.dumps({**event, "data": {"text": text}}, ensure_ascii=False)
    double.on("GET /v1/events", Reply(f"{line}\n{line}\n".encode()))

    lines = program.run("events", "--json").stdout.splitlines()

    assert [json.loads(one)["data"]["text"] for one in lines] == [text, text]


def test_ps_shows_what_each_session_does(program: Program, double: Double) -> None:
    asks = {"request_id": "r", "tool": "Bash", "detail": "rm -rf /tmp/x"}
    double.on(
        "GET /v1/sessions",
        Reply(
            [
                SESSION,
                {
                    **SESSION,
                    "name": "zwölf 字",
                    "state": "waiting",
                    "waiting": [asks],
                    "queued": 12,
                },
                {
                    **SESSION,
                    "name": "limited",
                    "state": "held",
                    "reason": "rate_limit",
                    "pid": None,
                },
            ]
        ),
    )

    done = program.run("ps")

    header, *rows = done.stdout.splitlines()
    assert header.split() == [
        "NAME",
        "HARNESS",
        "MODE",
        "STATE",
        "FOR",
        "QUEUED",
        "TURNS",
        "TOKENS",
        "PID",
        "NOTE",
    ]
    assert "1200/34 $0.50" in rows[0]
    assert "asks: Bash rm -rf /tmp/x" in rows[1] and " 12 " in rows[1]
    assert "held" in rows[2] and "rate_limit" in rows[2]
    starts = {row.index("claude") for row in (rows[0], rows[2])}
    assert starts == {rows[1].index("claude") + 1}  # 字 takes two columns
    assert done.stderr == ""


def test_answers_keep_fields_that_are_newer_than_this_command(
    program: Program, double: Double
) -> None:
    double.on("GET /v1/sessions", Reply([SESSION]))

    assert program.rows("ps") == [SESSION]
