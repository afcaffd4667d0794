"""The words of the turn machine: the states it knows, what it is told, what it asks for.

Values without behaviour. `turns.py` has the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from .contract import Entry
from .events import Event

if TYPE_CHECKING:
    from .contract import Verdict
    from .events import Evidence


#: Text of one write: an agent that was busy for an hour gets its mail in readable portions.
MAX_BATCH_BYTES: Final = 256 * 1024


class SessionState(StrEnum):
    """What a session is doing, as people see it."""

    STARTING = "starting"
    IDLE = "idle"  #: waits for input
    BUSY = "busy"  #: works on a turn, or has just been handed one
    WAITING = "waiting"  #: a permission or question is open
    DRAFTING = "drafting"  #: a human has unsent input
    HELD = "held"  #: auth, rate limit, paused
    UNSURE = "unsure"  #: a write is in doubt and is being settled
    EXITED = "exited"


class Activity(StrEnum):
    """What the harness itself does."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    EXITED = "exited"


class Human(StrEnum):
    """Whether a person has unsent input in the session."""

    AWAY = "away"
    DRAFTING = "drafting"


class Endpoint(StrEnum):
    """Whether the harness gets through to its model, while it retries by itself."""

    OK = "ok"
    RETRYING = "retrying"


class Status(StrEnum):
    """Receipts, as the relay spells them."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    FAILED = "failed"


class Hold(StrEnum):
    """Why nothing may be written, beyond what the harness itself is doing."""

    PAUSED = "paused"
    AUTH = "auth"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"


# --- signals of the shell, beside the events of the driver --------------------------------------------


@dataclass(frozen=True, slots=True)
class Restarting:
    """A new process for this session is being started."""


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing goes in until `until` (None: until `Lifted`)."""

    hold: Hold
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Lifted:
    hold: Hold


@dataclass(frozen=True, slots=True)
class Doubted:
    """It is unknown whether the harness took the write (connection lost in the middle)."""

    write_id: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What the harness's record says about a write in doubt."""

    write_id: str
    verdict: Verdict
    evidence: Evidence | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over for good; what still waits fails with `reason`."""

    reason: str


Control = Restarting | Held | Lifted | Doubted | Settled | Closed
Signal = Event | Control

# --- what goes in and what comes out ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pending:
    """A delivery that waits. `size` is its framed text in bytes; `order` is its arrival."""

    delivery_id: str
    order: int
    size: int
    steer: bool = False
    interrupt: bool = False
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Commit the intent, then hand these deliveries to the harness as one piece of input.

    `cut` names why the previous turn was cut off, when the agent should be told so; with no
    deliveries the write only asks the agent to go on.
    """

    write_id: str
    deliveries: tuple[str, ...]
    entry: Entry = Entry.NEXT_TURN
    cut: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Commit this receipt and send it."""

    delivery_id: str
    status: Status
    reason: str | None = None
    evidence: Evidence | None = None
    next_attempt_at: float | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """Ask the harness's record about a write in doubt, then observe `Settled`."""

    write_id: str


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Stop the running turn: a message that may not wait has arrived."""


Action = Write | Report | Settle | Interrupt

#: What a deferred receipt says: the reason, and whether it names the next attempt.
Told = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the harness can do, and what the profile wants."""

    steer: bool = False
    interrupt: bool = True
    continue_turn: bool = True  #: ask the agent to go on after its turn was cut off
    batch_bytes: int = MAX_BATCH_BYTES  #: text of one write, as long as it has several messages


@dataclass(slots=True)
class Flight:
    """The one write that is not proven yet."""

    write: Write
    pending: tuple[Pending, ...]
    check_at: float
    attempts: int = 1
    turn_seen: bool = False  # a turn started since it was written
    doubted: bool = False
    settling: bool = False
    tries: int = 0


@dataclass(slots=True)
class Retry:
    """A write that provably was not taken, to go in again as it was."""

    flight: Flight
    not_before: float
