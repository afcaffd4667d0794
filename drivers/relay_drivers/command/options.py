"""The `options` of a profile for the command harness.

prompt           pattern of the prompt: the program waits for input when the end of the line
                 with the cursor (and up to three lines above it) matches and it is quiet
busy             pattern that, anywhere in these lines, says that it works although they match
quiet_s          how long it must say nothing; 0.25 with a prompt pattern, else 1
ready_timeout_s  longest time until the first prompt; 60
submit           what ends an input; "\\r"
bracketed_paste  true, false, or "auto" (default): as the program asks for it
line_bytes       longest input when it takes no bracketed paste; 4095, the limit of a terminal
startup          list of {"expect": pattern, "answer": text}: dialogs before the first prompt;
                 each is answered once, when it shows, with exactly that text ("y\\r")
encoding         of the program's input and output; utf-8
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from relay_runtime.contract import StartFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import Json

#: A program that draws its prompt in several writes does so within this.
QUIET_S = 0.25
#: Without a pattern silence is all there is, and programs pause while they think.
QUIET_ALONE_S = 1.0
READY_TIMEOUT_S = 60.0
#: The kernel cuts a line that a program reads in the ordinary (canonical) way here.
LINE_BYTES = 4095
#: Waits longer than an hour are a mistake in the unit.
MAX_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Dialog:
    """A question at start-up and the bytes that answer it."""

    expect: re.Pattern[str]
    answer: str


@dataclass(frozen=True, slots=True)
class Options:
    """See the module. `paste` None follows the program."""

    prompt: re.Pattern[str] | None = None
    busy: re.Pattern[str] | None = None
    quiet_s: float = QUIET_ALONE_S
    ready_timeout_s: float = READY_TIMEOUT_S
    submit: str = "\r"
    paste: bool | None = None
    line_bytes: int = LINE_BYTES
    startup: tuple[Dialog, ...] = ()
    encoding: str = "utf-8"


def parse(given: Mapping[str, Json]) -> Options:
    """Raises `StartFailed`, naming the option, its fault and the likely one where it is misspelt."""
    known = _KNOWN
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known)}"
            raise StartFailed(f"options.{name}: the command harness has no such option; {hint}")
    prompt = _pattern(given, "prompt")
    return Options(
        prompt=prompt,
        busy=_pattern(given, "busy"),
        quiet_s=_seconds(given, "quiet_s", QUIET_S if prompt else QUIET_ALONE_S),
        ready_timeout_s=_seconds(given, "ready_timeout_s", READY_TIMEOUT_S),
        submit=_text(given, "submit", "\r"),
        paste=_paste(given),
        line_bytes=_bytes(given, "line_bytes", LINE_BYTES),
        startup=dialogs(given.get("startup", []), "startup"),
        encoding=_encoding(_text(given, "encoding", "utf-8")),
    )


_KNOWN = (
    "prompt",
    "busy",
    "quiet_s",
    "ready_timeout_s",
    "submit",
    "bracketed_paste",
    "line_bytes",
    "startup",
    "encoding",
)


def _wrong(name: str, problem: str) -> StartFailed:
    return StartFailed(f"options.{name}: {problem}")


def _text(given: Mapping[str, Json], name: str, default: str) -> str:
    value = given.get(name, default)
    if not isinstance(value, str) or not value:
        raise _wrong(name, "must be a text")
    return value


def _compiled(text: str, name: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise _wrong(name, f"not a pattern: {error}") from None


def _pattern(given: Mapping[str, Json], name: str) -> re.Pattern[str] | None:
    return _compiled(_text(given, name, ""), name) if given.get(name) is not None else None


def _seconds(given: Mapping[str, Json], name: str, default: float) -> float:
    value = given.get(name, default)
    if type(value) not in (int, float) or not 0 < float(str(value)) <= MAX_WAIT_S:
        raise _wrong(name, f"must be a number of seconds up to {MAX_WAIT_S:.0f}")
    return float(str(value))


def _bytes(given: Mapping[str, Json], name: str, default: int) -> int:
    value = given.get(name, default)
    if type(value) is not int or value < 1:
        raise _wrong(name, "must be a number of bytes")
    return value


def _paste(given: Mapping[str, Json]) -> bool | None:
    value = given.get("bracketed_paste", "auto")
    if value == "auto":
        return None
    if not isinstance(value, bool):
        raise _wrong("bracketed_paste", 'must be true, false or "auto"')
    return value


def dialogs(value: Json, option: str) -> tuple[Dialog, ...]:
    """Questions and their answers, as a profile writes them. Raises `StartFailed`."""
    if not isinstance(value, list):
        raise _wrong(option, "must be a list")
    found: list[Dialog] = []
    for number, item in enumerate(value):
        name = f"{option}.{number}"
        match item:
            case {"expect": str(expect), "answer": str(answer), **rest} if not rest and expect:
                found.append(Dialog(_compiled(expect, f"{name}.expect"), answer))
            case _:
                raise _wrong(name, 'must be {"expect": pattern, "answer": text}')
    return tuple(found)


def _encoding(name: str) -> str:
    """Only encodings whose bytes below 0x80 are ASCII: others hide control bytes in letters."""
    ascii_bytes = bytes(range(128))
    try:
        codec = codecs.lookup(name)
        plain = ascii_bytes.decode(name) == ascii_bytes.decode("ascii")
        plain = plain and all(byte >= 0x20 for byte in "aé字".encode(name, "replace"))
    except (LookupError, UnicodeError):
        raise _wrong(
            "encoding", f"{name!r} is not a text encoding; leave it out for utf-8"
        ) from None
    if not plain:
        raise _wrong("encoding", f"{name!r} cannot be typed into a terminal; use utf-8")
    return codec.name


__all__ = ["Dialog", "Options", "dialogs", "parse"]
