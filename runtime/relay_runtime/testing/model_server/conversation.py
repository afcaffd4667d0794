"""A model request, read the same way whichever API it came through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: What `json.loads` returns; requests are read with the helpers below, never trusted.
Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Turn:
    """One entry of the conversation: input text, an answer of the model, or a tool's result.

    An answer is one entry however many blocks it has.
    """

    kind: Literal["text", "answer", "result"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for an answer.

    `conversation` is the session id the CLI sends with each request. `main` is false for what a
    CLI asks beside the conversation, such as a title for it.
    """

    model: str
    stream: bool
    main: bool
    conversation: str
    tools: frozenset[str]
    turns: tuple[Turn, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Input the model sees, in order: users' texts and instructions given midway."""
        return tuple(turn.text for turn in self.turns if turn.kind == "text")


def merged(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Neighbouring answers as one: the parts of one answer arrive as several entries."""
    result: list[Turn] = []
    for turn in turns:
        if turn.kind == "answer" and result and result[-1].kind == "answer":
            continue
        result.append(turn)
    return tuple(result)


def objects(value: object) -> list[Body]:
    """The objects in a JSON list; nothing when it is not one."""
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def content_texts(content: object, kinds: frozenset[str]) -> list[str]:
    """Texts of a message's content: a plain string, or its blocks of these kinds."""
    if isinstance(content, str):
        return [content]
    return [text_of(item.get("text")) for item in objects(content) if item.get("type") in kinds]
