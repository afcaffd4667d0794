"""What people type, by kind: keys as terminals spell them, and what is nobody's input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_runtime.holder.people import EVERY_S, INTERRUPT, KEY, PASTE, SUBMIT, TEXT, Kinds, People

KEYS = [
    (b"a", [TEXT]),
    ("käse 🎉".encode(), [TEXT]),
    (b"\r", [SUBMIT]),
    (b"yes\r", [TEXT, SUBMIT]),
    (b"\x1b", [INTERRUPT]),
    (b"\x1b\x1b", [INTERRUPT]),
    (b"\x03", [INTERRUPT]),
    (b"\x04", [INTERRUPT]),
    (b"\x7f", [KEY]),
    (b"\t", [KEY]),
    (b"\x1b[A", [KEY]),
    (b"\x1bOA", [KEY]),
    (b"\x1b[3~", [KEY]),
    (b"\x1b\r", [KEY]),  # Alt-Enter: a new line in the draft
    (b"\x1bb", [KEY]),
    (b"\x1b[<35;10;4M", [KEY]),
    (b"\x1b[M !!x", [KEY, TEXT]),
    (b"\x1b[13u", [SUBMIT]),
    (b"\x1b[13;2u", [KEY]),
    (b"\x1b[27u", [INTERRUPT]),
    (b"\x1b[99;5u", [INTERRUPT]),
    (b"\x1b[27;5;99~", [INTERRUPT]),
    (b"\x1b[97u", [TEXT]),
    (b"\x1b[97;2:1u", [TEXT]),
    (b"\x1b[57352u", [KEY]),
    (b"\x1b[200~one\rtwo\x03\x1b[201~", [PASTE]),
    (b"\x1b[200~a\x1b\x1b[201~\r", [PASTE, SUBMIT]),
]
ANSWERS = [
    b"\x1b[?62;22c",
    b"\x1b[>1;10;0c",
    b"\x1b[12;40R",
    b"\x1b[0n",
    b"\x1b[I",
    b"\x1b[O",
    b"\x1b[8;24;80t",
    b"\x1b[?2026;2$y",
    b"\x1b[?5u",
    b"\x1b]11;rgb:0000/0000/0000\x1b\\",
    b"\x1b]11;rgb:0000/0000/0000\x07",
    b"\x1bP>|xterm(380)\x1b\\",
    b"\x1b_Gi=1;OK\x1b\\",
]


@pytest.mark.parametrize(("data", "kinds"), KEYS)
def test_each_key_has_its_kind(data: bytes, kinds: list[str]) -> None:
    assert Kinds().feed(data) == kinds


@pytest.mark.parametrize("data", ANSWERS)
def test_what_a_terminal_answers_is_nobodys_input(data: bytes) -> None:
    assert Kinds().feed(data) == []
    assert Kinds().feed(data + b"x") == [TEXT]


@given(st.sampled_from(ANSWERS + [keys for keys, _ in KEYS]), st.integers(1, 12))
def test_a_cut_frame_changes_nothing_but_at_an_escape(data: bytes, at: int) -> None:
    """A frame that ends with Escape is the key: what comes with it comes in the same piece."""
    head, rest = data[:at], data[at:]
    if head.endswith(b"\x1b"):
        return
    kinds = Kinds()
    cut = kinds.feed(head) + kinds.feed(rest)
    assert [kind for i, kind in enumerate(cut) if cut[i - 1 : i] != [kind]] == Kinds().feed(data)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_whatsoever_break_it(frames: list[bytes]) -> None:
    kinds = Kinds()
    for frame in frames:
        assert set(kinds.feed(frame)) <= {TEXT, SUBMIT, INTERRUPT, KEY, PASTE}


def test_one_line_is_written_while_the_same_goes_on_and_one_for_each_change() -> None:
    people = People()
    assert people.typed("pts/1", [TEXT], 10.0) == [TEXT]
    assert people.typed("pts/1", [TEXT], 10.1) == []
    assert people.typed("pts/2", [TEXT], 10.2) == [TEXT]
    assert people.typed("pts/2", [TEXT, SUBMIT], 10.3) == [SUBMIT]
    assert people.typed("pts/2", [SUBMIT], 10.3 + EVERY_S) == [SUBMIT]


def test_quiet_counts_from_the_last_key_also_of_one_that_was_not_written_down() -> None:
    people = People()
    assert people.quiet(1e9, 0.0)
    people.typed("pts/1", [TEXT], 10.0)
    people.typed("pts/1", [TEXT], 10.5)
    assert not people.quiet(1.0, 11.4)
    assert people.quiet(1.0, 11.5)
    people.typed("pts/1", [], 20.0)
    assert people.quiet(1.0, 20.0)
