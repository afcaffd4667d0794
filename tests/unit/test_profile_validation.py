"""What a profile file may say, and what people are told when it says something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay_profiles.document import Document, parse
from relay_profiles.errors import BrokenFile, WrongValue
from relay_profiles.model import Approval, Mode, Policy, Profile, Resume
from relay_profiles.validation import validate

FILE = Path("/p/.relay/profiles.json")


def document(text: str) -> Document:
    return parse(FILE, text)


def wrong(profile: object, name: str = "x") -> str:
    text = json.dumps({name: profile}, indent=1)
    with pytest.raises(WrongValue) as caught:
        validate(document(text), name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_fields_of_the_readme_example_are_read() -> None:
    profile = validate(
        document(
            """{"backend-tester": {
                "label": "backend tester",
                "tags": ["backend", "api", "test"],
                "capabilities": ["chat", "review", "test", "backend"],
                "channels": ["backend", "qa"],
                "approval": "guarded",
                "meta": {"role": "backend-tester"}
            }}"""
        ),
        "backend-tester",
    )
    assert profile.label == "backend tester"
    assert profile.tags == ("backend", "api", "test")
    assert profile.approval is Approval.GUARDED
    assert profile.meta == {"role": "backend-tester"}


def test_every_part_of_a_profile_can_be_set() -> None:
    profile = validate(
        document(
            """{"x": {
                "description": "d", "harness": "command", "mode": "pty", "model": "m",
                "cwd": "sub", "env": {"A": "1"}, "args": ["-v"], "argv": ["cat"],
                "instructions": "i", "task": "t", "options": {"prompt": "> "},
                "restart": {"policy": "always", "max_restarts": 2, "period_s": 60,
                            "backoff": {"initial_s": 0.5, "factor": 3, "max_s": 9, "jitter": 0},
                            "stable_after_s": 5, "resume": "fresh", "continue_turn": true},
                "stop": {"drain_s": 1, "interrupt_s": 0, "term_s": 2},
                "limits": {"queue": 5, "log_bytes": 100000,
                           "watchdog": {"start_s": 3, "turn_idle_s": 4}}
            }}"""
        ),
        "x",
    )
    assert profile.mode is Mode.PTY
    assert profile.restart.policy is Policy.ALWAYS
    assert profile.restart.resume is Resume.FRESH
    assert profile.restart.backoff.factor == 3
    assert profile.limits.watchdog.turn_idle_s == 4


def test_an_empty_profile_is_all_defaults() -> None:
    assert validate(document('{"x": {}}'), "x") == Profile()


def test_an_unknown_field_is_named_with_its_file_line_and_the_likely_one() -> None:
    assert wrong({"label": "a", "restart": {"polcy": "never"}}) == (
        f"{FILE}:5: x.restart.polcy: no such field (did you mean 'policy'?)"
    )


def test_an_unknown_field_unlike_any_lists_the_fields_there_are() -> None:
    assert wrong({"stop": {"zzz": 1}}).endswith(
        "x.stop.zzz: no such field (known: drain_s, interrupt_s, term_s)"
    )


def test_the_unknown_field_is_told_before_the_wrong_values_and_the_rest_are_counted() -> None:
    assert wrong({"tags": 5, "labl": "a"}).endswith(
        "x.labl: no such field (did you mean 'label'?) (and 1 more)"
    )


def test_a_misspelt_choice_gets_the_choices_and_the_likely_one() -> None:
    assert wrong({"approval": "gaurded"}).endswith(
        "x.approval: must be 'open', 'guarded' or 'read-only' (did you mean 'guarded'?)"
    )


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        ({"tags": "backend"}, "x.tags: must be a valid array, this is a text"),
        ({"limits": {"queue": "5"}}, "x.limits.queue: must be a valid integer, this is a text"),
        ({"limits": {"queue": 0}}, "x.limits.queue: must be greater than or equal to 1"),
        ({"stop": {"drain_s": True}}, "x.stop.drain_s: must be a valid number, this is a truth"),
        ({"label": ""}, "x.label: must have at least 1 character"),
        (
            {"restart": {"backoff": {"initial_s": 90}}},
            "x.restart.backoff: max_s is below initial_s",
        ),
        ({"cwd": ""}, "x.cwd: must not be empty"),
        ({"args": ["a\0b"]}, "x.args.0: must not contain a NUL"),
        ({"env": {"A=B": "1"}}, "x.env.A=B: is not a name"),
        ({"restart": None}, "x.restart: must be an object, this is null"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(profile: object, told: str) -> None:
    assert told in wrong(profile)


def test_a_wrong_value_in_the_environment_is_not_repeated_in_the_message() -> None:
    assert "hunter2" not in wrong({"env": {"TOKEN": ["hunter2"]}})


def test_a_profile_that_is_no_object_is_told_so() -> None:
    assert wrong(["a"]) == f"{FILE}:2: x: a profile is an object ({{…}}), this is a list"


def test_a_file_that_is_one_profile_may_name_its_schema() -> None:
    assert validate(document('{"$schema": "…", "label": "a"}'), None).label == "a"


def test_broken_json_is_told_with_line_and_column() -> None:
    with pytest.raises(BrokenFile, match=r"^/p/.relay/profiles.json:2:7: not JSON: "):
        document('{\n  "a" 1\n}')


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "must be a JSON object"),
        ("", "not JSON"),
        ('{"a": NaN}', "not JSON: NaN"),
        ('{"a": {}, "a": {}}', "the key 'a' stands twice"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "digit"),
    ],
)
def test_a_file_that_is_not_the_json_it_should_be_gets_one_line(text: str, told: str) -> None:
    with pytest.raises(BrokenFile) as caught:
        document(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_are_those_of_the_key_even_when_its_text_stands_earlier() -> None:
    text = """{
  "a": {"meta": {"b": ["label", {"label": "x"}]},
    "label": "c"},
  "b": {"tags": [
    "one",
    "two"]}
}"""
    found = document(text)
    assert found.line(("a", "meta", "b", 1, "label")) == 2
    assert found.line(("a", "label")) == 3
    assert found.line(("b", "tags", 0)) == 4  # where the list opens
    assert found.line(("b", "tags", 1)) == 5
    assert found.line(("b", "missing")) == 4
    assert found.line(()) is None
