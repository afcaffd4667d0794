"""What a plain program is doing, judged by its output alone. Pure: no I/O, no clock.

`feed` takes output, `quiet` says that there was none for a while; both return events, and `quiet`
may return something to type. A prompt that shows while it is quiet is the boundary. A prompt with
something after it, on the same line, is a person typing. Everything else is a turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from relay_runtime.events import (
    MAX_TEXT,
    Event,
    Evidence,
    HumanInput,
    HumanTyping,
    Idle,
    Notice,
    Outcome,
    Proven,
    SessionReady,
    Transcript,
    TurnEnded,
    TurnStarted,
)

from .echo import Echo
from .screen import PASTE_OFF, Screen

if TYPE_CHECKING:
    from relay_runtime.contract import Injection, Json

    from .keys import Keys
    from .options import Options

#: Prompts of several lines are found in this many.
PROMPT_LINES = 4
#: Writes whose numbers are remembered. Only the last one is ever in doubt; a few more cost nothing.
MAX_WRITES = 16
#: Enter is written once more if the first one was swallowed, as line editors do that are still busy
#: with a paste; a program that ignores two will ignore three.
MAX_ENTERS = 2


class Phase(StrEnum):
    STARTING = "starting"
    IDLE = "idle"
    TYPING = "typing"  #: a person has unsent input
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Answer:
    """Type the answer to this start-up dialog."""

    number: int


@dataclass(frozen=True, slots=True)
class Enter:
    """Write Enter (once more): the input still stands in the program's line editor."""


@dataclass(slots=True)
class Pending:
    """The one input that has not been seen to be taken."""

    write_id: str
    pasted: bool
    echo: Echo
    applied: bool = False  # the holder has it; asked of it after a restart, so not in the dump
    enters: int = 0

    def dump(self) -> dict[str, Json]:
        return {
            "write_id": self.write_id,
            "pasted": self.pasted,
            "enters": self.enters,
            "echo": self.echo.dump(),
        }

    @classmethod
    def load(cls, dumped: Json) -> Pending:
        match dumped:
            case {
                "write_id": str(write_id),
                "pasted": bool(pasted),
                "enters": int(enters),
                "echo": echo,
            }:
                return cls(write_id, pasted, Echo.load(echo), enters=enters)
            case _:
                raise ValueError("not a pending input")


