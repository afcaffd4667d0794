"""Commands on profiles: which there are, what one says, whether a file is right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .caller import working_directory
from .failure import Exit, fail
from .options import AsJson

if TYPE_CHECKING:
    from relay_profiles.errors import ProfileError

profiles = typer.Typer(rich_markup_mode=None, help="Look at named settings for sessions.")


@profiles.command("list")
def list_(json: AsJson = False) -> None:
    """List the profiles that a name can mean here, nearest file first."""
    from relay_profiles.lookup import listing

    found = listing(working_directory(), os.environ)
    rows = [
        {
            "name": one.name,
            "origin": one.origin.value,
            "harness": one.profile.harness,
            "description": one.profile.description,
            "file": str(one.file),
        }
        for one in found.profiles
    ]
    if json:
        output.say_json(rows)
    else:
        cells = [[output.one_line(value or "-") for value in row.values()] for row in rows]
        output.say(output.table(("NAME", "FROM", "HARNESS", "DESCRIPTION", "FILE"), cells))
    _report(found.problems)


@profiles.command()
def show(
    name: Annotated[str, typer.Argument(help="Profile name, or path to a file.")],
    json: AsJson = False,
) -> None:
    """Show what a session with this profile would get, and where each value is from."""
    from relay_profiles.errors import ProfileError
    from relay_profiles.resolve import Flags, resolve, shown

    try:
        settings = shown(resolve(Flags(profile=name), os.environ, working_directory()))
    except ProfileError as error:
        fail(Exit.USAGE, str(error))
    origins = settings["origins"]
    if json or not isinstance(origins, dict):
        output.say_json(settings)
        return
    del settings["origins"]
    rows = [
        (key, output.one_line(_value(value)), str(origins.get(key, "default")))
        for key, value in settings.items()
        if value not in (None, (), [], {})
    ]
    output.say(output.table(("FIELD", "VALUE", "FROM"), rows))


@profiles.command()
def validate(
    files: Annotated[
        list[str] | None, typer.Argument(help="Profile files; default: those that count here.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Check profile files; every mistake is told with its file, line and key."""
    from relay_profiles.lookup import PROJECT_FILE, check, project_files, user_file

    here = working_directory()
    standard = [*project_files(here), user_file(here, os.environ)]
    paths = [Path(file) for file in files or ()] or [path for path in standard if path.is_file()]
    problems = [problem for path in paths for problem in check(path)]
    if json:
        found = [
            {"file": one.file, "line": one.line, "key": one.key, "problem": one.problem}
            for one in problems
        ]
        output.say_json({"files": [str(path) for path in paths], "problems": found})
    elif not paths:
        output.say(f"no profile file here ({PROJECT_FILE}, {user_file(here, os.environ)})")
    elif not problems:
        output.say(f"{len(paths)} file{'' if len(paths) == 1 else 's'} without a mistake")
    _report(problems)


@profiles.command()
def schema(json: AsJson = False) -> None:
    """Print the JSON Schema of a profiles file."""
    from relay_profiles.schema import schema as generate

    output.say_json(generate())


def _report(problems: tuple[ProfileError, ...] | list[ProfileError]) -> None:
    for problem in problems[:-1]:
        output.note(f"relay-runtime: {output.one_line(str(problem), 500)}")
    if problems:
        fail(Exit.FAILED, str(problems[-1]))


def _value(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


__all__ = ["profiles"]
