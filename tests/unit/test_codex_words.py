"""Errors, requests and texts: what codex says in words, and what it would read into ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from relay_drivers.codex.approvals import Ask, answer, shown
from relay_drivers.codex.errors import error_info
from relay_drivers.codex.items import ended, file_changes, said, started, write_of
from relay_drivers.codex.mentions import keep_text, may_mention
from relay_drivers.codex.program import APPROVALS, command, exit_class, last_error, thread_settings
from relay_runtime.contract import Approval, ChildExit, Mode, SessionSpec, Unsupported
from relay_runtime.events import ErrorClass, ExitClass, FileChanged

if TYPE_CHECKING:
    from relay_drivers.codex.read import Obj
    from relay_runtime.contract import Json

NOON = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC).timestamp()


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "message", "wanted", "status"),
    [
        ({"httpConnectionFailed": {"httpStatusCode": 401}}, "x", ErrorClass.AUTH, 401),
        ({"responseStreamDisconnected": {"httpStatusCode": 403}}, "x", ErrorClass.AUTH, 403),
        (
            {"responseTooManyFailedAttempts": {"httpStatusCode": 429}},
            "x",
            ErrorClass.RATE_LIMIT,
            429,
        ),
        ({"httpConnectionFailed": {"httpStatusCode": 502}}, "x", ErrorClass.OVERLOADED, 502),
        ({"httpConnectionFailed": {"httpStatusCode": 404}}, "x", ErrorClass.OTHER, 404),
        (
            {"responseStreamDisconnected": {"httpStatusCode": None}},
            "x",
            ErrorClass.OVERLOADED,
            None,
        ),
        ("usageLimitExceeded", "x", ErrorClass.RATE_LIMIT, None),
        ("serverOverloaded", "x", ErrorClass.OVERLOADED, None),
        ("internalServerError", "x", ErrorClass.OVERLOADED, None),
        ("unauthorized", "x", ErrorClass.AUTH, None),
        ("other", "Missing environment variable: `KEY`.", ErrorClass.AUTH, None),
        ("other", "stream disconnected before completion: idle", ErrorClass.OVERLOADED, None),
        ("other", "the model said no", ErrorClass.OTHER, None),
        ("contextWindowExceeded", "x", ErrorClass.OTHER, None),
        ({"something": {"new": 1}}, "x", ErrorClass.OTHER, None),
        (None, "x", ErrorClass.OTHER, None),
    ],
)
def test_errors_are_what_can_be_done_about_them(
    info: Json, message: str, wanted: ErrorClass, status: int | None
) -> None:
    found = error_info({"message": message, "codexErrorInfo": info}, NOON)
    assert (found.error, found.status, found.message) == (wanted, status, message)


def test_a_message_of_an_error_is_one_short_line() -> None:
    found = error_info({"message": "first\nsecond", "codexErrorInfo": "other"}, NOON)
    assert found.message == "first"
    assert len(error_info({"message": "x" * 9999}, NOON).message) < 600
    assert error_info({}, NOON).message
    details: Obj = {"message": "Reconnecting... 1/1", "additionalDetails": "status 500"}
    assert error_info(details, NOON).message == "Reconnecting... 1/1 (status 500)"


@pytest.mark.parametrize(
    ("message", "zone", "wanted"),
    [
        ("try again in 20s.", "UTC", 20),
        ("Try again in 1.5 min", "UTC", 90),
        ("Please try again in 250ms.", "UTC", 0.25),
        ("Try again at 12:45 PM.", "UTC", 45 * 60 + 30),
        ("Try again at 12:45 PM.", "Europe/Berlin", 23 * 3600 + 45 * 60 + 30),
        ("or try again at Nov 22nd, 2026 12:00 PM.", "UTC", 24 * 3600 + 30),
        ("Try again at 12:00 PM.", "UTC", 30),
        ("Try again at 11:58 AM.", "UTC", 24 * 3600 - 90),
        ("try again at Nov 99th, 2026 12:00 PM.", "UTC", None),
        ("try again later", "UTC", None),
    ],
)
def test_the_time_of_the_next_attempt_is_read_from_the_words(
    message: str, zone: str, wanted: float | None
) -> None:
    error: Obj = {"message": message, "codexErrorInfo": "usageLimitExceeded"}
    found = error_info(error, NOON, zone=ZoneInfo(zone)).retry_at
    assert found == (None if wanted is None else pytest.approx(NOON + wanted))


def test_the_reset_time_of_the_account_goes_before_words() -> None:
    error: Obj = {"message": "try again in 20s", "codexErrorInfo": "usageLimitExceeded"}
    assert error_info(error, NOON, resets_at=NOON + 3600).retry_at == NOON + 3600
    assert error_info(error, NOON, resets_at=NOON - 1).retry_at == NOON + 20
    other: Obj = {"message": "try again in 20s", "codexErrorInfo": "other"}
    assert error_info(other, NOON, resets_at=NOON + 3600).retry_at is None


# --- requests for a person ----------------------------------------------------------------------------

COMMAND = "item/commandExecution/requestApproval"
QUESTION = "item/tool/requestUserInput"
PERMISSIONS = "item/permissions/requestApproval"
FORM = "mcpServer/elicitation/request"


def test_commands_and_files_are_accepted_or_declined() -> None:
    for method in (COMMAND, "item/fileChange/requestApproval"):
        ask = Ask(0, method, {"itemId": "call_1", "turnId": "t"})
        assert answer(ask, True, None) == {"decision": "accept"}
        assert answer(ask, False, "no") == {"decision": "decline"}


def test_permissions_are_granted_for_the_turn_only() -> None:
    wanted: Obj = {"network": {"enabled": True}, "fileSystem": None}
    ask = Ask(0, PERMISSIONS, {"permissions": wanted})
    assert answer(ask, True, None) == {
        "permissions": {"network": {"enabled": True}},
        "scope": "turn",
    }
    assert answer(ask, False, None) == {"permissions": {}, "scope": "turn"}


def test_questions_take_an_answer_in_words() -> None:
    questions: Json = [
        {"id": "q", "question": "Which?", "options": [{"label": "a"}, {"label": "b"}]}
    ]
    ask = Ask(0, QUESTION, {"questions": questions, "turnId": "t"})
    assert answer(ask, True, "b") == {"answers": {"q": {"answers": ["b"]}}}
    assert answer(ask, False, None) == {"answers": {"q": {"answers": []}}}
    with pytest.raises(Unsupported, match="message"):
        answer(ask, True, None)
    assert shown(ask, {}).detail == "Which?"


def test_a_form_with_fields_is_refused_or_left_to_a_person_at_the_session() -> None:
    ask = Ask(0, FORM, {"serverName": "s", "requestedSchema": {"required": ["name"]}})
    with pytest.raises(Unsupported):
        answer(ask, True, None)
    assert answer(ask, False, None) == {"action": "decline", "content": None, "_meta": None}
    empty = Ask(0, FORM, {"serverName": "s", "requestedSchema": {"properties": {}}})
    assert answer(empty, True, None) == {"action": "accept", "content": {}, "_meta": None}


def test_a_request_shows_what_it_is_about_and_why() -> None:
    params: Obj = {"itemId": "call_1", "command": "rm -r x", "reason": "tidy up"}
    asked = shown(Ask(3, COMMAND, params), {})
    assert (asked.request_id, asked.tool, asked.detail) == ("call_1.3", "shell", "rm -r x\ntidy up")
    network: Obj = {"networkApprovalContext": {"host": "example.org"}}
    assert "example.org" in shown(Ask(3, COMMAND, network), {}).detail
    assert len(shown(Ask(0, COMMAND, {"command": "x" * 99999}), {}).detail) < 5000


# --- items --------------------------------------------------------------------------------------------


def test_items_of_every_kind_can_be_read_when_everything_is_missing() -> None:
    kinds = ("commandExecution", "fileChange", "mcpToolCall", "dynamicToolCall", "webSearch")
    for kind in (*kinds, "collabAgentToolCall"):
        item: Obj = {"type": kind, "id": "i"}
        assert started(item, "t") is not None
        ended(item, "t")
    for kind in ("userMessage", "agentMessage", "reasoning", "plan", "something new", ""):
        assert started({"type": kind}, "t") is None
        assert said({"type": kind}) == ""


def test_a_moved_file_is_deleted_there_and_created_here() -> None:
    kind: Json = {"type": "update", "move_path": "/b"}
    item: Obj = {
        "type": "fileChange",
        "status": "completed",
        "changes": [{"path": "/a", "kind": kind}, {"path": "/c", "kind": {"type": "delete"}}],
    }
    assert file_changes(item, "t") == [
        FileChanged("/a", "deleted", "t"),
        FileChanged("/b", "created", "t"),
        FileChanged("/c", "deleted", "t"),
    ]
    assert file_changes({**item, "status": "failed"}, "t") == []


def test_only_our_own_ids_are_writes() -> None:
    assert write_of({"clientId": "relay:w"}) == "w"
    assert write_of({"clientId": "01a1fe0e-8022-7001-9676-29006dbc1450"}) is None
    assert write_of({"clientId": None}) is None


def test_what_is_no_text_in_a_message_is_named() -> None:
    content: Json = [{"type": "text", "text": "look"}, {"type": "localImage", "path": "/x.png"}]
    assert said({"type": "userMessage", "content": content}) == "look\n[localImage]"


# --- mentions of skills -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("use $foo now", "use ${foo} now"),
        ("$foo", "${foo}"),
        ("$$foo's \\$foo `$foo`a$foo", "$${foo}'s \\${foo} `${foo}`a${foo}"),
        ("[$foo](/x/SKILL.md)", "[${foo}](/x/SKILL.md)"),
        ("[$any] (/x/SKILL.md)", "[${any}] (/x/SKILL.md)"),
        ("$FOO $foo-x $foo:y ${foo} $(foo) $ foo $HOME", None),
        ("costs $5, see $PATH", None),
        ("/exit !ls @/etc/passwd", None),
    ],
)
def test_only_mentions_of_skills_are_changed(given: str, kept: str | None) -> None:
    assert keep_text(given, {"foo", "bar-baz"}) == (kept or given)


def test_any_name_may_be_a_skill_when_they_are_unknown() -> None:
    assert keep_text("$HOME $foo", None) == "${HOME} ${foo}"
    assert may_mention("$HOME") and not may_mention("${HOME} $ x $")


# --- the program --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("WARNING: x\nError: Model provider `nope` not found\n", "Model provider `nope` not found"),
        (
            "Error: unknown variant `sometimes`, expected `never`\nin `approval_policy`\n\n",
            "unknown variant `sometimes`, expected `never` in `approval_policy`",
        ),
        ("error: unexpected argument '--x' found\n\n  tip: y\n", "unexpected argument '--x' found"),
        ("2026-11-21 ERROR codex: no bubblewrap\n", None),
        ("", None),
    ],
)
def test_the_last_error_of_a_start_is_one_line(output: str, wanted: str | None) -> None:
    assert last_error(output) == wanted


def test_an_end_with_an_error_of_its_own_is_a_failed_start() -> None:
    words = "Error: Model provider `nope` not found"
    assert exit_class(ChildExit(1, None, 0), words) is ExitClass.START_FAILED
    assert exit_class(ChildExit(2, None, 0), "error: bad") is ExitClass.START_FAILED
    assert exit_class(ChildExit(101, None, 0), "thread panicked") is None
    assert exit_class(ChildExit(None, 9, 0), words) is None
    assert exit_class(ChildExit(0, None, 0), "") is None


SPEC = SessionSpec("s", "a", "n", "codex", Mode.HEADLESS, cwd="/w", state_dir="/s")


def test_what_the_spec_leaves_open_is_left_to_the_user() -> None:
    assert thread_settings(SPEC, None) == {"cwd": "/w"}
    assert set(APPROVALS) == set(Approval)
    guarded = thread_settings(replace(SPEC, approval=Approval.GUARDED, model="m"), "be kind")
    assert guarded["approvalPolicy"] == "untrusted" and guarded["model"] == "m"
    assert guarded["developerInstructions"] == "be kind"


def test_our_own_settings_are_the_last_word_on_the_command_line() -> None:
    argv = command("/codex", Path("/s/codex.sock"), replace(SPEC, args=("-c", "x=1")))
    assert argv[:4] == ("/codex", "app-server", "--listen", "unix:///s/codex.sock")
    assert argv[4:] == ("-c", "x=1", "-c", "features.instant_interrupt=false")