class Program:
    """One run of the program, from its first byte to its last.

    `first_seq` is the highest input number of the runs before it in the same holder.
    """

    def __init__(self, options: Options, run: int, conversation: str, first_seq: int) -> None:
        self.options = options
        self.run = run
        self.conversation = conversation
        self.first_seq = first_seq
        self.screen = Screen(40, 120, options.encoding)
        self.phase = Phase.STARTING
        self.offset = 0  #: of the output that was taken in
        self.hooks = 0  #: of the holder's word about people that was taken in
        self.drafting = False  #: a person typed something and has not sent it
        self.pending: Pending | None = None
        self.writes: dict[str, int] = {}  #: input number of each write of this run
        self.answered: set[int] = set()
        self.interrupted = False
        self.announce = False  #: say `Idle` again, for a runtime that was started anew
        self._turns = 0
        self._prompt = ""  # the row of the prompt when it was last idle
        self._said = ""
        self._unsaid = 0  # characters beyond what an event may carry

    # --- questions --------------------------------------------------------------------------------

    @property
    def at_prompt(self) -> bool:
        """Whether the screen looks as if the program waits for input, quietness apart."""
        shown = "\n".join(self.screen.lines[-PROMPT_LINES:])
        if self.options.busy is not None and self.options.busy.search(shown):
            return False
        if self.options.prompt is None:
            return True
        # What was erased leaves blanks behind, and a prompt may or may not end in one itself.
        for text in (shown, bare := shown.rstrip(), bare + " "):
            if any(match.end() >= len(bare) for match in self.options.prompt.finditer(text)):
                return bool(self.screen.lines[-1].strip())
        return False

    @property
    def accepts(self) -> bool:
        """Whether an input may be written now."""
        return self.phase is Phase.IDLE and self.at_prompt

    @property
    def active(self) -> bool:
        """Whether a turn runs, or an input was written that may have started one."""
        pending = self.pending
        entered = pending is not None and pending.enters > 0 and not pending.echo.submitted
        return self.phase is Phase.BUSY or entered

    @property
    def pastes(self) -> bool:
        """Whether input goes in as a bracketed paste."""
        return self.screen.pasting if self.options.paste is None else self.options.paste

    @property
    def last_line(self) -> str:
        """The last row that shows something, for people."""
        return next((line.strip() for line in reversed(self.screen.lines) if line.strip()), "")

    @property
    def is_draft(self) -> bool:
        """Whether the pending input stands in the program's line editor, not submitted."""
        pending = self.pending
        if pending is None or not pending.applied or pending.echo.submitted:
            return False
        if pending.pasted and self.options.paste is None and not self.screen.pasting:
            return False  # its line editor has ended
        if self.options.prompt is not None and self.at_prompt:
            return False
        return pending.echo.is_draft(self.screen.lines[-1])

    # --- inputs -----------------------------------------------------------------------------------

    def begin(self, injection: Injection, keys: Keys) -> None:
        """An input is about to be written."""
        echo = Echo(keys, answered=self.options.prompt is None)
        self.pending = Pending(injection.write_id, keys.enter is not None, echo)
        self.pending.enters = int(keys.enter is None)
        self.writes[injection.write_id] = injection.seq
        while len(self.writes) > MAX_WRITES:
            del self.writes[next(iter(self.writes))]

    def entered(self) -> None:
        """Enter is about to be written for the pending input."""
        if self.pending is not None:
            self.pending.enters += 1
            self.pending.echo.entered = True

    def withdraw(self) -> None:
        """The pending input was proven not to be written."""
        self.pending = None

    def feed(self, data: bytes, offset: int, gap: int = 0) -> list[Event]:
        """Output from `offset` on; `gap` bytes before it are lost."""
        events: list[Event] = []
        if gap:
            self.screen.skip()
            lost = f"{gap} bytes of the program's output are lost: the log was full"
            events.append(Notice("log.gap", lost))
        printed = self.screen.feed(data)
        self.offset = offset + len(data)
        if self.phase is Phase.STARTING or not printed:
            return events
        if self.phase is Phase.BUSY:
            self._say(printed)
        pending = self.pending
        if pending is not None and not pending.echo.submitted:
            after = pending.echo.feed(printed)
            if after is not None:
                events += self._taken(pending)
                self._say(after)
        elif self.phase in (Phase.IDLE, Phase.TYPING):
            events += self._disturbed(printed)
        return events

    def quiet(self) -> tuple[list[Event], Answer | Enter | None]:
        """There was no output for `quiet_s`. At most one thing to type is returned."""
        if self.phase is Phase.STARTING:
            return self._started()
        if self.is_draft and self.pending is not None and self.pending.enters < MAX_ENTERS:
            return [], Enter()
        events = self._overlooked()
        # Where a prompt is known it shows what stands behind it.
        if self.at_prompt and not (self.drafting and self.options.prompt is None):
            if self.phase is Phase.TYPING:
                events.append(HumanTyping(active=False))
            if self.phase is Phase.BUSY:
                events += self._end_turn()
            if self.phase is not Phase.IDLE or self.announce:
                events.append(Idle())
            self._rest()
        self.announce = False
        return events, None

    def person(self, typed: HumanInput) -> list[Event]:
        """A person pressed a key, sent a line or pasted."""
        events: list[Event] = [typed]
        if typed.kind in ("text", "paste"):
            self.drafting = True
            if self.phase is Phase.IDLE:
                self.phase = Phase.TYPING
                events.append(HumanTyping(active=True, client=typed.client))
        elif typed.kind in ("submit", "interrupt"):
            self.drafting = False
        return events

    def ended(self) -> list[Event]:
        """The program has exited: what it had still said."""
        return self._transcript()

    # --- inside -----------------------------------------------------------------------------------

    def _started(self) -> tuple[list[Event], Answer | None]:
        shown = "\n".join(self.screen.lines)
        for number, dialog in enumerate(self.options.startup):
            if number not in self.answered and dialog.expect.search(shown):
                self.answered.add(number)
                return [], Answer(number)
        if not self.at_prompt:
            return [], None
        self._rest()
        return [SessionReady(self.conversation), Idle()], None

    def _rest(self) -> None:
        self.phase = Phase.IDLE
        self._prompt = self.screen.lines[-1].rstrip()

    def _disturbed(self, printed: str) -> list[Event]:
        """Output at the prompt that no input of ours explains."""
        line = self.screen.lines[-1].rstrip()
        same_row = "\n" not in printed and PASTE_OFF not in printed
        if same_row and line == self._prompt:
            return []  # drawn anew, or erased: `quiet` says when that is the prompt again
        if same_row and self.options.prompt is not None and line.startswith(self._prompt):
            was, self.phase = self.phase, Phase.TYPING
            return [] if was is Phase.TYPING else [HumanTyping(active=True)]
        events: list[Event] = []
        if self.phase is Phase.TYPING:
            events.append(HumanTyping(active=False))
        return [*events, self._start_turn()]

    def _overlooked(self) -> list[Event]:
        """Quiet with an input pending: it went on without showing the whole echo, or in silence."""
        pending = self.pending
        if pending is None or pending.echo.submitted or not pending.enters or self.is_draft:
            return []
        if not pending.echo.moved:
            return []
        pending.echo.submitted = True
        if pending.echo.head_seen and not pending.echo.answered:
            return self._taken(pending)
        return [self._start_turn()]  # it reacted; the runtime learns that no proof came

    def _taken(self, pending: Pending) -> list[Event]:
        events: list[Event] = [self._start_turn()]
        if pending.echo.head_seen:
            how = (
                "then output; there is no prompt pattern" if pending.echo.answered else "then gone"
            )
            reference = f"echo in the output up to byte {self.offset}, {how}"
            evidence = Evidence("command.echo", reference, self._turn_id)
            events.append(Proven(pending.write_id, evidence))
        return events

    @property
    def _turn_id(self) -> str:
        return f"{self.run}.{self._turns}"

    def _start_turn(self) -> TurnStarted:
        self.phase = Phase.BUSY
        self._turns += 1
        self._said, self._unsaid = "", 0
        return TurnStarted(self._turn_id)

    def _end_turn(self) -> list[Event]:
        outcome = Outcome.INTERRUPTED if self.interrupted else Outcome.COMPLETED
        self.interrupted = False
        if not self._unsaid:
            self._said = self._said.rpartition("\n")[0]  # without the prompt
        return [*self._transcript(), TurnEnded(self._turn_id, outcome)]

    def _say(self, printed: str) -> None:
        printed = printed.replace(PASTE_OFF, "")
        room = MAX_TEXT - len(self._said)
        self._said += printed[:room]
        self._unsaid += max(0, len(printed) - room)

    def _transcript(self) -> list[Event]:
        text, more = self._said.strip("\n"), self._unsaid
        self._said, self._unsaid = "", 0
        if not text.strip():
            return []
        text += f"… [{more} more characters]" if more else ""
        return [Transcript("assistant", text, self._turn_id)]

    # --- checkpoints ------------------------------------------------------------------------------

    def dump(self) -> dict[str, Json]:
        return {
            "run": self.run,
            "conversation": self.conversation,
            "first_seq": self.first_seq,
            "offset": self.offset,
            "people": [self.hooks, self.drafting],
            "screen": self.screen.dump(),
            "phase": self.phase.value,
            "pending": self.pending.dump() if self.pending else None,
            "writes": dict(self.writes),
            "answered": sorted(self.answered),
            "interrupted": self.interrupted,
            "turns": self._turns,
            "prompt": self._prompt,
            "said": [self._said, self._unsaid],
        }

    @classmethod
    def load(cls, options: Options, dumped: Json) -> Program:
        """As `dump` left it. Raises `ValueError` for anything else."""
        match dumped:
            case {
                "run": int(run),
                "conversation": str(conversation),
                "first_seq": int(first_seq),
                "offset": int(offset),
                "people": [int(hooks), bool(drafting)],
                "screen": screen,
                "phase": str(phase),
                "pending": pending,
                "writes": dict(writes),
                "answered": list(answered),
                "interrupted": bool(interrupted),
                "turns": int(turns),
                "prompt": str(prompt),
                "said": [str(said), int(unsaid)],
            }:
                program = cls(options, run, conversation, first_seq)
                program.offset, program.phase = offset, Phase(phase)
                program.hooks, program.drafting = hooks, drafting
                program.screen.load(screen)
                program.pending = Pending.load(pending) if pending is not None else None
                program.writes = {str(i): seq for i, seq in writes.items() if isinstance(seq, int)}
                program.answered = {number for number in answered if isinstance(number, int)}
                program.interrupted = interrupted
                program._turns, program._prompt = turns, prompt
                program._said, program._unsaid = said, unsaid
                return program
            case _:
                raise ValueError("not a checkpoint of the command driver")


__all__ = ["Answer", "Enter", "Phase", "Program"]
