"""What the three model APIs have in common: read a request, stream an answer, refuse."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .conversation import Asked, Body
    from .script import Call, Step

# Codex caps the wait at 30 s; a shorter one ends the call while the command still runs.
_CODEX_YIELD_MS = 30_000


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the API spells it. `args` as text is a free-form (custom) tool's input."""

    name: str
    args: Mapping[str, object] | str


@dataclass(frozen=True, slots=True)
class Answer:
    """A step, ready to be said to one client. `number` makes its ids unique."""

    number: int
    model: str
    step: Step
    calls: tuple[ToolCall, ...]

    @property
    def text(self) -> str:
        return "".join(self.step.pieces)


@dataclass(frozen=True, slots=True)
class Frame:
    """One SSE event. A `delta` waits for the step's `chunk_delay` before it is sent."""

    data: bytes
    delta: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as events. A hang or a cut comes between `opening` and `closing`."""

    opening: tuple[Frame, ...]
    closing: tuple[Frame, ...]


class Dialect(ABC):
    name: str

    @abstractmethod
    def read(self, body: Body, headers: Mapping[str, str]) -> Asked:
        """The request in terms of all APIs. `headers` have lower-case names."""

    @abstractmethod
    def stream(self, answer: Answer) -> Reply: ...

    @abstractmethod
    def whole(self, answer: Answer) -> dict[str, object]:
        """The answer to a request that did not ask for a stream."""

    @abstractmethod
    def refusal(self, status: int, error: str | None, message: str) -> dict[str, object]:
        """Body of an error; `error` None is the type which the API gives this status."""


def sse(data: Mapping[str, object] | str, event: str | None = None) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def tool_calls(calls: Sequence[Call], offered: frozenset[str]) -> tuple[ToolCall, ...]:
    """Portable calls in the words of the CLI that asked, known by the tools it offers."""
    return tuple(_tool_call(call, offered) for call in calls)


def _tool_call(call: Call, offered: frozenset[str]) -> ToolCall:
    if call.shell is not None:
        return _shell(call.shell, offered)
    if call.write is not None:
        return _write(call.write.path, call.write.content, offered)
    return ToolCall(call.tool or "", call.args)


def _shell(command: str, offered: frozenset[str]) -> ToolCall:
    if "exec_command" in offered:
        return ToolCall("exec_command", {"cmd": command, "yield_time_ms": _CODEX_YIELD_MS})
    name = "Bash" if "Bash" in offered else "bash"
    return ToolCall(name, {"command": command, "description": "Scripted command"})


def _write(path: str, content: str, offered: frozenset[str]) -> ToolCall:
    if "apply_patch" in offered:
        lines = "".join(f"+{line}\n" for line in content.splitlines())
        patch = f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch"
        return ToolCall("apply_patch", patch)
    if "exec_command" in offered:
        return _shell(f"cat > '{path}' <<'SCRIPTED'\n{content}\nSCRIPTED", offered)
    if "Write" in offered:
        return ToolCall("Write", {"file_path": path, "content": content})
    return ToolCall("write", {"filePath": path, "content": content})
