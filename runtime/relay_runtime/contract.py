"""The contract between the runtime and a driver: a harness makes sessions.

    Harness.create / Harness.adopt -> Session
    Session.run                       pumps the harness until its process is gone
    Session.receive_message           one write, at a boundary the turn machine chose
    Session.settle                    after a crash: is that write in the context?
    Session.interrupt / answer / drain / release

Who calls what: the runtime's session shell calls everything here, one call at a time per session
except `run`, which stays open beside the others. Drivers call only `ctx`.
Drivers hold no durable state: what they need again after `kill -9` of the supervisor goes into the
checkpoint they hand to `ctx.emit`, which is committed in the same transaction as the events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence  # noqa: TC003 - read at run time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from typing_extensions import TypeAliasType

if TYPE_CHECKING:
    from .events import Event, Evidence, ExitClass

#: What JSON can say. Checkpoints, options and memos are made of this.
Json = TypeAliasType(
    "Json", "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
)


# --- errors ---------------------------------------------------------------------------------------
#
# DriverError
# ├── StartFailed        the harness cannot run here and would fail the same way again: do not restart
# ├── ResumeRefused      it will not continue this conversation: start a fresh one or give up
# ├── HarnessGone        its process or connection is gone: wait for the exit, then restart by policy
# └── Unsupported        this harness cannot do that: choose another way


class DriverError(Exception):
    """Base of what a driver raises. The message is one line that tells the user what to do."""


class StartFailed(DriverError):
    """Raised when the harness cannot start: not installed, refused its arguments, not logged in."""


class ResumeRefused(DriverError):
    """Raised when the harness does not know the conversation it should continue."""


class HarnessGone(DriverError):
    """Raised when the process or the connection to it ended. What was written may be in or not."""


class Unsupported(DriverError):
    """Raised when the harness has no such ability; `Capabilities` said so beforehand."""


# --- what goes in -----------------------------------------------------------------------------------


class Mode(StrEnum):
    HEADLESS = "headless"
    PTY = "pty"


class Approval(StrEnum):
    """How far the agent may go without asking. `None` in a spec leaves the user's own settings."""

    OPEN = "open"  #: never asks
    GUARDED = "guarded"  #: risky tool calls wait for an answer
    READ_ONLY = "read-only"  #: no write, no shell that writes


