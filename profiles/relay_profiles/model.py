"""What a profile says: named JSON settings for a session.

Everything is optional. What a profile leaves out comes from the environment or from the defaults
here. Unknown fields are refused, because a misspelt limit that is ignored protects nobody.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

#: The relay takes names, labels and tags of this length at most, and lists of this many.
MAX_NAME = 128
MAX_NAMES = 64

# What becomes part of a command line or an environment: the kernel ends it at a NUL.
_TEXT = r"^[^\x00]*$"
_FILLED = r"^[^\x00]+$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
#: What a text that does not match should be, in words.
PATTERNS = {
    _TEXT: "must not contain a NUL character",
    _FILLED: "must not be empty nor contain a NUL character",
    _VARIABLE: "is not a name that a variable can have",
}

Text = Annotated[str, StringConstraints(pattern=_TEXT)]
Filled = Annotated[str, StringConstraints(pattern=_FILLED)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME, strip_whitespace=True)]
Names = Annotated[tuple[Name, ...], Field(max_length=MAX_NAMES)]
EnvName = Annotated[str, StringConstraints(pattern=_VARIABLE)]
#: Waits longer than a day are a mistake in the unit.
Seconds = Annotated[float, Field(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400)]


class Mode(StrEnum):
    """How the harness runs: through its structured channel, or as a terminal program."""

    HEADLESS = "headless"
    PTY = "pty"


class Approval(StrEnum):
    """How far the agent may go without asking."""

    OPEN = "open"  #: never asks
    GUARDED = "guarded"  #: risky tool calls wait for an answer
    READ_ONLY = "read-only"  #: no write, no shell that writes


class Policy(StrEnum):
    """When the agent is started again after it ended."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Resume(StrEnum):
    """What a restarted agent remembers."""

    SAME_CONVERSATION = "same-conversation"
    FRESH = "fresh"


class Settings(BaseModel):
    """Base of every part of a profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Backoff(Settings):
    """Delay before a restart: initial_s, then times `factor` for each one in a row, up to max_s."""

    initial_s: Seconds = 1.0
    """Delay before the first restart, seconds."""
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    """By how much the delay grows with each restart in a row."""
    max_s: Seconds = 60.0
    """Longest delay, seconds."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the delay that is random, so that many sessions do not start in step."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_s < self.initial_s:
            raise ValueError("max_s is below initial_s")
        return self


class Restart(Settings):
    """What happens when the agent's process ends without being asked to."""

    policy: Policy = Policy.ON_FAILURE
    """never, on-failure or always. Login errors and a failed start are never repeated."""
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 5
    """The session is given up when it would need more restarts than this within `period_s`."""
    period_s: PositiveSeconds = 600.0
    """Length of the sliding window in which restarts are counted, seconds."""
    backoff: Backoff = Backoff()
    """Delay before a restart."""
    stable_after_s: Seconds = 60.0
    """After running this long the next delay starts again from `initial_s`, seconds."""
    resume: Resume = Resume.SAME_CONVERSATION
    """Continue the same conversation where the harness can, or start a fresh one."""
    continue_turn: bool = True
    """Ask the agent to go on when its turn was cut off by a crash or a rate limit."""


class Stop(Settings):
    """How the agent is ended; each step has its own bound and 0 skips it. The last step kills."""

    drain_s: Seconds = 30.0
    """Time to finish the running turn, seconds."""
    interrupt_s: Seconds = 5.0
    """Time after SIGINT, seconds."""
    term_s: Seconds = 5.0
    """Time after SIGTERM, seconds. Then every descendant is killed."""


class Watchdog(Settings):
    """Silence that a person should know of. Nothing is ever killed for being silent."""

    start_s: PositiveSeconds = 60.0
    """The agent must be ready within this time, seconds."""
    turn_idle_s: PositiveSeconds = 900.0
    """A notice is raised when a turn says nothing for this long, seconds."""


class Limits(Settings):
    """Bounds that the runtime enforces."""

    queue: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Messages that may wait for the session; more are refused."""
    log_bytes: Annotated[int, Field(ge=65_536)] = 268_435_456
    """What each log of the session keeps on disk, bytes. The oldest goes first."""
    watchdog: Watchdog = Watchdog()
    """Silence that a person should know of."""


class Profile(Settings):
    """Settings of a session. Flags and AGENT_RELAY_* variables override them."""

    description: str | None = None
    """One line for `profiles list`."""

    harness: Name | None = None
    """claude, codex, opencode, command, or a driver that was installed."""
    mode: Mode | None = None
    """headless or pty; the harness has a default."""
    model: Filled | None = None
    """Model name as the harness spells it."""
    cwd: Filled | None = None
    """Working directory. Relative to the folder that holds `.relay`, or else to the file's own."""
    env: dict[EnvName, Text] = Field(default_factory=dict)
    """Laid over the caller's environment. Prefer the caller's environment for secrets."""
    args: tuple[Text, ...] = ()
    """Extra arguments for the harness's command line."""
    argv: tuple[Text, ...] = ()
    """The program and its arguments, for the command harness."""
    instructions: Text | None = None
    """Added to the harness's system prompt."""
    task: Text | None = None
    """First message of the session."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of this harness only; its driver documents and checks them."""

    label: Name | None = None
    """Human-friendly name, the target `label:…`."""
    tags: Names = ()
    """Targets `tag:…`."""
    capabilities: Names = ("chat",)
    """What the agent offers, targets `cap:…`."""
    channels: Names = ()
    """Channels the agent listens to; none means all."""
    approval: Approval | None = None
    """open, guarded or read-only; left out, the user's own settings of the harness count."""
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    """Anything else that others may read of this agent."""

    restart: Restart = Restart()
    """What happens when the agent's process ends without being asked to."""
    stop: Stop = Stop()
    """How the agent is ended."""
    limits: Limits = Limits()
    """Bounds that the runtime enforces."""


__all__ = [
    "PATTERNS",
    "Approval",
    "Backoff",
    "Limits",
    "Mode",
    "Policy",
    "Profile",
    "Restart",
    "Resume",
    "Settings",
    "Stop",
    "Watchdog",
]
