"""The claude driver and files: the record of a conversation, and what it starts."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from relay_drivers.claude import launch
from relay_drivers.claude.state import alias, aliases
from relay_drivers.claude.transcript import Record
from relay_runtime.contract import Approval, Io, Mode, ResumeRefused, SessionSpec, StartFailed
from relay_runtime.events import ExitClass

if TYPE_CHECKING:
    from pathlib import Path

X = "00000000-0000-4000-8000-000000000001"
CONVERSATION = "00000000-0000-4000-8000-00000000000c"
USER = {"type": "user", "uuid": X, "message": {"role": "user", "content": "hello"}}
MERGED = {"type": "user", "uuid": "line", "mergedSendUuids": [X], "message": {}}
STEERED = {
    "type": "attachment",
    "uuid": "line",
    "attachment": {"type": "queued_command", "source_uuid": X, "prompt": "hello"},
}
#: Lines that name the message and prove nothing.
NO_PROOF = [
    {"type": "assistant", "uuid": "line", "user_message_uuids": [X]},
    {
        "type": "queue-operation",
        "operation": "remove",
        "reason": "dropped_by_hook",
        "commandUuid": X,
    },
    {"type": "user", "uuid": "line", "parentUuid": X, "message": {"content": f"about {X}"}},
    {"type": "attachment", "uuid": "line", "attachment": {"type": "other", "source_uuid": X}},
    {"type": "system", "uuid": "line", "content": X},
    ["not", "an", "object", X],
]


def record(home: Path, *entries: object, tail: str = "") -> Record:
    folder = home / ".claude" / "projects" / "-home-me-work"
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / f"{CONVERSATION}.jsonl").write_text(lines + tail)
    return Record({"HOME": str(home)}, CONVERSATION)


# --- the record -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [USER, MERGED, STEERED], ids=["user", "merged", "steered"])
def test_a_line_that_carries_the_message_proves_it(entry: object, tmp_path: Path) -> None:
    found = record(tmp_path, *NO_PROOF, entry, *NO_PROOF).search([X])
    assert found is not None and found.harness_id == X


def test_lines_that_only_name_the_message_prove_nothing(tmp_path: Path) -> None:
    assert record(tmp_path, *NO_PROOF).search([X]) is None


def test_a_line_that_is_not_complete_yet_proves_nothing(tmp_path: Path) -> None:
    assert record(tmp_path, *NO_PROOF, tail=json.dumps(USER)).search([X]) is None
    assert record(tmp_path, *NO_PROOF, tail=json.dumps(USER)[:-5] + "\n").search([X]) is None


def test_a_search_may_begin_anywhere(tmp_path: Path) -> None:
    book = record(tmp_path, USER, *NO_PROOF)
    assert book.search([X], since=1) is None
    book = record(tmp_path, *NO_PROOF, USER)
    assert book.search([X], since=5) is not None


def test_what_is_found_says_where_the_rest_begins(tmp_path: Path) -> None:
    filler = {"type": "user", "uuid": "f", "message": {"content": "x" * 3_000_000}}
    newer = "7a0d2b1e-0000-4b0e-9d53-0d6f8f7b1c11"
    book = record(tmp_path, filler, filler, USER, {**USER, "uuid": newer}, filler)
    first = book.search([X])
    assert first is not None and book.search([X], since=first.end) is None
    second = book.search([newer], since=first.end)
    assert second is not None and second == book.search([newer], since=first.end - 9)


def test_a_long_record_is_searched_across_its_blocks(tmp_path: Path) -> None:
    filler = {"type": "user", "uuid": "f", "message": {"content": "x" * 3_000_000}}
    assert record(tmp_path, filler, filler, filler, USER, filler).search([X]) is not None


def test_every_id_of_a_write_is_looked_up(tmp_path: Path) -> None:
    other = alias(X, 2)
    found = record(tmp_path, {**USER, "uuid": other}).search(aliases(X))
    assert found is not None and found.harness_id == other


def test_a_conversation_without_a_message_has_no_record(tmp_path: Path) -> None:
    for environ in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path / "missing")}):
        book = Record(environ, CONVERSATION)
        assert (book.exists(), book.search([X])) == (False, None)


def test_a_record_that_appears_or_vanishes_is_noticed(tmp_path: Path) -> None:
    book = Record({"HOME": str(tmp_path)}, CONVERSATION)
    assert not book.exists()
    record(tmp_path, USER)
    assert book.exists() and book.search([X]) is not None
    next(tmp_path.rglob("*.jsonl")).unlink()
    assert not book.exists() and book.search([X]) is None


def test_the_record_is_found_in_the_configured_folder(tmp_path: Path) -> None:
    record(tmp_path, USER)
    environ = {"HOME": "/nowhere", "CLAUDE_CONFIG_DIR": str(tmp_path / ".claude")}
    assert Record(environ, CONVERSATION).exists()


def test_a_folder_that_cannot_be_read_is_an_error_and_no_absence(tmp_path: Path) -> None:
    (tmp_path / "projects").write_text("a file where a folder should be")
    with pytest.raises(OSError):
        Record({"CLAUDE_CONFIG_DIR": str(tmp_path)}, CONVERSATION).exists()


# --- the start ------------------------------------------------------------------------------------------


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return {"PATH": str(program.parent), "HOME": str(tmp_path)}


def spec(
    approval: Approval | None = None,
    args: tuple[str, ...] = (),
    instructions: str | None = None,
    model: str | None = None,
) -> SessionSpec:
    return SessionSpec(
        "s",
        "a",
        "n",
        "claude",
        Mode.HEADLESS,
        "/work",
        "/state",
        model=model,
        approval=approval,
        instructions=instructions,
        args=args,
    )


def test_the_plan_says_everything_that_the_driver_relies_on(environ: dict[str, str]) -> None:
    wanted = spec(Approval.OPEN, ("--add-dir", "/x"), "be kind", "opus")
    plan = launch.plan(wanted, environ, CONVERSATION, resume=False)
    assert plan.argv == (
        os.path.join(environ["PATH"], "claude"),
        "-p",
        "--verbose",
        "--replay-user-messages",
        "--input-format",
        "stream-json",
        "--output-format",
        "stream-json",
        "--session-id",
        CONVERSATION,
        "--dangerously-skip-permissions",
        "--model",
        "opus",
        "--append-system-prompt",
        "be kind",
        "--add-dir",
        "/x",
    )
    assert (plan.cwd, plan.io) == ("/work", Io.PIPES)
    again = launch.plan(wanted, environ, CONVERSATION, resume=True)
    assert again.argv[8:10] == ("--resume", CONVERSATION)


def test_marks_of_an_outer_claude_are_removed_and_the_updater_is_left_to_the_user(
    environ: dict[str, str],
) -> None:
    outer = environ | {"CLAUDECODE": "1", "CLAUDE_CODE_SESSION_ID": "x", "DISABLE_AUTOUPDATER": "0"}
    overlay = launch.plan(spec(), outer, CONVERSATION, resume=False).env
    assert overlay["CLAUDECODE"] is None and overlay["CLAUDE_CODE_SESSION_ID"] is None
    assert "DISABLE_AUTOUPDATER" not in overlay
    plain = launch.plan(spec(), environ, CONVERSATION, resume=False).env
    assert plain["DISABLE_AUTOUPDATER"] == "1" and "CLAUDECODE" not in plain
    assert plain["CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS"] == "1"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (spec(args=("-c",)), "remove -c"),
        (spec(args=("--session-id=x",)), "remove --session-id"),
        (spec(args=("--no-session-persistence",)), "receipts need"),
        (spec(instructions="x" * 200_000), "shorten `instructions`"),
    ],
)
def test_what_cannot_work_is_refused_with_advice(
    environ: dict[str, str], wanted: SessionSpec, message: str
) -> None:
    with pytest.raises(StartFailed, match=message):
        launch.plan(wanted, environ, CONVERSATION, resume=False)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (f"No conversation found with session ID: {X}\n", ExitClass.RESUME_REFUSED),
        (f"x\nError: Session ID {X} is already in use.\n", ExitClass.RESUME_REFUSED),
        ("error: unknown option '--x'\n", ExitClass.START_FAILED),
        ("Not logged in · Please run /login\n", ExitClass.AUTH),
        ('{"type":"user","message":"GET /login; Not logged in; No conversation found"}\n', None),
        ("Segmentation fault\n", None),
        ("", None),
    ],
)
def test_last_words_explain_the_exit(said: str, expected: ExitClass | None) -> None:
    assert launch.exit_class(said) is expected


def test_a_failed_start_names_the_status_and_claudes_own_words() -> None:
    error = launch.start_error("warning: x\nerror: unknown option '--x'\n", "exit status 1")
    assert isinstance(error, StartFailed)
    assert str(error) == (
        "claude did not start (exit status 1): error: unknown option '--x'; "
        "correct the arguments for claude"
    )
    silent = launch.start_error("", "killed by signal 9")
    assert "killed by signal 9" in str(silent) and "it said nothing" in str(silent)
    refused = launch.start_error("No conversation found with session ID: x\n", "exit status 1")
    assert isinstance(refused, ResumeRefused)
