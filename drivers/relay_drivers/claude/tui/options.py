"""The `options` of a profile for Claude in a terminal.

startup        list of {"expect": pattern, "answer": keys}: dialogues before the first prompt (trust
               of the folder, an API key, bypass of permissions); each is answered once, when it
               shows, with exactly these keys: "\\u001b[B\\r" is Down, Enter
quiet_s        how long nobody must have typed before a message is typed; 30
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from relay_runtime.contract import StartFailed

from ...command.options import Dialog, dialogs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import Json

#: People who stop for longer have left the keyboard, or think: their draft stays as it is.
QUIET_S: Final = 30.0
#: More is a mistake in the unit.
_MAX_QUIET_S: Final = 3600.0
_KNOWN: Final = ("startup", "quiet_s")


@dataclass(frozen=True, slots=True)
class Options:
    startup: tuple[Dialog, ...] = ()
    quiet_s: float = QUIET_S


def parse(given: Mapping[str, Json]) -> Options:
    """Raises `StartFailed`, which names the option and its fault."""
    for name in given:
        if name not in _KNOWN:
            near = get_close_matches(name, _KNOWN, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(_KNOWN)}"
            raise StartFailed(f"options.{name}: claude in a terminal has no such option; {hint}")
    quiet_s = given.get("quiet_s", QUIET_S)
    if type(quiet_s) not in (int, float) or not 0 <= float(str(quiet_s)) <= _MAX_QUIET_S:
        raise StartFailed(f"options.quiet_s: must be a number of seconds up to {_MAX_QUIET_S:.0f}")
    return Options(dialogs(given.get("startup", []), "startup"), float(str(quiet_s)))


__all__ = ["Options", "parse"]
