"""What the opencode driver asks of OpenCode, laid over what the user has."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from relay_drivers.opencode.config import overlay, rules
from relay_runtime.contract import Approval, Json, Mode, SessionSpec, StartFailed

SPEC = SessionSpec("s", "a", "name", "opencode", Mode.HEADLESS, "/work", "/state")


def config(spec: SessionSpec = SPEC, theirs: str | None = None, file: str | None = None) -> Json:
    found: Json = json.loads(overlay(spec, theirs, file))
    return found


def test_without_wishes_only_the_updater_is_turned_off() -> None:
    assert config() == {"autoupdate": False}
    assert rules(None) == []


def test_open_never_asks() -> None:
    found = config(replace(SPEC, approval=Approval.OPEN))
    assert isinstance(found, dict)
    permission = found["permission"]
    assert isinstance(permission, dict)
    assert permission["question"] == "deny"
    assert {v for k, v in permission.items() if k != "question"} == {"allow"}
    # What OpenCode asks for by itself, unless it is named.
    assert {"*", "external_directory", "doom_loop", "read"} <= permission.keys()


def test_guarded_asks_for_the_shell_and_edits_and_read_only_has_neither() -> None:
    for approval, word in ((Approval.GUARDED, "ask"), (Approval.READ_ONLY, "deny")):
        found = {rule["permission"]: rule["action"] for rule in rules(approval)}  # type: ignore[index,call-overload]
        assert (found["bash"], found["edit"]) == (word, word)


def test_what_the_user_has_in_the_same_place_stays() -> None:
    theirs = {"mcp": {"m": {"type": "local"}}, "instructions": ["/theirs.md"], "autoupdate": True}
    spec = replace(SPEC, model="scripted/one/x")
    assert config(spec, json.dumps(theirs), "/ours.md") == {
        "mcp": {"m": {"type": "local"}},
        "instructions": ["/theirs.md", "/ours.md"],
        "autoupdate": False,
        "model": "scripted/one/x",
    }


def test_the_profile_may_say_anything_that_opencode_understands() -> None:
    option: Json = {"snapshot": False, "agent": {"build": {"temperature": 0}}}
    spec = replace(SPEC, options={"config": option})
    theirs = '{"agent": {"plan": {}}, "snapshot": true}'
    assert config(spec, theirs) == {
        "agent": {"plan": {}, "build": {"temperature": 0}},
        "snapshot": False,
        "autoupdate": False,
    }


@pytest.mark.parametrize(
    ("spec", "theirs", "why"),
    [
        (replace(SPEC, model="sonnet"), None, "provider/model"),
        (replace(SPEC, model="/x"), None, "provider/model"),
        (replace(SPEC, options={"cofig": {}}), None, "'cofig'"),
        (replace(SPEC, options={"config": 1}), None, "JSON object"),
        (SPEC, "{bad", "OPENCODE_CONFIG_CONTENT"),
        (SPEC, "[]", "OPENCODE_CONFIG_CONTENT"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    spec: SessionSpec, theirs: str | None, why: str
) -> None:
    with pytest.raises(StartFailed, match=why) as caught:
        overlay(spec, theirs, None)
    assert "\n" not in str(caught.value)
