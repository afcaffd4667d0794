"""Questions that Claude's terminal interface asks in place of its input box, as they are shown. Pure.

What a model or a message wrote can look like any of them, but it cannot have the cursor, which
stands on the choice that Enter would take. Only what belongs to that choice is read, and a dialogue
that the window is too small for may be known in part: `text` empty, options missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind = Literal["trust", "api-key", "bypass", "onboarding", "permission", "question", "other"]

#: Of what a dialogue says, as shown in a list of sessions.
MAX_TEXT: Final = 300

#: Lines that part a dialogue from what is above it: `▔` for menus, `─` for the rest.
_RULE: Final = re.compile(r"\s*(?:─{3,}|▔{3,})\s*")
#: … and lines inside of it.
_FRAME: Final = re.compile(r"\s*[╌┄─▔╭╰╮╯]{3,}\s*|\s*[↑↓] \d+ more (?:lines?|below|above)\b.*")
#: A choice: where the selection or the end of a scrolled list is marked, its number, its words.
_NUMBERED: Final = re.compile(
    r"(?P<left>\s*(?:[❯↓↑] ?)?\s*)(?P<number>\d{1,2})\.\s*(?P<label>\S.*)"
)
_SELECTED: Final = "❯"
_HELP: Final = re.compile(
    r"\bEsc to (?:cancel|close|go back|clear|exit)\b|\bEnter to (?:confirm|select)\b"
    r"|ctrl\+o to toggle|\bsearch prompts:",
    re.IGNORECASE,
)
_ASKS: Final = re.compile(r"(?:^|(?<=[.:!]\s))[^?]{1,200}\?")
_SPACE: Final = re.compile(r"\s+")

#: How each kind is known: by its choices, and these by the line right above them.
_TRUST: Final = re.compile("Yes, I trust this folder")
_BYPASS: Final = re.compile("Yes, I accept")
_API_KEY: Final = "Do you want to use this API key?"
_FIRST_RUN: Final = re.compile(r"(?:✔ )?(?:Dark|Light) mode\b|Claude account with subscription")
_ANSWER: Final = re.compile("Chat about this|Type something")
_SELECT: Final = "Enter to select ·"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """`text` is what it asks, in one line; `options` are its choices as shown, from the top."""

    kind: Kind
    text: str
    options: tuple[str, ...]


def find(rows: Sequence[str], row: int, col: int) -> Dialogue | None:
    """The dialogue that has the cursor, which is at `row` and `col`. None: none that can be seen."""
    cursor_on = rows[row][col : col + 2] if row < len(rows) else ""
    if cursor_on[:1] == _SELECTED and cursor_on[1:] != "\xa0":
        top, whole = _top(rows, row)
        return _asked(rows[top:], row - top, whole=whole)
    last = [line for line in rows if line.strip()][-2:]
    if not _HELP.search(_one_line(last)):
        return None
    bottom = max(number for number, line in enumerate(rows) if line.strip())
    paragraphs = _paragraphs(rows[_top(rows, bottom)[0] : bottom + 1])
    text = _one_line(paragraphs[0]) if paragraphs else ""
    kind: Kind = "permission" if "Tab to amend" in _one_line(last) else "other"
    return Dialogue(kind, text[:MAX_TEXT], ())


def _top(rows: Sequence[str], row: int) -> tuple[int, bool]:
    """The first row of the dialogue around `row`, and whether its upper edge is on the screen."""
    first = _number(rows[row]) in (None, 1)
    for number in range(row, -1, -1):
        first = first or _number(rows[number]) == 1
        # A list can have a rule above its last choice.
        if first and _RULE.fullmatch(rows[number]):
            return number + 1, True
    return 0, False


def _number(row: str) -> int | None:
    found = _NUMBERED.fullmatch(row)
    return int(found["number"]) if found else None


def _asked(rows: Sequence[str], selected: int, *, whole: bool) -> Dialogue:
    """The dialogue in `rows`. `whole`: it begins with the first of them."""
    numbered = _NUMBERED.fullmatch(rows[selected]) is not None
    begin, options = _list_of(rows) if numbered else _block_of(rows, selected)
    above = _paragraphs(rows[:begin])
    kind = _kind(rows, above, options, numbered=numbered)
    # Behind the words of an answer stands what it means.
    shown = [option[:1] if kind == "question" else option for option in options]
    return Dialogue(kind, _text(above, kind, whole=whole), tuple(map(_one_line, shown)))


_Option = tuple[str, ...]  #: the lines of a choice: its words, and what follows in its column


def _list_of(rows: Sequence[str]) -> tuple[int, tuple[_Option, ...]]:
    """Where a list of numbered choices begins, and its choices."""
    begin, column = len(rows), 0
    options: list[list[str]] = []
    for number, row in enumerate(rows):
        if found := _NUMBERED.fullmatch(row):
            begin, column = min(begin, number), found.start("number")
            options.append([found["label"]])
        elif options and row.strip() and not _FRAME.fullmatch(row):
            if len(row) - len(row.lstrip()) <= column:
                break  # the line below the list that says which keys there are
            options[-1].append(row)
    return begin, tuple(tuple(option) for option in options)


def _block_of(rows: Sequence[str], selected: int) -> tuple[int, tuple[_Option, ...]]:
    """The same for choices without numbers: the lines around the selected one."""
    column = rows[selected].index(_SELECTED) + 2

    def inside(row: str) -> bool:
        return len(row) > column and not row[: column - 2].strip() and not row[column - 1].strip()

    begin = selected - sum(1 for _ in takewhile(inside, reversed(rows[:selected])))
    block = takewhile(inside, rows[begin:])
    return begin, tuple((row[column:],) for row in block)


def _kind(
    rows: Sequence[str],
    above: Sequence[Sequence[str]],
    options: Sequence[_Option],
    *,
    numbered: bool,
) -> Kind:
    labels = [_one_line(option) for option in options]

    def offers(words: re.Pattern[str]) -> bool:
        return any(words.match(label) for label in labels)

    # First, because a model writes these: it must not pass for one of Claude's own.
    if offers(_ANSWER) or any(_SELECT in row for row in rows):
        return "question"
    if offers(_TRUST):
        return "trust"
    if offers(_BYPASS):
        return "bypass"
    if above and _one_line(above[-1]) == _API_KEY:
        return "api-key"
    if numbered and any(label.startswith("Yes") for label in labels):
        return "permission"
    return "onboarding" if offers(_FIRST_RUN) else "other"


def _paragraphs(rows: Sequence[str]) -> list[list[str]]:
    """Lines that stand together, without frames."""
    found: list[list[str]] = [[]]
    for row in rows:
        if row.strip() and not _FRAME.fullmatch(row):
            found[-1].append(row)
        elif found[-1]:
            found.append([])
    return [part for part in found if part]


def _text(above: Sequence[Sequence[str]], kind: Kind, *, whole: bool) -> str:
    """How it begins, and the last thing that it asks."""
    if not above:
        return ""
    asks = [found[-1].strip() for part in above if (found := _ASKS.findall(_one_line(part)))]
    ask = asks[-1] if asks else _one_line(above[-1]) if kind == "onboarding" else ""
    head = above[0][0].strip() if asks else _one_line(above[0])
    if kind == "onboarding" or not whole or head in ask or (ask and ask in head):
        return ask[:MAX_TEXT]
    return " · ".join(filter(None, (head, ask)))[:MAX_TEXT]


def _one_line(lines: Iterable[str]) -> str:
    return _SPACE.sub(" ", " ".join(lines)).strip()


__all__ = ["MAX_TEXT", "Dialogue", "Kind", "find"]
