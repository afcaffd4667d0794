"""What a line of Claude's stdout says, as a value. One class for each kind of line that matters.

`observe` never raises: a line of an unknown type, or of a known one in an unknown shape, is None,
because newer versions add types and fields all the time. `sub` marks what a subagent said.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateChanged:
    """`state` is idle, running or requires_action."""

    uuid: str
    state: str


@dataclass(frozen=True, slots=True)
class Opened:
    """`system/init`: the query of a turn begins. Everything before it is on disk by then."""

    uuid: str
    conversation: str
    model: str | None


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """`command_lifecycle`: queued, started, completed, cancelled, discarded or refused."""

    uuid: str
    command: str
    state: str


@dataclass(frozen=True, slots=True)
class Echo:
    """`--replay-user-messages`. Without `fresh` it is of a duplicate or of a merged message."""

    uuid: str
    text: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class ToolUse:
    tool_id: str
    name: str
    input: str  #: JSON
    path: str | None  #: of the file that the tool is about to change


@dataclass(frozen=True, slots=True)
class Spoke:
    """Blocks of an assistant message, one as a rule. `error`: Claude itself wrote it about one."""

    uuid: str
    sub: bool
    texts: tuple[str, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    synthetic: bool = False
    error: str | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class ToolDone:
    tool_id: str
    ok: bool
    output: str
    created: bool  #: a file that was not there before


@dataclass(frozen=True, slots=True)
class ToolsDone:
    results: tuple[ToolDone, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """`result`. `total_cost` is that of the conversation or process, never of the turn."""

    uuid: str
    error: bool
    subtype: str
    reason: str | None
    status: int | None
    text: str
    total_cost: float | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    queued: int  #: turns that follow by themselves


@dataclass(frozen=True, slots=True)
class Retrying:
    """`api_retry`: Claude tries again by itself in `delay` seconds."""

    delay: float
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Limited:
    """`rate_limit_event`. `resets_at` is seconds since the epoch; None: not limited now."""

    resets_at: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A control request to us. Only `can_use_tool` is one that people can answer."""

    request_id: str
    subtype: str
    tool: str
    tool_use_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    request_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """Our answer to a permission request, repeated to us: Claude has it."""

    request_id: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Responded:
    """The answer to a control request of ours; fields that it does not have are None."""

    request_id: str
    ok: bool
    state: str | None = None
    version: str | None = None
    model: str | None = None
    cost: float | None = None
    cancelled: bool | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """A UserPromptSubmit hook of the user refused a message; `text` quotes it."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Agents:
    """The subagents that work in the background now: all of them."""

    running: frozenset[str]


@dataclass(frozen=True, slots=True)
class AgentStarted:
    task_id: str


@dataclass(frozen=True, slots=True)
class AgentOver:
    task_id: str


@dataclass(frozen=True, slots=True)
class Garbage:
    """A line that is no JSON object: something in the process prints to stdout."""

    text: str


Observation = (
    StateChanged
    | Opened
    | Lifecycle
    | Echo
    | Spoke
    | ToolsDone
    | Ended
    | Retrying
    | Limited
    | Asked
    | Withdrawn
    | Answered
    | Responded
    | Blocked
    | Agents
    | AgentStarted
    | AgentOver
    | Garbage
)
