"""A plain program judged by its output: idle, busy, typing, taken or not. No I/O, no clock."""

from __future__ import annotations

import itertools
import json

import pytest

from relay_drivers.command.keys import keys
from relay_drivers.command.options import parse
from relay_drivers.command.program import Answer, Enter, Phase, Program
from relay_runtime.contract import Injection, Json
from relay_runtime.events import (
    Event,
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

PROMPT = "> "
TEXT = "[relay msg 5 from bob]\nhello there\n[end of relay msg 5]"
SHOWN = TEXT.replace("\n", "\r\n")
PASTE_ON, PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"


class Driven:
    """A program, what it was told, and what came of it."""

    def __init__(self, **options: Json) -> None:
        self.program = Program(parse({"prompt": "> $", **options}), 1, "c", 0)
        self.typed: list[Answer | Enter] = []

    def says(self, text: str, gap: int = 0) -> list[Event]:
        return self.program.feed(text.encode(), self.program.offset + gap, gap)

    def quiet(self) -> list[Event]:
        events, to_type = self.program.quiet()
        if to_type is not None:
            self.typed.append(to_type)
        return events

    def started(self) -> Driven:
        self.says(PASTE_ON + PROMPT)
        assert self.quiet() == [SessionReady("c"), Idle()]
        return self

    def types(self, text: str = TEXT, *, enter: bool = True) -> None:
        """As the session does: the text goes out, and Enter after it."""
        typed = keys(text, self.program.options, paste=self.program.pastes)
        self.program.begin(Injection("w", 7, text), typed)
        assert self.program.pending is not None
        self.program.pending.applied = True
        if enter and typed.enter is not None:
            self.program.entered()

    def restarted(self) -> None:
        """The supervisor was killed: go on from what was committed."""
        dumped = json.loads(json.dumps(self.program.dump()))
        applied = self.program.pending is not None and self.program.pending.applied
        self.program = Program.load(self.program.options, dumped)
        self.program.announce = True
        if self.program.pending is not None:
            self.program.pending.applied = applied


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def test_it_is_ready_at_its_first_quiet_prompt() -> None:
    driven = Driven()
    assert driven.says("welcome\r\nloading...") == []
    assert driven.quiet() == []
    assert driven.says("\r\n> ") == []
    assert driven.quiet() == [SessionReady("c"), Idle()]
    assert driven.program.accepts


def test_an_input_is_proven_when_its_echo_is_gone_and_ends_with_the_next_prompt() -> None:
    driven = Driven().started()
    driven.types()
    assert driven.says(SHOWN) == []
    started, proven = driven.says("\r\n")
    assert started == TurnStarted("1.1")
    assert isinstance(proven, Proven)
    assert (proven.write_id, proven.evidence.turn_id) == ("w", "1.1")
    assert driven.says("working\r\nworked\r\n> ") == []
    assert driven.quiet() == [
        Transcript("assistant", "working\nworked", "1.1"),
        TurnEnded("1.1", Outcome.COMPLETED),
        Idle(),
    ]
    assert driven.quiet() == []


def test_everything_at_once_is_the_same_in_the_same_order() -> None:
    driven = Driven().started()
    driven.types()
    assert kinds(driven.says(f"{SHOWN}\r\ndone\r\n> ")) == [TurnStarted, Proven]
    assert kinds(driven.quiet()) == [Transcript, TurnEnded, Idle]


def test_it_comes_out_alike_however_the_output_is_cut_and_wherever_the_supervisor_dies() -> None:
    output = f"{SHOWN}\r\n{PASTE_OFF}done\r\n{PASTE_ON}> "
    for cut in range(len(output)):
        driven = Driven().started()
        driven.types()
        events = driven.says(output[:cut])
        driven.restarted()
        events += driven.says(output[cut:])
        events += driven.quiet()
        assert kinds(events) == [TurnStarted, Proven, Transcript, TurnEnded, Idle], cut


def test_a_draft_that_was_not_submitted_gets_enter_once_more_and_no_more() -> None:
    driven = Driven().started()
    driven.types()
    driven.says(SHOWN)
    assert driven.quiet() == []
    assert driven.typed == [Enter()]
    driven.program.entered()
    assert driven.quiet() == []
    assert driven.typed == [Enter()]
    assert kinds(driven.says("\r\n")) == [TurnStarted, Proven]


def test_enter_is_missing_after_a_crash_and_is_made_good() -> None:
    driven = Driven().started()
    driven.types(enter=False)
    driven.says(SHOWN)
    driven.restarted()
    assert driven.quiet() == []
    assert driven.typed == [Enter()]


@pytest.mark.parametrize(
    "since",
    [
        " and more",  # a person typed on
        "\r\n",  # it was submitted, and the program works in silence
        f"\r\n{PASTE_OFF}",
        "\r\x1b[K> ",  # a person cleared the line
        "\r\nApply? [Y/n] ",  # a dialog: Enter would answer it
    ],
)
def test_enter_is_never_pressed_on_anything_but_the_draft(since: str) -> None:
    driven = Driven().started()
    driven.types()
    driven.says(SHOWN + since)
    driven.restarted()
    driven.quiet()
    assert driven.typed == []


def test_an_input_the_holder_never_had_is_not_entered() -> None:
    driven = Driven().started()
    driven.types(enter=False)
    assert driven.program.pending is not None
    driven.program.pending.applied = False
    driven.says(SHOWN)
    driven.quiet()
    assert driven.typed == []


def test_a_copy_of_its_own_end_inside_of_a_text_does_not_prove_it() -> None:
    body = "z" * 30
    text = f"[relay msg 5 from bob]\n{body} [end of relay msg 5]\n{body}\n[end of relay msg 5]"
    driven = Driven().started()
    driven.types(text, enter=False)
    assert driven.says(text.replace("\n", "\r\n")) == []
    assert driven.program.pending is not None
    assert not driven.program.pending.echo.submitted
    driven.program.entered()
    assert kinds(driven.says("\r\n")) == [TurnStarted, Proven]


def test_an_echo_still_under_way_at_enter_is_not_taken_for_its_end() -> None:
    body = "z" * 30
    text = f"[relay msg 5 from bob]\n{body} [end of relay msg 5]\n{body}\n[end of relay msg 5]"
    shown = text.replace("\n", "\r\n")
    driven = Driven().started()
    driven.types(text)
    assert driven.says(shown[:-10]) == []
    assert driven.says(shown[-10:]) == []
    assert kinds(driven.says("\r\n")) == [TurnStarted, Proven]


def test_new_lines_before_enter_prove_nothing() -> None:
    driven = Driven().started()
    driven.types(enter=False)
    assert driven.says(f"{SHOWN}\r\n\r\n") == []
    driven.program.entered()
    assert kinds(driven.says("\r\n")) == [TurnStarted, Proven]


def test_no_echo_is_no_proof_but_a_reaction_is_a_turn() -> None:
    driven = Driven().started()
    driven.types()
    driven.says("\r\nhm\r\n> ")
    assert kinds(driven.quiet()) == [TurnStarted, TurnEnded, Idle]


def test_an_echo_that_is_cut_short_is_proven_once_it_is_gone_and_quiet() -> None:
    driven = Driven().started()
    driven.types(TEXT.replace("hello", "hello " * 100), enter=False)
    assert driven.says("[relay msg 5 from bob]\r\nhello hello hello hello he… ") == []
    driven.program.entered()
    assert driven.quiet() == []
    assert driven.says("\r\nworking\r\n") == []
    assert kinds(driven.quiet()) == [TurnStarted, Proven]


def test_without_a_reaction_nothing_is_claimed() -> None:
    driven = Driven().started()
    driven.types()
    assert driven.quiet() == []
    assert driven.program.phase is Phase.IDLE


def test_without_a_prompt_pattern_the_terminals_echo_is_not_enough() -> None:
    driven = Driven(prompt=None, bracketed_paste=False)
    assert driven.quiet() == [SessionReady("c"), Idle()]
    driven.types("hello")
    assert driven.says("hello\r\n") == []
    assert kinds(driven.says("hello\r\n")) == [TurnStarted, Proven]
    assert kinds(driven.quiet()) == [Transcript, TurnEnded, Idle]
    driven.types("silence")
    driven.says("silence\r\n")
    assert kinds(driven.quiet()) == [TurnStarted, TurnEnded, Idle]


def test_a_person_typing_at_the_prompt_is_no_turn_until_enter() -> None:
    driven = Driven().started()
    assert driven.says("l") == [HumanTyping(active=True)]
    assert driven.says("s") == []
    assert driven.quiet() == []
    assert not driven.program.accepts
    assert driven.says("\r\n") == [HumanTyping(active=False), TurnStarted("1.1")]
    driven.says("file\r\n> ")
    assert kinds(driven.quiet()) == [Transcript, TurnEnded, Idle]


def test_where_no_prompt_shows_it_a_draft_is_what_a_person_typed_and_did_not_send() -> None:
    driven = Driven(prompt=None)
    assert driven.quiet() == [SessionReady("c"), Idle()]
    typed = HumanInput("pts/3", "text")
    assert driven.program.person(typed) == [typed, HumanTyping(active=True, client="pts/3")]
    assert driven.program.person(typed) == [typed]
    driven.restarted()
    assert driven.quiet() == []
    assert not driven.program.accepts
    key, sent = HumanInput("pts/3", "key"), HumanInput("pts/3", "submit")
    assert driven.program.person(key) == [key]
    assert driven.quiet() == []
    assert driven.program.person(sent) == [sent]
    assert driven.quiet() == [HumanTyping(active=False), Idle()]
    assert driven.program.accepts


def test_a_prompt_that_shows_says_more_than_what_was_typed() -> None:
    driven = Driven().started()
    driven.program.person(HumanInput("pts/3", "paste"))
    assert driven.quiet() == [HumanTyping(active=False), Idle()]


def test_keys_of_a_person_while_it_works_or_starts_are_no_draft_of_the_next_prompt() -> None:
    driven = Driven()
    typed = HumanInput("pts/3", "text")
    assert driven.program.person(typed) == [typed]
    driven.started()
    driven.types()
    driven.says(f"{SHOWN}\r\n")
    assert driven.program.person(typed) == [typed]
    driven.says("done\r\n> ")
    assert kinds(driven.quiet()) == [Transcript, TurnEnded, Idle]


def test_an_erased_draft_is_a_boundary_again() -> None:
    driven = Driven().started()
    driven.says("ls")
    driven.says("\b \b\b \b")
    assert driven.quiet() == [HumanTyping(active=False), Idle()]


def test_what_only_looks_different_is_no_turn() -> None:
    driven = Driven().started()
    assert driven.says("\x1b]0;new title\x07\x1b[?25h") == []
    assert driven.says("\r\x1b[K> ") == []
    assert driven.quiet() == []


def test_the_busy_pattern_outweighs_the_prompt() -> None:
    driven = Driven(busy="esc to interrupt").started()
    driven.types()
    driven.says(f"{SHOWN}\r\n* esc to interrupt\r\n> ")
    assert driven.quiet() == []
    driven.says("\r\x1b[A\x1b[2K\r\n> ")
    assert kinds(driven.quiet()) == [Transcript, TurnEnded, Idle]


@pytest.mark.parametrize("shown", ["> x", "text\r\n", "", "> \r\n", "a > b"])
def test_only_a_prompt_at_the_end_of_the_cursors_line_is_one(shown: str) -> None:
    driven = Driven()
    driven.says(shown)
    assert driven.quiet() == []


def test_a_prompt_of_two_lines_is_found() -> None:
    driven = Driven(prompt=r"╭─.*\n╰─\$ $")
    driven.says("hi\r\n╭─ ~/code\r\n╰─$ ")
    assert kinds(driven.quiet()) == [SessionReady, Idle]


def test_dialogs_are_answered_once_each_before_it_is_ready() -> None:
    dialogs: Json = [{"expect": "trust", "answer": "y\r"}, {"expect": "theme", "answer": "1"}]
    driven = Driven(startup=dialogs)
    driven.says("choose a theme: ")
    driven.quiet()
    driven.says("\r\ndo you trust it? ")
    driven.quiet()
    driven.quiet()
    assert driven.typed == [Answer(1), Answer(0)]
    driven.restarted()
    driven.says("\r\n> ")
    assert kinds(driven.quiet()) == [SessionReady, Idle]
    assert driven.typed == [Answer(1), Answer(0)]


def test_an_interrupted_turn_says_so_and_the_next_one_does_not() -> None:
    driven = Driven().started()
    for interrupted, outcome in [(True, Outcome.INTERRUPTED), (False, Outcome.COMPLETED)]:
        driven.types()
        driven.says(SHOWN + "\r\n")
        driven.program.interrupted = interrupted
        driven.says("^C\r\n> ")
        ended = driven.quiet()[1]
        assert isinstance(ended, TurnEnded)
        assert ended.outcome is outcome


def test_lost_output_is_told() -> None:
    driven = Driven().started()
    notice = driven.says("\r\n> ", gap=1000)[0]
    assert isinstance(notice, Notice)
    assert notice.code == "log.gap"


def test_an_adopted_idle_program_is_said_to_be_idle_once_more() -> None:
    driven = Driven().started()
    driven.restarted()
    assert driven.quiet() == [Idle()]
    assert driven.quiet() == []


def test_a_long_answer_is_bounded_and_says_what_is_missing() -> None:
    driven = Driven().started()
    driven.types()
    driven.says(SHOWN + "\r\n")
    for _ in range(100):
        driven.says("x" * 1000)
    driven.says("\r\n> ")
    transcript = driven.quiet()[0]
    assert isinstance(transcript, Transcript)
    assert len(transcript.text) < 16_500
    assert transcript.text.endswith(" more characters]")
    assert len(json.dumps(driven.program.dump())) < 10_000


def test_old_writes_are_forgotten_and_the_last_ones_kept() -> None:
    driven = Driven().started()
    typed = keys(TEXT, driven.program.options, paste=True)
    for number in range(100):
        driven.program.begin(Injection(str(number), number, TEXT), typed)
    assert list(driven.program.writes) == [str(number) for number in range(84, 100)]


def test_whatever_a_program_does_turns_and_boundaries_alternate() -> None:
    steps = ["ls", "\r\n", "> ", PASTE_OFF, "QUIET", "TYPE", SHOWN]
    for sequence in itertools.product(steps, repeat=5):
        driven = Driven().started()
        events: list[Event] = []
        for step in sequence:
            if step == "QUIET":
                events += driven.quiet()
            elif step == "TYPE":
                if driven.program.accepts:
                    driven.types()
            else:
                events += driven.says(step)
        running: str | None = None
        proofs = 0
        for event in events:
            if isinstance(event, TurnStarted):
                assert running is None, sequence
                running = event.turn_id
            elif isinstance(event, TurnEnded):
                assert running == event.turn_id, sequence
                running = None
            elif isinstance(event, Idle):
                assert running is None, sequence
            elif isinstance(event, Proven):
                proofs += 1
                assert running is not None
        assert proofs <= sequence.count("TYPE"), sequence


@pytest.mark.parametrize("broken", [None, {}, {"run": 1}, [], "x"])
def test_a_checkpoint_of_something_else_is_refused(broken: Json) -> None:
    with pytest.raises(ValueError, match="not a checkpoint"):
        Program.load(parse({}), broken)
