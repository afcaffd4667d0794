"""A screen as a picture, with Pillow (`relay-runtime[png]`) and the fonts of this machine."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .base import Cell

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    from .base import Color, Screen

Rgb = tuple[int, int, int]

TEXT: Rgb = (212, 212, 212)
GROUND: Rgb = (18, 18, 18)
#: As most terminals have them: black to white, then the bright ones.
_NAMED = bytes.fromhex(
    "000000 cd3131 0dbc79 e5e510 2472c8 bc3fbc 11a8cd e5e5e5"
    " 666666 f14c4c 23d18b f5f543 3b8eea d670d6 29b8db ffffff"
)
_LEVELS = (0, 95, 135, 175, 215, 255)

#: In pixels. A screen of very many cells is drawn smaller, so that its picture fits into memory:
#: 1000 rows of 1000 columns then take 150 MB while they are drawn.
SIZE, SMALL_SIZE = 16, 8
MANY_CELLS = 60_000

#: Monospaced fonts with box drawing first, then fonts for what those lack.
_WANTED = (
    *("DejaVuSansMono", "NotoSansMono-Regular", "LiberationMono-Regular", "Menlo", "UbuntuMono-R"),
    *("FreeMono", "NotoSansMonoCJK-Regular", "NotoSansCJK-Regular", "NotoSansCJKjp-Regular"),
    *(
        "wqy-microhei",
        "wqy-zenhei",
        "PingFang",
        "DejaVuSans",
        "NotoSansSymbols2-Regular",
        "unifont",
    ),
)
_SUFFIXES = (".ttf", ".otf", ".ttc")
#: A character that no font has: what is drawn for it is what is drawn for any that is missing.
_MISSING = "\U0010fffe"
_BLANK = Cell()


class NoPictures(Exception):
    """Raised when Pillow is not installed; the message says how to get it."""


def png(screen: Screen) -> bytes:
    """The screen as PNG: text with its colours and attributes, and the cursor. Raises `NoPictures`."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise NoPictures(
            "pictures need Pillow: install it with `pip install 'relay-runtime[png]'`"
        ) from None
    fonts = _Fonts(SIZE if screen.rows * screen.cols <= MANY_CELLS else SMALL_SIZE)
    image = Image.new("RGB", (screen.cols * fonts.width, screen.rows * fonts.height), GROUND)
    draw, cursor = ImageDraw.Draw(image), screen.cursor
    for row, cells in enumerate(screen.cells()):
        col = 0
        for cell in cells:
            under = cursor.visible and cursor.row == row and col <= cursor.col < col + cell.width
            if cell != _BLANK or under:
                _draw(draw, fonts, row, col, cell, inverse=cell.inverse != under)
            col += cell.width
        if cursor.visible and cursor.row == row and cursor.col >= col:
            _draw(draw, fonts, row, cursor.col, _BLANK, inverse=True)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _draw(draw: ImageDraw, fonts: _Fonts, row: int, col: int, cell: Cell, *, inverse: bool) -> None:
    ink, ground = rgb(cell.color, TEXT), rgb(cell.background, GROUND)
    if inverse:
        ink, ground = ground, ink
    if cell.faint:
        red, green, blue = ((a + b) // 2 for a, b in zip(ink, ground, strict=True))
        ink = red, green, blue
    left, top = col * fonts.width, row * fonts.height
    right, bottom = left + cell.width * fonts.width - 1, top + fonts.height - 1
    draw.rectangle((left, top, right, bottom), ground)
    if cell.text.strip() and not cell.invisible:
        font, heavier = fonts.choose(cell.text, bold=cell.bold, italic=cell.italic)
        for shift in range(2 if heavier else 1):
            at = (left + shift, top + fonts.baseline)
            draw.text(at, cell.text, ink, font, anchor="ls")
    if cell.underline:
        line = min(bottom, top + fonts.baseline + 2)
        draw.line((left, line, right, line), ink)
    if cell.strikethrough:
        line = top + fonts.baseline * 2 // 3
        draw.line((left, line, right, line), ink)


def rgb(color: Color, default: Rgb) -> Rgb:
    """Of a number in the usual palette of 256, of a colour as it is, or of none."""
    if color is None:
        return default
    if not isinstance(color, int):
        return color
    if color < 16:
        red, green, blue = _NAMED[3 * color : 3 * color + 3]
        return red, green, blue
    if color >= 232:
        return (8 + 10 * (color - 232),) * 3
    rest = color - 16
    return _LEVELS[rest // 36], _LEVELS[rest // 6 % 6], _LEVELS[rest % 6]


class _Face(NamedTuple):
    """A font in its four styles, by bold and italic. Those that it does not have are missing."""

    styles: dict[tuple[bool, bool], FreeTypeFont]
    missing: bytes

    def has(self, text: str) -> bool:
        mask = self.styles[False, False].getmask(text[0])
        return bytes(mask) != self.missing


class _Fonts:
    """`width`, `height` and `baseline` are those of a cell, in pixels."""

    def __init__(self, size: int) -> None:
        self._faces = _faces(size)
        font = self._faces[0].styles[False, False]
        above, below = font.getmetrics()
        self.width = max(1, round(font.getlength("M")))
        self.height, self.baseline = above + below, above
        self._known: dict[str, _Face] = {}

    def choose(self, text: str, *, bold: bool, italic: bool) -> tuple[FreeTypeFont, bool]:
        """The first font that has the character, and whether it has to be made bold by hand."""
        face = self._known.get(text)
        if face is None:
            face = next((face for face in self._faces if face.has(text)), self._faces[0])
            self._known[text] = face
        for style in ((bold, italic), (bold, False), (False, italic)):
            if style in face.styles:
                return face.styles[style], bold and not style[0]
        return face.styles[False, False], bold


def _faces(size: int) -> list[_Face]:
    """Never empty: Pillow brings a font of its own."""
    from PIL import ImageFont

    files, found = _files(), []
    for name in _WANTED:
        styles: dict[tuple[bool, bool], FreeTypeFont] = {}
        plain = name.removesuffix("-Regular").removesuffix("-R")
        for style, names in {
            (False, False): [name],
            (True, False): [f"{plain}-Bold", f"{plain}-B"],
            (False, True): [f"{plain}-Oblique", f"{plain}-Italic", f"{plain}-RI"],
            (True, True): [f"{plain}-BoldOblique", f"{plain}-BoldItalic", f"{plain}-BI"],
        }.items():
            for path in (files[one] for one in names if one in files):
                try:
                    styles[style] = ImageFont.truetype(str(path), size)
                except OSError:  # not a font that can be used
                    continue
                break
        if (False, False) in styles:
            found.append(_Face(styles, bytes(styles[False, False].getmask(_MISSING))))
    own = ImageFont.load_default(size)
    if isinstance(own, ImageFont.FreeTypeFont):
        found.append(_Face({(False, False): own}, bytes(own.getmask(_MISSING))))
    if not found:
        raise NoPictures("this Pillow cannot draw text: it was built without FreeType")
    return found


def _files() -> dict[str, Path]:
    """Font files by name without suffix, where fontconfig and macOS look for them."""
    home = Path(os.environ.get("HOME") or "/nonexistent")
    data = os.environ.get("XDG_DATA_HOME")
    places = [
        Path(data) / "fonts" if data else home / ".local/share/fonts",
        home / ".fonts",
        home / "Library/Fonts",
        Path("/usr/local/share/fonts"),
        Path("/usr/share/fonts"),
        Path("/Library/Fonts"),
        Path("/System/Library/Fonts"),
    ]
    found: dict[str, Path] = {}
    for place in places:
        for folder, _, names in os.walk(place):
            for name in names:
                stem, dot, suffix = name.rpartition(".")
                if f"{dot}{suffix.lower()}" in _SUFFIXES:
                    found.setdefault(stem, Path(folder, name))
    return found


__all__ = ["NoPictures", "png", "rgb"]
