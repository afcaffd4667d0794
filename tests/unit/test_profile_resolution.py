"""Flags over environment over profile over defaults, and what `profiles show` may print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay_profiles.errors import WrongValue
from relay_profiles.lookup import Found, Origin
from relay_profiles.model import Approval, Mode, Profile
from relay_profiles.resolve import MASK, Flags, combine, shown
from relay_profiles.schema import schema

FILE = Path("/home/u/.config/agent-relay/profiles.json")


def found(**fields: object) -> Found:
    profile = Profile.model_validate_json(json.dumps(fields), strict=True)
    return Found("mine", profile, Origin.USER, FILE, FILE.parent)


def test_without_anything_there_are_the_defaults_and_no_origins() -> None:
    resolved = combine(None, Flags(), {}, "/work")
    assert resolved.cwd == "/work"
    assert resolved.capabilities == ("chat",)
    assert resolved.approval is None
    assert resolved.origins == {}


def test_the_profile_is_over_the_defaults_and_says_where_it_is_from() -> None:
    resolved = combine(found(label="a", mode="pty"), Flags(), {})
    assert (resolved.label, resolved.mode) == ("a", Mode.PTY)
    assert resolved.origins == dict.fromkeys(("label", "mode"), f"profile mine ({FILE})")


def test_the_environment_is_over_the_profile() -> None:
    environ = {
        "AGENT_RELAY_LABEL": "from env",
        "AGENT_RELAY_TAGS": "a, b,,",
        "AGENT_RELAY_CAPS": "chat,review",
        "AGENT_RELAY_CHANNELS": "qa",
        "AGENT_RELAY_APPROVAL": "guarded",
    }
    resolved = combine(found(label="p", tags=["p"], channels=["p"]), Flags(), environ)
    assert resolved.label == "from env"
    assert resolved.tags == ("a", "b")
    assert resolved.capabilities == ("chat", "review")
    assert resolved.channels == ("qa",)
    assert resolved.approval is Approval.GUARDED
    assert resolved.origins["tags"] == "AGENT_RELAY_TAGS"


def test_flags_are_over_the_environment() -> None:
    resolved = combine(None, Flags(label="flag"), {"AGENT_RELAY_LABEL": "env"})
    assert resolved.label == "flag"
    assert resolved.origins == {"label": "flag"}


def test_an_empty_variable_counts_as_unset() -> None:
    assert combine(found(label="p"), Flags(), {"AGENT_RELAY_LABEL": " "}).label == "p"


def test_all_channels_undo_the_channels_of_the_profile() -> None:
    resolved = combine(found(channels=["qa"]), Flags(), {"AGENT_RELAY_CHANNELS": "all"})
    assert resolved.channels == ()
    assert resolved.origins["channels"] == "AGENT_RELAY_CHANNELS"


def test_a_wrong_variable_is_told_by_its_name() -> None:
    with pytest.raises(WrongValue, match=r"^AGENT_RELAY_APPROVAL: must be 'open', .*'guarded'\?"):
        combine(None, Flags(), {"AGENT_RELAY_APPROVAL": "guardd"})


def test_environments_are_joined_and_arguments_follow_those_of_the_profile() -> None:
    profile = found(env={"A": "1", "B": "1"}, args=["-v"])
    resolved = combine(profile, Flags(env={"B": "2"}, args=("-x",)), {})
    assert resolved.env == {"A": "1", "B": "2"}
    assert resolved.args == ("-v", "-x")


@pytest.mark.parametrize(
    ("in_profile", "in_flag", "cwd"),
    [
        (None, None, "/work"),
        ("api", None, f"{FILE.parent}/api"),
        ("/abs", None, "/abs"),
        ("~/code", None, "/home/u/code"),
        (None, "sub", "/work/sub"),
        ("api", "../x", "/x"),
        ("~other", None, f"{FILE.parent}/~other"),
    ],
)
def test_a_folder_is_relative_to_who_wrote_it(
    in_profile: str | None, in_flag: str | None, cwd: str
) -> None:
    profile = found(cwd=in_profile) if in_profile else found()
    resolved = combine(profile, Flags(cwd=in_flag), {"HOME": "/home/u"}, "/work")
    assert resolved.cwd == cwd


def test_settings_for_one_harness_are_not_given_to_another() -> None:
    profile = found(harness="claude", model="opus", options={"a": 1})
    with pytest.raises(WrongValue, match=r"mine: sets model, options for claude: start claude, or"):
        combine(profile, Flags(harness="codex"), {})
    with pytest.raises(WrongValue, match=r"sets options for claude"):
        combine(profile, Flags(harness="codex", model="gpt"), {})


def test_a_profile_that_only_prefers_a_harness_serves_another() -> None:
    assert combine(found(harness="claude"), Flags(harness="codex"), {}).harness == "codex"


def test_what_is_shown_masks_values_whose_name_looks_like_a_secret() -> None:
    profile = found(
        env={"API_KEY": "k", "GITHUB_TOKEN": "t", "PATH": "/bin", "EMPTY_SECRET": ""},
        meta={"deep": [{"db_password": "p"}], "role": "r"},
        options={"client_secret": ["s"]},
    )
    text = json.dumps(view := shown(combine(profile, Flags(), {})))
    assert view["env"] == {
        "API_KEY": MASK,
        "GITHUB_TOKEN": MASK,
        "PATH": "/bin",
        "EMPTY_SECRET": "",
    }
    assert view["meta"] == {"deep": [{"db_password": MASK}], "role": "r"}
    assert view["options"] == {"client_secret": [MASK]}
    assert view["restart"] == profile.profile.restart.model_dump(mode="json")
    assert '"origins": {"' in text


def test_every_field_is_described_in_the_schema_and_unknown_ones_are_refused() -> None:
    definitions = schema()["$defs"]
    assert isinstance(definitions, dict)
    for definition in definitions.values():
        assert isinstance(definition, dict)
        if definition.get("type") == "object":
            assert definition["additionalProperties"] is False
            properties = definition["properties"]
            assert isinstance(properties, dict)
            for field in properties.values():
                assert isinstance(field, dict)
                assert field.get("description")
