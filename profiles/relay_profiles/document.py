"""A JSON file that people write: read with every mistake located, and keys traced to their lines."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from .errors import BrokenFile

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

#: A profile is a page of text. Anything much larger is the wrong file (a log, a device, a dump).
MAX_FILE_BYTES = 1_000_000

#: Where a value stands in a document: object keys and array indexes from the top.
KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(frozen=True, slots=True)
class Document:
    """An object read from `path`, with the text it was read from."""

    path: Path
    text: str
    data: dict[str, JsonValue]

    def line(self, key: KeyPath) -> int | None:
        """Line (from 1) of the value at `key`, or of the nearest one around it."""
        lines = _lines(self.text)
        for end in range(len(key), 0, -1):
            if key[:end] in lines:
                return lines[key[:end]]
        return None


def read(path: Path) -> Document | None:
    """The document at `path`, None when there is no such file. Raises `BrokenFile`."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise BrokenFile("not a regular file", file=str(path))
        if info.st_size > MAX_FILE_BYTES:
            raise BrokenFile(
                f"{info.st_size} bytes, more than the {MAX_FILE_BYTES} a profile file may have",
                file=str(path),
            )
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BrokenFile(f"cannot be read: {error.strerror}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise BrokenFile(f"not UTF-8 text (byte {error.start})", file=str(path)) from error
    return parse(path, text)


def parse(path: Path, text: str) -> Document:
    """The document with this `text`. Raises `BrokenFile` naming line and column."""
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise BrokenFile(f"not JSON: {error.msg}", file=place) from error
    except RecursionError as error:
        raise BrokenFile("nested too deeply", file=str(path)) from error
    except ValueError as error:
        raise BrokenFile(str(error), file=str(path)) from error
    if not isinstance(data, dict):
        raise BrokenFile("must be a JSON object ({…})", file=str(path))
    return Document(path, text, data)


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """JSON lets a key stand twice and readers take one of them: here it is a mistake."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name}")


def _lines(text: str) -> dict[KeyPath, int]:
    """Line of every member and element of a valid document."""
    found: dict[KeyPath, int] = {}
    path: list[str | int] = []  # key or index we are at, one entry for each open container
    arrays: list[bool] = []
    key_next = False
    line, last = 1, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", last, token.start())
        last = token.start()
        match token[0]:
            case "{" | "[" as bracket:
                arrays.append(bracket == "[")
                path.append(0 if arrays[-1] else "")
                key_next = not arrays[-1]
                if arrays[-1]:
                    found[tuple(path)] = line
            case "}" | "]":
                arrays.pop()
                path.pop()
            case ",":
                key_next = not arrays[-1]
                if arrays[-1]:
                    path[-1] = int(path[-1]) + 1
                    found[tuple(path)] = line
            case ":":
                key_next = False
            case string if key_next:
                path[-1] = json.loads(string)
                found[tuple(path)] = line
            case _:
                pass
    return found


__all__ = ["MAX_FILE_BYTES", "Document", "KeyPath", "parse", "read"]
