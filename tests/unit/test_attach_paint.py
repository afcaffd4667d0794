"""What is written beside a program's own output: one row, one title, and nothing that acts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_runtime.attach import paint
from relay_runtime.screen import exact, new_screen

pytestmark = pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform")


@given(st.text())
def test_whatever_a_title_is_made_of_it_ends_where_it_should(text: str) -> None:
    with new_screen(4, 20) as screen:
        screen.feed(paint.title(text) + b"after")
        assert screen.text()[0] == "after"
        assert screen.title in text.replace("\x7f", "") or not text.isprintable()


def test_a_notice_takes_the_last_row_alone_and_leaves_cursor_and_pen() -> None:
    with new_screen(4, 20) as screen:
        screen.feed(b"one\r\n\x1b[31mtwo" + paint.notice("how to leave, in many words", 4, 20))
        assert screen.text() == ["one", "two", "", " how to leave, in ma"]
        screen.feed(b"!" + paint.notice("", 4, 20))
        assert screen.text() == ["one", "two!", "", ""]
        assert screen.ansi()[1] == "\x1b[31mtwo!\x1b[0m"


@pytest.mark.parametrize(
    ("data", "is_"),
    [(b"\x1b]0;a\x07", True), (b"x\x1b[23;0t", True), (b"\x1b[31mtext", False), (b"", False)],
)
def test_output_that_may_change_the_title_is_known(data: bytes, is_: bool) -> None:
    assert paint.retitles(data) is is_
