"""What the scripted model says: steps, and how a request finds its step.

A step is one answer of the model, or one way to fail. As JSON, every key optional:

    text, chunks        what it says; `chunks` sets the pieces it streams in
    delay               seconds before the first byte
    chunk_delay         seconds between pieces
    shell               one command, called through the shell tool of whichever CLI asks
    write               {"path", "content"}: a file, through that CLI's own tool
    tool, args          any tool by name; args as text is a free-form (custom) call
    calls               several of the above at once: [{"shell": …}, {"write": …}, {"tool": …}]
    usage               {"input", "output"} tokens
    status              refuse with this HTTP status; with error, message, headers, body
    hang                "headers": never answer; "start": begin (and say `text`), then go silent
    cut                 true: begin (and say `text`), then close the connection
    times               how often a refusal, hang or cut is repeated before the next step (1)

A text alone is a step that says it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

if TYPE_CHECKING:
    from .conversation import Turn

_INLINE = re.compile(r"SCRIPT:(\[.*?\]):END", re.DOTALL)
#: Longer than any wait in our tests; a larger number is a typing error.
_Seconds = Annotated[float, Field(ge=0, le=600)]


class ScriptError(ValueError):
    """Raised for a step that cannot be understood. One line, says which key is wrong."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileWrite(_Model):
    path: str
    content: str


class Call(_Model):
    """One tool call. Exactly one of `shell`, `write` and `tool`."""

    shell: str | None = None
    write: FileWrite | None = None
    tool: str | None = None
    args: dict[str, JsonValue] | str = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(value is not None for value in (self.shell, self.write, self.tool)) != 1:
            raise ValueError("a call is one of shell, write and tool")
        return self


class Usage(_Model):
    input: int = 100
    output: int = 10


class Step(_Model):
    text: str | None = None
    chunks: tuple[str, ...] = ()
    delay: _Seconds = 0
    chunk_delay: _Seconds = 0
    shell: str | None = None
    write: FileWrite | None = None
    tool: str | None = None
    args: dict[str, JsonValue] | str = Field(default_factory=dict)
    calls: tuple[Call, ...] = ()
    usage: Usage = Usage()
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    error: str | None = None
    message: str = "refused by the script"
    headers: dict[str, str] = Field(default_factory=dict)
    body: JsonValue = None
    hang: Literal["headers", "start"] | None = None
    cut: bool = False
    times: Annotated[int, Field(ge=1, le=1000)] = 1

    @property
    def answers(self) -> bool:
        """Whether the client gets a whole answer, which then stands in the conversation."""
        return self.status is None and self.hang is None and not self.cut

    @property
    def pieces(self) -> tuple[str, ...]:
        return self.chunks or ((self.text,) if self.text else ())

    @property
    def all_calls(self) -> tuple[Call, ...]:
        short = [Call(shell=self.shell)] if self.shell is not None else []
        short += [Call(write=self.write)] if self.write is not None else []
        short += [Call(tool=self.tool, args=self.args)] if self.tool is not None else []
        return (*short, *self.calls)


DEFAULT = Step(text="ok")

#: What scripts are made of: a step, the same as JSON, or a text to say.
StepLike = Step | str | Mapping[str, object]


def step(value: StepLike) -> Step:
    """One step. Raises `ScriptError`."""
    if isinstance(value, Step):
        return value
    if isinstance(value, str):
        return Step(text=value)
    try:
        return Step.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "step"
        raise ScriptError(f"script step: {where}: {first['msg']}") from None


def steps(value: object) -> tuple[Step, ...]:
    """Steps from parsed JSON. Raises `ScriptError`."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ScriptError("a script is a list of steps")
    for item in value:
        if not isinstance(item, str | Mapping | Step):
            raise ScriptError("a step is an object or a text")
    return tuple(step(item) for item in value)


def inline(turns: Sequence[Turn]) -> tuple[tuple[Step, ...], int, str] | None:
    """The newest script that stands in a text, the answers since, and the script's own text.

    Raises `ScriptError` when it is not valid.
    """
    answers = 0
    for turn in reversed(turns):
        if turn.kind == "answer":
            answers += 1
        elif turn.kind == "text" and (found := _INLINE.findall(turn.text)):
            source = str(found[-1])
            try:
                return steps(json.loads(source)), answers, source
            except json.JSONDecodeError as error:
                raise ScriptError(f"SCRIPT…END is not JSON: {error}") from None
    return None


def pick(script: Sequence[Step], answers: int, failed: int) -> Step | None:
    """The step to play when the conversation holds `answers` answers to this script so far.

    `failed` counts what was served at this point without becoming an answer. None: it is over.
    """
    answering = [index for index, item in enumerate(script) if item.answers]
    if answers > len(answering):
        return None
    begin = answering[answers - 1] + 1 if answers else 0
    for item in script[begin:]:
        if item.answers or failed < item.times:
            return item
        failed -= item.times
    return None


__all__ = [
    "DEFAULT",
    "Call",
    "FileWrite",
    "ScriptError",
    "Step",
    "StepLike",
    "Usage",
    "inline",
    "pick",
    "step",
    "steps",
]
