"""Reading what codex says: its JSON is taken as it comes, and what is missing or odd reads as empty.

A newer codex may add fields, leave some out or change a type. None of that may end a session, so
nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relay_runtime.contract import Json

#: A JSON object of codex.
Obj = Mapping[str, Json]

_EMPTY: Obj = {}


def obj(value: object) -> Obj:
    """`value` when it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else _EMPTY


def sub(value: Obj, key: str) -> Obj:
    return obj(value.get(key))


def text(value: Obj, key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def number(value: Obj, key: str) -> float | None:
    found = value.get(key)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def count(value: Obj, key: str) -> int:
    """A number of things: never negative, 0 when codex does not say."""
    return max(int(number(value, key) or 0), 0)


def objects(value: Obj, key: str) -> Iterator[Obj]:
    """The objects of a list; anything else in it is passed over."""
    found = value.get(key)
    if isinstance(found, list | tuple):
        yield from (item for item in found if isinstance(item, Mapping))


def texts(value: Obj, key: str) -> list[str]:
    found = value.get(key)
    if not isinstance(found, list | tuple):
        return []
    return [item for item in found if isinstance(item, str)]


__all__ = ["Obj", "count", "number", "obj", "objects", "sub", "text", "texts"]
