"""Flags over environment over profile over defaults: one frozen answer, with where each value is from.

    flags          what the user typed for this spawn
    environment    AGENT_RELAY_LABEL, _TAGS, _CAPS, _CHANNELS, _APPROVAL; lists are comma-separated,
                   an empty variable counts as unset, AGENT_RELAY_CHANNELS=all means all
    profile        found by name or path; the name may come from AGENT_RELAY_PROFILE

A value replaces the one below it. Two are joined instead: `env`, name by name, and `args`, where
the profile's come first.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from .errors import WrongValue
from .lookup import Found, find
from .model import Approval, Limits, Mode, Profile, Restart, Stop
from .validation import problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
S = TypeVar("S")

_VARIABLES = {
    "label": "AGENT_RELAY_LABEL",
    "tags": "AGENT_RELAY_TAGS",
    "capabilities": "AGENT_RELAY_CAPS",
    "channels": "AGENT_RELAY_CHANNELS",
    "approval": "AGENT_RELAY_APPROVAL",
}
_LISTS = frozenset({"tags", "capabilities", "channels"})

_SECRET = re.compile("KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
MASK = "********"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What was given for this one spawn; None where nothing was."""

    profile: str | None = None
    harness: str | None = None
    mode: Mode | None = None
    model: str | None = None
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    instructions: str | None = None
    task: str | None = None
    label: str | None = None
    tags: tuple[str, ...] | None = None
    capabilities: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Settings of one session. `cwd` is absolute; `env` is laid over the caller's environment.

    `origins` says for each field that is not a default where it is from: `flag`, the name of a
    variable, or `profile NAME (FILE)`.
    """

    profile: str | None
    file: str | None
    harness: str | None
    mode: Mode | None
    model: str | None
    cwd: str
    env: Mapping[str, str]
    args: tuple[str, ...]
    argv: tuple[str, ...]
    instructions: str | None
    task: str | None
    options: Mapping[str, JsonValue]
    label: str | None
    tags: tuple[str, ...]
    capabilities: tuple[str, ...]
    channels: tuple[str, ...]
    approval: Approval | None
    meta: Mapping[str, JsonValue]
    restart: Restart
    stop: Stop
    limits: Limits
    origins: Mapping[str, str]


def resolve(flags: Flags, environ: Mapping[str, str], cwd: Path) -> Resolved:
    """Look the profile up, if one is named, and combine. `cwd` is the caller's, absolute.

    Raises `ProfileError`.
    """
    name = flags.profile or environ.get("AGENT_RELAY_PROFILE")
    return combine(find(name, cwd, environ) if name else None, flags, environ, str(cwd))


def combine(
    found: Found | None, flags: Flags, environ: Mapping[str, str], cwd: str = "/"
) -> Resolved:
    """As `resolve`, with the profile already found. Pure."""
    profile = found.profile if found else Profile()
    pick = _Picker(found, _from_environment(environ))
    home = environ.get("HOME", "~")
    base = str(found.base) if found and found.base else cwd
    folder = pick("cwd", lambda p: p.cwd and _absolute(p.cwd, base, home), flags.cwd)
    return Resolved(
        profile=found.name if found else None,
        file=str(found.file) if found else None,
        harness=pick("harness", lambda p: p.harness, _same_harness(found, flags)),
        mode=pick("mode", lambda p: p.mode, flags.mode),
        model=pick("model", lambda p: p.model, flags.model),
        cwd=_absolute(folder or ".", cwd, home),
        env=pick("env", lambda p: p.env, {**profile.env, **flags.env} if flags.env else None),
        args=pick("args", lambda p: p.args, profile.args + flags.args if flags.args else None),
        argv=pick("argv", lambda p: p.argv),
        instructions=pick("instructions", lambda p: p.instructions, flags.instructions),
        task=pick("task", lambda p: p.task, flags.task),
        options=pick("options", lambda p: p.options),
        label=pick("label", lambda p: p.label, flags.label),
        tags=pick("tags", lambda p: p.tags, flags.tags),
        capabilities=pick("capabilities", lambda p: p.capabilities, flags.capabilities),
        channels=pick("channels", lambda p: p.channels, flags.channels),
        approval=pick("approval", lambda p: p.approval, flags.approval),
        meta=pick("meta", lambda p: p.meta),
        restart=pick("restart", lambda p: p.restart),
        stop=pick("stop", lambda p: p.stop),
        limits=pick("limits", lambda p: p.limits),
        origins=pick.origins,
    )


class _Picker:
    """Takes each field from the first layer that sets it, and notes which one that was."""

    def __init__(self, found: Found | None, environment: Profile) -> None:
        self.origins: dict[str, str] = {}
        self._environment = environment
        self._profile = found.profile if found else Profile()
        self._place = f"profile {found.name} ({found.file})" if found else ""

    def __call__(self, name: str, get: Callable[[Profile], T], flag: S | None = None) -> T | S:
        if flag is not None:
            self.origins[name] = "flag"
            return flag
        if name in self._environment.model_fields_set:
            self.origins[name] = _VARIABLES[name]
            return get(self._environment)
        if name in self._profile.model_fields_set:
            self.origins[name] = self._place
        return get(self._profile)


def _from_environment(environ: Mapping[str, str]) -> Profile:
    """What the AGENT_RELAY_* variables say, as a profile that sets only that."""
    values: dict[str, JsonValue] = {}
    for name, variable in _VARIABLES.items():
        given = environ.get(variable, "").strip()
        if not given:
            continue
        if name in _LISTS:
            items: list[JsonValue] = [item for part in given.split(",") if (item := part.strip())]
            values[name] = [] if (name, given) == ("channels", "all") else items
        else:
            values[name] = given
        try:
            Profile.model_validate_json(json.dumps({name: values[name]}), strict=True)
        except ValidationError as error:
            raise WrongValue(problem(error.errors()[0]), key=variable) from None
    return Profile.model_validate_json(json.dumps(values), strict=True)


def _same_harness(found: Found | None, flags: Flags) -> str | None:
    """The harness given as a flag. Raises when the profile's settings are for another one."""
    if found is None or found.profile.harness in (None, flags.harness) or flags.harness is None:
        return flags.harness
    bound = found.profile.model_fields_set & {"args", "argv", "model", "options"}
    bound -= {"model"} if flags.model else set()
    if bound:
        raise WrongValue(
            f"sets {', '.join(sorted(bound))} for {found.profile.harness}: "
            f"start {found.profile.harness}, or choose another profile for {flags.harness}",
            file=str(found.file),
            key=found.name,
        )
    return flags.harness


def _absolute(path: str, base: str, home: str) -> str:
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    return os.path.normpath(os.path.join(base, path))


def shown(resolved: Resolved) -> dict[str, JsonValue]:
    """`resolved` for people and `--json`. Values whose name looks like a secret's are masked."""
    result: dict[str, JsonValue] = {}
    for each in fields(resolved):
        value = getattr(resolved, each.name)
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        result[each.name] = _masked(plain)
    return result


def _masked(value: JsonValue | tuple[str, ...], name: str = "") -> JsonValue:
    match value:
        case Mapping():
            return {key: _masked(inner, key) for key, inner in value.items()}
        case list() | tuple():
            return [_masked(inner, name) for inner in value]
        case str() if value and _SECRET.search(name):
            return MASK
        case _:
            return value


__all__ = ["MASK", "Flags", "Resolved", "combine", "resolve", "shown"]
