"""How the command line shows things, and that what it spells out itself agrees with the rest."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_client import types
from relay_runtime import control_answers, control_types
from relay_runtime.cli import app, messages, output, spawn
from relay_runtime.contract import Approval, Mode
from relay_runtime.turn_types import SessionState
from relay_runtime.visible_text import LONGEST_ESCAPE, VisibleText


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("  two\n lines\t", "two lines"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\u202eb", "a<U+202E>b"),
        ("x" * 200, "x" * 159 + "…"),
        ("", ""),
    ],
)
def test_a_cell_is_one_line_of_plain_text(text: str, expected: str) -> None:
    assert output.one_line(text) == expected


@given(st.text(max_size=400), st.integers(1, 50))
def test_a_cell_never_has_a_control_character_or_more_than_its_limit(text: str, limit: int) -> None:
    cell = output.one_line(text, limit)
    assert len(cell) <= limit
    assert (
        cell == "" or cell.isprintable() or not any(ord(c) < 32 or 126 < ord(c) < 160 for c in cell)
    )


def test_columns_line_up_whatever_is_in_them() -> None:
    lines = output.table(("A", "B"), [["\x1b[32midle\x1b[0m", "x"], ["字", "y"], ["é", "z"]])

    assert lines.split("\n") == ["A     B", "\x1b[32midle\x1b[0m  x", "字    y", "é     z"]


def test_an_empty_table_is_its_header() -> None:
    assert output.table(("A", "B"), []) == "A  B"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (200_000, "2d")],
)
def test_ages_are_told_in_one_unit(seconds: float, expected: str) -> None:
    assert output.age(1000.0, 1000.0 + seconds) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\n", "plain\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]52;c;cHduZWQ=\x1b\\after", "after"),
        ("\x1bPq#0;2;0\x1b\\after", "after"),
        ("\x1b(Bafter\x1b=\x1b>", "after"),
        ("\x1b[?25l\x1b[2J\x1b[H> ", "> "),
        ("a\x08b\x9b31m", "ab31m"),
        ("50%\rdone\r\n", "50%\ndone\n"),
    ],
)
def test_escape_sequences_are_taken_out_wherever_the_stream_is_cut(
    text: str, expected: str
) -> None:
    assert VisibleText().feed(text) == expected
    for cut in range(1, len(text)):
        visible = VisibleText()
        if text[cut - 1 : cut + 1] != "\r\n":
            assert visible.feed(text[:cut]) + visible.feed(text[cut:]) == expected


def test_a_sequence_without_an_end_does_not_hold_the_stream_for_ever() -> None:
    visible = VisibleText()
    shown = visible.feed("\x1b]0;" + "x" * LONGEST_ESCAPE) + visible.feed("more")
    assert shown.endswith("more") and "\x1b" not in shown


@given(st.lists(st.text(alphabet="\x1b[];m\\\x07a1\x90", max_size=12), max_size=8))
def test_nothing_that_acts_on_a_terminal_is_shown(pieces: list[str]) -> None:
    visible = VisibleText()
    shown = "".join(visible.feed(piece) for piece in pieces)
    assert not set(shown) & set("\x1b\x07\x90")


# What is spelled again, so that a command need not import pydantic to know it.


@pytest.mark.parametrize(
    ("answer", "record"),
    [
        (control_answers.Session, control_types.SessionInfo),
        (control_answers.Status, control_types.StatusInfo),
        (control_answers.Event, control_types.EventRecord),
        (control_answers.Usage, control_types.UsageTotals),
        (control_answers.Waiting, control_types.PendingRequest),
        (control_answers.Sent, types.SendResult),
        (control_answers.Delivery, types.DeliveryState),
        (control_answers.Receipts, types.Receipts),
        (control_answers.Receipt, types.Receipt),
        (control_answers.Proof, types.Evidence),
    ],
)
def test_answers_have_the_fields_of_the_records_they_are(
    answer: type[object], record: type[types.Record]
) -> None:
    assert set(get_type_hints(answer)) <= set(record.model_fields)


def test_the_choices_of_spawn_are_those_of_the_contract() -> None:
    hints = get_type_hints(spawn.spawn)
    assert set(get_args(get_args(hints["mode"])[0])) == {mode.value for mode in Mode}
    assert set(get_args(get_args(hints["approval"])[0])) == {one.value for one in Approval}
    waits = set(get_args(get_args(get_type_hints(messages.send)["wait"])[0]))
    assert waits <= {status.value for status in types.DeliveryStatus}


def test_every_state_and_status_has_a_colour() -> None:
    words = {state.value for state in SessionState} | {s.value for s in types.ReceiptStatus}
    assert words <= set(output.COLOURS)


def test_help_lines_fit_beside_their_commands() -> None:
    longest = max(map(len, app.COMMANDS))
    assert all(len(line) <= 80 - longest - 6 for _, line in app.COMMANDS.values())
