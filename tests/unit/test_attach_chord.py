"""The keys that detach: found in every spelling, never in a paste, and nothing else is kept back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_runtime.attach.chord import (
    ESCAPE_S,
    PASTE_S,
    BadKeys,
    Chord,
    Typed,
    parse_keys,
    show_keys,
)

KEYS = parse_keys("ctrl-\\,ctrl-d")
BACKSLASH = [b"\x1c", b"\x1b[92;5u", b"\x1b[92;5:1u", b"\x1b[92;69u", b"\x1b[27;5;92~"]
D = [b"\x04", b"\x1b[100;5u", b"\x1b[100;133u", b"\x1b[27;5;100~"]


@pytest.mark.parametrize("first", BACKSLASH)
@pytest.mark.parametrize("second", D)
def test_the_chord_is_known_in_every_spelling(first: bytes, second: bytes) -> None:
    assert Chord(KEYS).feed(b"ab" + first + second + b"cd") == Typed(b"ab", detach=True)


def test_letting_go_of_a_key_is_no_other_key() -> None:
    typed = Chord(KEYS).feed(b"\x1b[92;5u\x1b[92;5:3u\x1b[100;5u")
    assert typed == Typed(b"", detach=True)


def test_the_first_key_goes_through_when_another_one_follows() -> None:
    assert Chord(KEYS).feed(b"\x1ca") == Typed(b"\x1ca")
    assert Chord(KEYS).feed(b"\x1b[92;5ua") == Typed(b"\x1b[92;5ua")


def test_the_first_key_typed_twice_reaches_the_program_once() -> None:
    chord = Chord(KEYS)
    assert chord.feed(b"\x1c\x1c") == Typed(b"\x1c")
    assert chord.feed(b"\x04") == Typed(b"\x04")


def test_a_paste_is_text_whatever_it_holds() -> None:
    paste = b"\x1b[200~\x1c\x04\x1b[201~"
    chord = Chord(KEYS)
    assert chord.feed(paste) == Typed(paste)
    assert chord.feed(b"\x1c\x04") == Typed(b"", detach=True)


def test_a_paste_that_never_ends_is_over_when_nothing_follows() -> None:
    chord = Chord(KEYS)
    assert chord.feed(b"\x1b[200~text\x1c\x04") == Typed(b"\x1b[200~text\x1c\x04")
    assert chord.waits == PASTE_S
    assert chord.feed(b"more\x1b[201") == Typed(b"more"), "the end may still come"
    assert chord.waits == PASTE_S
    assert chord.flush() == b"\x1b[201"
    assert chord.waits is None
    assert chord.feed(b"\x1c\x04") == Typed(b"", detach=True)


def test_other_keys_that_a_program_asked_for_go_through() -> None:
    keys = b"\x1b[A\x1b[1;5C\x1b[97;5u\x1b[100u\x1b[100;6u\x1b[<0;3;4M\x1bOP\x1b\x1b[Z"
    assert Chord(KEYS).feed(keys) == Typed(keys)


def test_an_escape_waits_for_what_may_follow_and_can_be_given_out() -> None:
    chord = Chord(KEYS)
    assert chord.feed(b"\x1b") == Typed(b"")
    assert chord.waits == ESCAPE_S
    assert chord.flush() == b"\x1b"
    assert chord.waits is None


@given(st.binary(max_size=80), st.lists(st.integers(1, 5), max_size=40))
def test_nothing_is_lost_or_changed_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    data = data.replace(b"\x1c", b"")
    chord, out, at = Chord(KEYS), b"", 0
    for size in [*cuts, len(data)]:
        out += chord.feed(data[at : at + size]).data
        at += size
    assert out + chord.flush() == data


@given(st.sampled_from(BACKSLASH), st.sampled_from(D), st.integers(1, 20))
def test_the_chord_is_found_however_it_is_cut(first: bytes, second: bytes, size: int) -> None:
    chord, data = Chord(KEYS), b"x" + first + second
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    typed = [chord.feed(piece) for piece in pieces]
    assert typed[-1].detach and b"".join(one.data for one in typed) == b"x"


@pytest.mark.parametrize("text", ["", "d", "ctrl-", "ctrl-dd", "ctrl-1", "alt-d", "ctrl-d,,"])
def test_a_chord_that_cannot_be_typed_is_refused(text: str) -> None:
    with pytest.raises(BadKeys, match="name keys like"):
        parse_keys(text)


def test_a_chord_is_shown_as_people_read_it() -> None:
    assert show_keys(parse_keys("ctrl-\\, Ctrl-D")) == "Ctrl-\\ Ctrl-D"
    assert show_keys(parse_keys("ctrl-p,ctrl-q")) == "Ctrl-P Ctrl-Q"
