"""What can be wrong with a profile, in one line that says where it is and what to do.

ProfileError          base; catch this one
├── UnknownProfile    no file has a profile of that name
├── BrokenFile        a file cannot be read or is not JSON
└── WrongValue        a field that does not exist, or a value it cannot have
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ProfileError(ValueError):
    """`file`, `line` (from 1) and `key` (dotted path) are None where they do not apply."""

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        place = f"{file}:{line}" if file and line else file
        super().__init__(": ".join(part for part in (place, key, problem) if part))
        self.problem = problem
        self.file = file
        self.line = line
        self.key = key


class UnknownProfile(ProfileError):
    """Raised when no file has a profile of that name."""


class BrokenFile(ProfileError):
    """Raised when a profile file cannot be read or is not the JSON it should be."""


class WrongValue(ProfileError):
    """Raised when a profile has a field that does not exist or a value it cannot have."""


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or the known names when nothing is near, or nothing when none."""
    names = sorted(known)
    near = get_close_matches(wrong, names, n=1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (known: {', '.join(names)})" if names else ""


__all__ = ["BrokenFile", "ProfileError", "UnknownProfile", "WrongValue", "suggestion"]
