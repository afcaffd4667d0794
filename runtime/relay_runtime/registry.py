"""Drivers by entry point: group `relay_runtime.drivers`, name of the harness, a `Harness`.

Ours come in by the same door as everyone's. A driver that cannot be loaded is reported when it is
asked for and never keeps another from loading.
"""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from .contract import Harness

GROUP = "relay_runtime.drivers"

# --- errors ---------------------------------------------------------------------------------------
#
# RegistryError
# ├── UnknownHarness     no package offers it: correct the name, or install its driver
# ├── DuplicateHarness   several packages offer it: uninstall all but one
# └── BrokenDriver       its package does not load: repair or uninstall that package


class RegistryError(Exception):
    """Base of what `load` raises. The message is one line that says what to do."""


class UnknownHarness(RegistryError):
    """Raised when no installed package offers a driver of this name. `candidates`: what it may be."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.candidates = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {self.candidates[0]}? " if self.candidates else ""
        super().__init__(f"unknown harness {name!r}: {hint}there is {', '.join(known) or 'none'}")


class DuplicateHarness(RegistryError):
    """Raised when several packages offer the name; none is chosen, whatever the install order."""

    def __init__(self, name: str, packages: list[str]) -> None:
        self.packages = packages
        super().__init__(
            f"harness {name!r} is offered by {' and '.join(packages)}: uninstall all but one"
        )


class BrokenDriver(RegistryError):
    """Raised when the driver's package cannot be imported or offers something else."""

    def __init__(self, name: str, package: str, why: str) -> None:
        self.package = package
        super().__init__(f"the driver of {name!r} (package {package}) does not load: {why}")


def names() -> list[str]:
    """Every harness that some installed package offers, sorted. Imports none of them."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load(name: str) -> Harness:
    """The harness of this name. Raises `RegistryError`; see the tree above."""
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        raise UnknownHarness(name, names())
    if len(points) > 1:
        raise DuplicateHarness(name, sorted(_package(point) for point in points))
    try:
        loaded: object = points[0].load()
    # Whatever a foreign module does while it is imported, also sys.exit: the others must go on.
    except (Exception, SystemExit) as error:
        lines = str(error).splitlines()
        why = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise BrokenDriver(name, _package(points[0]), why) from error
    if not isinstance(loaded, Harness):
        why = f"{points[0].value} is a {type(loaded).__name__}, not a Harness"
        raise BrokenDriver(name, _package(points[0]), why)
    return loaded


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


__all__ = [
    "GROUP",
    "BrokenDriver",
    "DuplicateHarness",
    "RegistryError",
    "UnknownHarness",
    "load",
    "names",
]