class Entry(StrEnum):
    """How a write enters the session."""

    NEXT_TURN = "next-turn"
    STEER = "steer"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a session of this harness can do. Fixed for a session's life."""

    modes: frozenset[Mode]
    boundary: str  #: where boundaries are known from, such as "claude.session_state"
    evidence: str  #: strongest proof of delivery, such as "claude.command_lifecycle"
    steer: bool = False
    interrupt: bool = True
    resume: bool = True  #: continues the same conversation after its process died
    permissions: bool = False  #: requests can be answered through `Session.answer`
    settles: bool = True  #: the harness keeps a record that decides every write in doubt
    max_input_bytes: int = 1_048_576  #: largest text of one write


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Everything that decides what is started. No secret: those are in the environment.

    `conversation` set means: continue that one (the harness's own id). `argv` is for the command
    driver, `options` is the profile's harness-specific part, passed through unread.
    """

    session_id: str
    agent_id: str
    name: str
    harness: str
    mode: Mode
    cwd: str
    state_dir: str  #: 0700 folder of this session, for sockets and files of the driver
    model: str | None = None
    approval: Approval | None = None
    instructions: str | None = None  #: appended to the harness's system prompt
    args: tuple[str, ...] = ()  #: extra arguments for the harness's command line
    argv: tuple[str, ...] = ()
    conversation: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Injection:
    """One write: one or more relay messages, framed and cleaned, to go in as one piece of input.

    `write_id` is a UUID that never changes for this text, also when it is written again after a
    crash; drivers hand it to the harness as its id. `seq` is the holder input sequence number
    reserved for it, so bytes repeated after a crash are not written twice.
    """

    write_id: str
    seq: int
    text: str
    entry: Entry = Entry.NEXT_TURN


class Handed(StrEnum):
    """What `receive_message` can say at once. Proof comes later, as the event `Proven`."""

    ACCEPTED = "accepted"  #: the harness has it; `Proven` or `Refused` will follow
    DEFERRED = "deferred"  #: proven not taken: may go in again at the next boundary
    FAILED = "failed"  #: proven not taken and never will be; `reason` is final


@dataclass(frozen=True, slots=True)
class Receipt:
    status: Handed
    reason: str | None = None


class Verdict(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"  #: proven absent: it may be written again with the same id
    UNKNOWN = "unknown"  #: the harness keeps no record of it, or it cannot be read now


@dataclass(frozen=True, slots=True)
class Settlement:
    """Answer of the harness's own record about a write in doubt."""

    verdict: Verdict
    evidence: Evidence | None = None
    reason: str | None = None


# --- the holder, as drivers see it ------------------------------------------------------------------


class Io(StrEnum):
    PIPES = "pipes"
    PTY = "pty"


class Stream(StrEnum):
    """The holder's append-only logs. A PTY has only OUT."""

    OUT = "out"
    ERR = "err"
    #: One JSON object a line: what hooks of the agent posted, and between them, from the holder,
    #: `{"holder": "input", "client": …, "kind": …, "at": …}` for what people type.
    HOOKS = "hooks"


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What the holder executes. `env` is laid over the session's environment; None removes a name.

    Secrets may stand in `env`: the holder keeps it in memory and never writes it down.
    """

    argv: tuple[str, ...]
    cwd: str
    io: Io
    env: Mapping[str, str | None] = field(default_factory=dict)
    rows: int = 40
    cols: int = 120


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of a log. `offset` is that of the first byte; `gap` bytes before it are lost for good."""

    offset: int
    data: bytes
    gap: int = 0


@dataclass(frozen=True, slots=True)
class StopPlan:
    """How a child is ended; each step has its own bound in seconds, 0 skips the step."""

    drain_s: float = 30.0  #: stdin closed (pipes), the child may finish its turn
    interrupt_s: float = 5.0  #: SIGINT to the group
    term_s: float = 5.0  #: SIGTERM to the group; then SIGKILL to every descendant


@dataclass(frozen=True, slots=True)
class ChildExit:
    """`code` or `signal` is set, never both. `at` is seconds since the epoch."""

    code: int | None
    signal: int | None
    at: float


@dataclass(frozen=True, slots=True)
class HolderStatus:
    """What the holder knows. `run` counts starts in this holder from 1; 0 means none yet."""

    holder_pid: int
    run: int
    pid: int | None
    start_ticks: int | None
    exit: ChildExit | None
    applied_seq: int
    offsets: Mapping[Stream, int]
    memo: Mapping[str, str]


class Typed(StrEnum):
    """What became of a `Holder.type`. Unless it is TYPED, nothing was written."""

    TYPED = "typed"
    REPEATED = "repeated"  #: this `seq` or a later one was applied before
    CHANGED = "changed"  #: a hook or a person was there first: look again
    HUMAN = "human"  #: a person typed a moment ago


class Holder(ABC):
    """The process that owns this session's child. Outlives the supervisor and every connection.

    All methods raise `HarnessGone` when the holder itself is gone. They may be cancelled at any
    point; `write` that was cancelled may have been applied, and repeating it with the same `seq`
    is safe.
    """

    @abstractmethod
    async def start(self, plan: StartPlan) -> HolderStatus:
        """Execute `plan`. Raises `StartFailed` when exec fails or a child is still running."""

    @abstractmethod
    async def write(self, data: bytes, seq: int) -> bool:
        """Write to the child's input. False: this `seq` (or a later one) was applied before.

        `seq` 0 is unsequenced: always written, for bytes whose repetition does no harm.
        Raises `HarnessGone` when there is no child or its input is closed.
        """

    @abstractmethod
    async def type(
        self, steps: Sequence[tuple[str, int]], seq: int, *, hooks: int, quiet_s: float
    ) -> Typed:
        """Write several texts, each with a pause in milliseconds after it, as one piece of input.

        Nothing comes in between: the holder takes the steps by itself, keeps back what people type
        meanwhile, and lets no hook of the agent go on until it is done. It does not begin when the
        hooks log goes beyond `hooks` (how far the caller has read it) or a person typed within the
        last `quiet_s` seconds; that check and the beginning are one step. Returns when it is done;
        cancelled, it goes on. All pauses together may last 2 s. `seq` as in `write`; bytes that are
        no UTF-8 stand in a text as surrogates (`surrogateescape`).
        Raises `HarnessGone` when there is no child or its input is closed.
        """

    @abstractmethod
    async def answer_hook(self, offset: int, text: str | None) -> bool:
        """Answer the hook that waits at this offset of the hooks log; None lets it go.

        False: none waits there, it has an answer or is gone.
        """

    @abstractmethod
    def read(self, stream: Stream, offset: int) -> AsyncIterator[Chunk]:
        """Chunks from `offset`, then live, until the child has exited and all of it was read."""

    @abstractmethod
    async def wait_exit(self) -> ChildExit:
        """The exit of the current child; at once when it is already gone."""

    @abstractmethod
    async def close_input(self) -> None:
        """Close the child's stdin (pipes) or send EOF (PTY). Idempotent."""

    @abstractmethod
    async def signal(self, signum: int) -> None:
        """Signal the child's process group. No error when it is gone."""

    @abstractmethod
    async def stop(self, plan: StopPlan) -> ChildExit:
        """End the child by `plan`. When this returns, no descendant of it is alive. Idempotent."""

    @abstractmethod
    async def status(self) -> HolderStatus: ...

    @abstractmethod
    async def remember(self, memo: Mapping[str, str]) -> None:
        """Keep small secrets (a port's password) in the holder's memory, merged into `memo`."""

    @abstractmethod
    async def environ(self) -> Mapping[str, str]:
        """The session's environment, which exists only in the holder's memory."""


# --- the contract -----------------------------------------------------------------------------------


class Context(ABC):
    """What the runtime gives a driver for one session."""

    spec: SessionSpec
    holder: Holder
    #: Of the last committed `emit` when the session is adopted, else None.
    checkpoint: Json

    @abstractmethod
    async def emit(self, *events: Event, checkpoint: Json = None) -> None:
        """Commit `events` and `checkpoint` in one transaction, then act on them.

        Returns when they are durable. `checkpoint` None keeps the previous one. Safe to cancel:
        either all of it is committed or nothing.
        """


class Session(ABC):
    """One run of a harness for one agent."""

    capabilities: Capabilities

    @abstractmethod
    async def run(self) -> None:
        """Connect, emit `SessionReady` and `Idle` when input is possible, then pump events.

        Returns when the harness's process has exited and everything it said was emitted. Raises
        `StartFailed` or `ResumeRefused` when it ended before it was ready; the session is then over.
        Reconnects by itself while the process lives. Cancelled by the runtime at its shutdown: it
        must then leave the process running.
        """

    @abstractmethod
    async def receive_message(self, injection: Injection) -> Receipt:
        """Hand one write to the harness. Called only between `Idle` and the next turn, or to steer.

        Raises `HarnessGone` when it is unknown whether the harness took it; the runtime then calls
        `settle`. Never waits for the turn: proof is the event `Proven`.
        """

    @abstractmethod
    async def settle(self, write_id: str) -> Settlement:
        """Look up in the harness's own record whether the write is in the context.

        Called when a write stayed unproven: after a crash, or when its proof is overdue. Reads
        only; must not be answered from memory of what was sent.
        """

    @abstractmethod
    async def interrupt(self) -> None:
        """Stop the running turn; `TurnEnded` and `Idle` follow. No error when none runs."""

    @abstractmethod
    async def answer(self, request_id: str, allow: bool, message: str | None = None) -> None:
        """Answer a permission request. Raises `Unsupported`, or `KeyError` for an unknown one."""

    @abstractmethod
    async def drain(self) -> None:
        """Take in nothing more, finish the running turn, let the process end if it does so itself.

        Bounded by the runtime. Called before `release`.
        """

    @abstractmethod
    async def release(self, stop: StopPlan) -> None:
        """End the process and every descendant. Idempotent, and bounded by `stop`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What `doctor` shows of a harness on this machine. `login` is yes, no or unknown."""

    found: str | None  #: path of the program
    version: str | None = None
    login: str = "unknown"
    advice: str | None = None  #: one line: what to do when something is missing


@dataclass(frozen=True, slots=True)
class Running:
    """A conversation in a process that the user has started by hand.

    A session with these `options` and this `cwd` joins it.
    """

    conversation: str
    cwd: str
    title: str  #: what a person recognises it by; empty when nothing was said in it yet
    options: Mapping[str, Json]


class Harness(ABC):
    """A kind of agent runtime. One instance per process, stateless, found by entry point."""

    name: str
    capabilities: Capabilities
    default_mode: Mode

    @abstractmethod
    async def create(self, spec: SessionSpec, ctx: Context) -> Session:
        """Start the process through `ctx.holder` and return its session; `run` does the rest.

        Also called to continue after the process died, with `spec.conversation` set.
        Raises `StartFailed` when the program is missing or cannot be executed.
        """

    @abstractmethod
    async def adopt(self, spec: SessionSpec, ctx: Context) -> Session:
        """A session for a process that is already running, after a supervisor restart.

        `ctx.checkpoint` is the last committed one. Its `run` must emit what was missed since then,
        each event once, and say `Idle` again if the harness is idle now.
        """

    @abstractmethod
    async def probe(self, environ: Mapping[str, str]) -> Probe:
        """Look for the program and its login without starting a session or using the network."""

    def exit_class(self, exit: ChildExit, last_output: str) -> ExitClass | None:
        """Why the process ended, where its last words say more than its status; else None."""
        return None

    async def view(self, spec: SessionSpec, holder: Holder) -> StartPlan | None:
        """What shows a headless session in the harness's own terminal interface, as one more process.

        It must connect to the running process of the session, so that people and messages meet in
        one conversation, and end when it is told to. `spec.conversation` is set, `holder` is the
        session's. Called by whoever looks, also while no supervisor runs, and by the supervisor
        when the process was started again: a plan that differs from before replaces the view.
        None: the harness has none. Raises `HarnessGone` when its process does not run.
        """
        return None

    async def running(self, environ: Mapping[str, str], where: str | None) -> Sequence[Running]:
        """What the user has started by hand and a session can join, as one more who takes part.

        Such a session never ends the user's process; it ends with it. `where` is the address of
        that process, None the usual one. Raises `StartFailed` when none is there, `Unsupported`
        when this harness has no such thing.
        """
        raise Unsupported(f"{self.name} sessions cannot be joined; spawn one")
