"""A screen as a picture: every cell where it is, in its colours, whatever the fonts here lack."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from PIL import Image

from relay_runtime.screen import Screen, exact, new_screen
from relay_runtime.screen.base import Cell
from relay_runtime.screen.picture import GROUND, TEXT, png, rgb

pytestmark = pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform")

HIDE = b"\x1b[?25l"


def screen(output: bytes, rows: int = 4, cols: int = 10) -> Screen:
    made = new_screen(rows, cols)
    made.feed(output)
    return made


class Picture:
    """`colours(row, col)` are those in a cell."""

    def __init__(self, shown: Screen) -> None:
        self.image = Image.open(io.BytesIO(png(shown)))
        self.width = self.image.width // shown.cols
        self.height = self.image.height // shown.rows
        assert self.image.size == (self.width * shown.cols, self.height * shown.rows)

    def colours(self, row: int, col: int) -> set[object]:
        left, top = col * self.width, row * self.height
        cell = self.image.crop((left, top, left + self.width, top + self.height))
        found = cell.getcolors(1 << 24)
        assert found is not None
        return {colour for _, colour in found}


def test_cells_have_their_text_and_look() -> None:
    shown = screen("a漢\x1b[1;4;31;48;2;1;2;3me\u0301\x1b[0m \x1b[7;9;93mz".encode())
    assert shown.cells()[0][:5] == [
        Cell("a"),
        Cell("漢", width=2),
        Cell("e\u0301", color=1, background=(1, 2, 3), bold=True, underline=True),
        Cell(" "),
        Cell("z", color=11, inverse=True, strikethrough=True),
    ]
    assert shown.cells()[1] == []


def test_a_wide_character_that_a_narrower_screen_cuts_in_two_takes_no_more_than_there_is() -> None:
    shown = screen("123456789漢".encode(), cols=11)
    shown.resize(4, 10)
    assert all(sum(cell.width for cell in row) in (0, 10) for row in shown.cells())


@pytest.mark.parametrize(
    ("colour", "is_"),
    [(None, (7, 7, 7)), ((1, 2, 3), (1, 2, 3)), (1, (205, 49, 49)), (15, (255, 255, 255))]
    + [(16, (0, 0, 0)), (231, (255, 255, 255)), (110, (135, 175, 215))]
    + [(232, (8, 8, 8)), (255, (238, 238, 238))],
)
def test_colours_are_those_of_the_usual_palette(
    colour: int | tuple[int, int, int] | None, is_: tuple[int, int, int]
) -> None:
    assert rgb(colour, (7, 7, 7)) == is_


def test_text_and_grounds_are_drawn_where_they_are() -> None:
    shown = screen(HIDE + b"\x1b[2;3H\x1b[41m  \x1b[0m\x1b[3;1H\x1b[92m#\x1b[0m\x1b[7m  \x1b[0m")
    picture = Picture(shown)
    assert picture.colours(0, 0) == {GROUND}
    assert picture.colours(1, 1) == picture.colours(1, 4) == {GROUND}
    assert picture.colours(1, 2) == picture.colours(1, 3) == {rgb(1, TEXT)}
    assert rgb(10, TEXT) in picture.colours(2, 0)
    assert picture.colours(2, 1) == {TEXT}


def test_the_cursor_is_drawn_where_it_is_visible() -> None:
    assert Picture(screen(b"\x1b[3;5H")).colours(2, 4) == {TEXT}
    assert Picture(screen(b"ab")).colours(0, 2) == {TEXT}
    assert Picture(screen(b"\x1b[3;5H" + HIDE)).colours(2, 4) == {GROUND}


def test_hidden_text_is_not_drawn_and_faint_text_is_between_text_and_ground() -> None:
    picture = Picture(screen(HIDE + b"\x1b[8m#\x1b[0;2m#"))
    assert picture.colours(0, 0) == {GROUND}
    assert TEXT not in picture.colours(0, 1) and len(picture.colours(0, 1)) > 1


def test_what_no_font_has_breaks_nothing() -> None:
    strange = "漢 🎉 \U0001f9d1\u200d\U0001f680 مرحبا \u1cd0 \ue0b0 \U000e0041 \u0e01\u0e33 ﷽"
    Picture(screen(strange.encode(), cols=40))


def test_a_very_large_screen_is_drawn_smaller() -> None:
    small, large = Picture(screen(b"x")), Picture(screen(b"x", rows=300, cols=300))
    assert large.width < small.width and large.height < small.height


def test_without_pillow_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "from relay_runtime.screen import new_screen, picture\n"
        "try: picture.png(new_screen(2, 2))\n"
        "except picture.NoPictures as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'relay-runtime[png]'" in done.stdout
