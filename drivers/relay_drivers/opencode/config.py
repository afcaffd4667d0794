"""What a session asks of OpenCode, as its inline configuration. Pure.

`OPENCODE_CONFIG_CONTENT` is merged over the user's own files by OpenCode itself, key by key, and
lists of instructions are joined; so nothing of the user's is rewritten, and nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

from relay_runtime.contract import Approval, StartFailed

if TYPE_CHECKING:
    from relay_runtime.contract import Json, SessionSpec

VARIABLE = "OPENCODE_CONFIG_CONTENT"

#: By permission. Single words replace whatever finer rules the user has for the same permission.
_RULES: Mapping[Approval, Mapping[str, str]] = {
    Approval.OPEN: {
        "*": "allow",
        "bash": "allow",
        "edit": "allow",
        "read": "allow",
        "webfetch": "allow",
        "task": "allow",
        "external_directory": "allow",
        "doom_loop": "allow",
        "question": "deny",  # nobody is there to answer: takes the tool away
    },
    Approval.GUARDED: {
        "bash": "ask",
        "edit": "ask",
        "external_directory": "ask",
        "doom_loop": "ask",
    },
    # A shell cannot be told apart from one that writes, so there is none.
    Approval.READ_ONLY: {"bash": "deny", "edit": "deny"},
}


def overlay(spec: SessionSpec, theirs: str | None, instructions: str | None) -> str:
    """The inline configuration. `theirs` is what the session's environment has in its place;
    `instructions` the path of a file with ours. Raises `StartFailed`."""
    config = _merged(_read(theirs), _options(spec))
    ours: dict[str, Json] = {"autoupdate": False}
    if spec.approval is not None:
        ours["permission"] = permissions(spec.approval)
    if spec.model is not None:
        ours["model"] = _model(spec.model)
    if instructions is not None:
        ours["instructions"] = [instructions]
    return json.dumps(_merged(config, ours))


def permissions(approval: Approval) -> Mapping[str, str]:
    """By permission, as the configuration spells them."""
    return _RULES[approval]


def rules(approval: Approval | None) -> list[Json]:
    """For the conversation itself, where they also win over what an agent definition allows."""
    found = permissions(approval) if approval is not None else {}
    return [{"permission": k, "pattern": "*", "action": v} for k, v in found.items()]


def _read(theirs: str | None) -> Mapping[str, Json]:
    try:
        config: Json = json.loads(theirs) if theirs else {}
    except ValueError:
        config = None
    if isinstance(config, Mapping):
        return config
    raise StartFailed(f"{VARIABLE} is not a JSON object; correct it or unset it")


def _options(spec: SessionSpec) -> Mapping[str, Json]:
    for name in spec.options.keys() - {"config"}:
        raise StartFailed(f"opencode has no option {name!r}; it takes `config`, a JSON object")
    config = spec.options.get("config", {})
    if isinstance(config, Mapping):
        return config
    raise StartFailed("the opencode option `config` must be a JSON object, as in opencode.json")


def _model(model: str) -> str:
    provider, slash, name = model.partition("/")
    if provider and slash and name:
        return model
    raise StartFailed(f"opencode wants a model as provider/model, not {model!r}")


def _merged(under: Mapping[str, Json], over: Mapping[str, Json]) -> dict[str, Json]:
    merged = dict(under)
    for key, value in over.items():
        mine = merged.get(key)
        if isinstance(mine, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(mine, value)
        elif key == "instructions" and _is_list(mine) and _is_list(value):
            merged[key] = [*mine, *value]
        else:
            merged[key] = value
    return merged


def _is_list(value: Json) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


__all__ = ["VARIABLE", "overlay", "permissions", "rules"]
