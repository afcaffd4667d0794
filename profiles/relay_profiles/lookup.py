"""Which file a profile comes from.

`--profile` is a path (it contains a `/` or ends in `.json`) to a file with one profile, or a name
that is looked for in this order:

1. the project's `.relay/profiles.json`, upwards from the working directory to the root of the git
   repository, or of the file system where there is none;
2. the user's file: `AGENT_RELAY_PROFILES_FILE`, else `agent-relay/profiles.json` in
   `XDG_CONFIG_HOME` (`~/.config`);
3. the profiles that come with relay-runtime.

The first file that has the name decides, also when its profile is wrong: falling through to a
profile of the same name elsewhere would run an agent with other limits than were written down.
Files are read at each look-up, so an edit counts from the next spawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from .document import Document, read
from .errors import BrokenFile, ProfileError, UnknownProfile, WrongValue, suggestion
from .model import Profile
from .validation import validate

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT_FILE = Path(".relay", "profiles.json")


class Origin(StrEnum):
    """Which kind of file a profile comes from."""

    PATH = "path"
    PROJECT = "project"
    USER = "user"
    BUNDLED = "bundled"


@dataclass(frozen=True, slots=True)
class Found:
    """A valid profile. A relative `cwd` in it is relative to `base`; None: to the caller's."""

    name: str
    profile: Profile
    origin: Origin
    file: Path
    base: Path | None


@dataclass(frozen=True, slots=True)
class Listing:
    """All profiles that a name could mean here, and what is wrong with the ones that are not."""

    profiles: tuple[Found, ...]
    problems: tuple[ProfileError, ...]


def is_path(profile: str) -> bool:
    """Whether this value of `--profile` means a file."""
    return "/" in profile or profile.endswith(".json")


def find(profile: str, cwd: Path, environ: Mapping[str, str]) -> Found:
    """The profile that `profile` means. Raises `ProfileError`."""
    if is_path(profile):
        return _from_path(cwd / Path(profile).expanduser())
    known: set[str] = set()
    for origin, document in _documents(cwd, environ):
        if profile in _names(document):
            return _member(origin, document, profile)
        known |= _names(document)
    if profile in (bundled := _bundled()):
        return _single(bundled[profile], Origin.BUNDLED, base=None)
    raise UnknownProfile(f"no profile named {profile!r}{suggestion(profile, known | set(bundled))}")


def listing(cwd: Path, environ: Mapping[str, str]) -> Listing:
    """Everything `find` could find by name, each name once, first file first."""
    found: dict[str, Found] = {}
    problems: list[ProfileError] = []
    taken: set[str] = set()
    for origin, path in _sources(cwd, environ):
        try:
            document = read(path)
        except BrokenFile as error:
            problems.append(error)
            continue
        if document is None:
            continue
        for name in sorted(_names(document) - taken):
            taken.add(name)
            try:
                found[name] = _member(origin, document, name)
            except WrongValue as error:
                problems.append(error)
    for name, path in _bundled().items():
        if name not in taken:
            found[name] = _single(path, Origin.BUNDLED, base=None)
    return Listing(tuple(found.values()), tuple(problems))


def check(path: Path) -> list[ProfileError]:
    """Everything that is wrong with a file of one profile or of named ones: one for each profile."""
    try:
        document = read(path)
        if document is None:
            raise BrokenFile("no such file", file=str(path))
        if not _is_catalogue(document):
            validate(document, None)
            return []
    except ProfileError as error:
        return [error]
    problems: list[ProfileError] = []
    for name in sorted(_names(document)):
        try:
            validate(document, name)
        except WrongValue as error:
            problems.append(error)
    return problems


def project_files(cwd: Path) -> list[Path]:
    """Where the project's file may be, nearest first; at most one of them counts."""
    found = []
    for folder in (cwd, *cwd.parents):
        found.append(folder / PROJECT_FILE)
        if (folder / ".git").exists():  # a folder, or a file in a worktree
            break
    return found


def user_file(cwd: Path, environ: Mapping[str, str]) -> Path:
    """The user's file; it need not exist."""
    if named := environ.get("AGENT_RELAY_PROFILES_FILE"):
        return cwd / Path(named).expanduser()
    home = environ.get("HOME") or str(Path.home())
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return Path(config, "agent-relay", "profiles.json")


def _sources(cwd: Path, environ: Mapping[str, str]) -> list[tuple[Origin, Path]]:
    project = [path for path in project_files(cwd) if path.is_file()][:1]
    return [
        *((Origin.PROJECT, path) for path in project),
        (Origin.USER, user_file(cwd, environ)),
    ]


def _documents(cwd: Path, environ: Mapping[str, str]) -> list[tuple[Origin, Document]]:
    read_ones = ((origin, read(path)) for origin, path in _sources(cwd, environ))
    return [(origin, document) for origin, document in read_ones if document]


def _bundled() -> dict[str, Path]:
    folder = Path(str(files(__package__).joinpath("bundled")))
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def _names(document: Document) -> set[str]:
    return {name for name in document.data if name != "$schema"}


def _is_catalogue(document: Document) -> bool:
    """Whether a file holds named profiles rather than being one itself."""
    names = _names(document)
    has_objects = any(isinstance(document.data[name], dict) for name in names)
    return has_objects and not names & set(Profile.model_fields)


def _from_path(path: Path) -> Found:
    document = read(path)
    if document is None:
        raise UnknownProfile("no such profile file", file=str(path))
    if _is_catalogue(document):
        names = ", ".join(sorted(_names(document)))
        raise WrongValue(
            f"holds named profiles: give one of these names as the profile ({names}) "
            f"and set AGENT_RELAY_PROFILES_FILE to this file",
            file=str(path),
        )
    return _single(path, Origin.PATH, base=path.parent, document=document)


def _single(
    path: Path, origin: Origin, *, base: Path | None, document: Document | None = None
) -> Found:
    document = document or read(path)
    if document is None:
        raise BrokenFile("no such file", file=str(path))
    return Found(path.stem, validate(document, None), origin, path, base)


def _member(origin: Origin, document: Document, name: str) -> Found:
    folder = document.path.parent
    base = folder.parent if origin is Origin.PROJECT else folder
    return Found(name, validate(document, name), origin, document.path, base)


__all__ = [
    "PROJECT_FILE",
    "Found",
    "Listing",
    "Origin",
    "check",
    "find",
    "is_path",
    "listing",
    "project_files",
    "user_file",
]
