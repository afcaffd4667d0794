"""The scripted agent's line editor: bytes in, submitted texts out, whatever the bytes are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_runtime.testing.scripted_agent import Editor, display


def byte_by_byte(data: bytes) -> tuple[Editor, list[str]]:
    editor = Editor()
    return editor, [text for byte in data for text in editor.feed(bytes([byte]))]


@pytest.mark.parametrize(
    ("typed", "submitted"),
    [
        (b"hello\r", ["hello"]),
        (b"one\rtwo\n", ["one", "two"]),
        (b"\r \r", []),
        (b"\x1b[200~two\nlines\x1b[201~\r", ["two\nlines"]),
        (b"\x1b[200~cr\r\nlf\rx\x1b[201~\r", ["cr\nlf\nx"]),
        (b"\x1b[200~keys \x03\x04\x1b[A\x15 stay\x1b[201~\r", ["keys \x03\x04\x1b[A\x15 stay"]),
        (b"ab\x7fc\r", ["ac"]),
        ("aé\x7fb\r".encode(), ["ab"]),
        (b"gone\x15kept\r", ["kept"]),
        (b"gone\x03kept\r", ["kept"]),
        (b"\x1b[A\x1b[1;5Ca\x1bOPb\x1bxc\r", ["abc"]),
        (b"\xff\xfe\x00bad\r", ["\ufffd\ufffdbad"]),
        (b"a\tb\r", ["a\tb"]),
    ],
)
def test_input_is_submitted_the_same_whole_and_byte_by_byte(
    typed: bytes, submitted: list[str]
) -> None:
    assert Editor().feed(typed) == submitted
    assert byte_by_byte(typed)[1] == submitted


def test_control_keys_interrupt_and_end() -> None:
    editor = Editor()
    assert editor.feed(b"x\x04") == []
    assert not editor.ended, "Ctrl-D with a draft does nothing"
    editor.feed(b"\x03")
    assert editor.interrupted
    editor.feed(b"\x04more\r")
    assert editor.ended


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=200))
def test_any_bytes_are_text_and_the_next_input_still_comes_through(data: bytes, cut: int) -> None:
    whole, parts = Editor(), Editor()
    data = data.replace(b"\x04", b"")
    assert whole.feed(data) == parts.feed(data[:cut]) + parts.feed(data[cut:])
    # Ends a paste, completes an escape sequence, clears the draft.
    assert whole.feed(b"\x1b[201~x\x15next\r")[-1] == "next"


@given(st.binary(max_size=300))
def test_what_is_shown_cannot_act_on_the_terminal(data: bytes) -> None:
    assert all(c.isprintable() or c == "\n" for c in display(data))
