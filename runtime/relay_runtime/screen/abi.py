"""The part of libghostty-vt's C interface that we call, through ctypes.

The library comes in the wheel of `pyghostty`, which is not imported: its own binding parses the
whole header (150 ms), while a supervisor, or an `attach`, needs these few calls at once. The layouts
and numbers below are those of that one version, and no other is loaded.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from ctypes import (
    POINTER,
    Structure,
    Union,
    c_bool,
    c_char_p,
    c_int,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    sizeof,
)
from pathlib import Path

#: The version of `pyghostty` that this file was written to, pinned in pyproject.toml too.
VERSION = "0.1.3"
_SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"

SUCCESS, OUT_OF_MEMORY, OUT_OF_SPACE = 0, -1, -3
FORMAT_PLAIN, FORMAT_VT = 0, 1
POINT_ACTIVE = 0
SCREEN_ALTERNATE = 1
SHAPE_BAR, SHAPE_UNDERLINE = 0, 2

OPT_KITTY_IMAGE_STORAGE_LIMIT = 15
OPT_APC_MAX_BYTES = 19
OPT_SCROLLBACK_MAX_BYTES = 27
OPT_CONTINUATION_MAX_BYTES = 31

DATA_COLS, DATA_ROWS = 1, 2
DATA_CURSOR_X, DATA_CURSOR_Y = 3, 4
DATA_ACTIVE_SCREEN = 6
DATA_CURSOR_VISIBLE = 7
DATA_TITLE = 12
DATA_MODE = 37

CELL_CODEPOINT, CELL_CONTENT_TAG, CELL_WIDE, CELL_STYLE_ID = 1, 2, 3, 6
CELL_COLOR_PALETTE, CELL_COLOR_RGB = 10, 11
CONTENT_CLUSTER, CONTENT_BG_PALETTE, CONTENT_BG_RGB = 1, 2, 3
WIDE_WIDE, WIDE_SPACER_TAIL = 1, 2
STYLE_COLOR_NONE, STYLE_COLOR_PALETTE, STYLE_COLOR_RGB = 0, 1, 2
ROW_WRAP = 1

RENDER_ROW_ITERATOR, RENDER_CURSOR_SHAPE = 4, 10
RENDER_ROW_RAW, RENDER_ROW_CELLS_RAW = 2, 5


class LibraryMissing(Exception):
    """No usable library on this machine. The message says why."""


class String(Structure):
    """Bytes that the library owns, valid until its next call."""

    _fields_ = (("ptr", c_void_p), ("len", c_size_t))


class CellsView(Structure):
    """The cells of one row, valid until the render state's next update."""

    _fields_ = (("ptr", c_void_p), ("len", c_size_t))


class ModeConfig(Structure):
    _fields_ = (("mode", c_uint16), ("value", c_bool))


class ColorRgb(Structure):
    _fields_ = (("r", c_uint8), ("g", c_uint8), ("b", c_uint8))


class StyleColorValue(Union):
    _fields_ = (("palette", c_uint8), ("rgb", ColorRgb), ("_padding", c_uint64))


class StyleColor(Structure):
    _fields_ = (("tag", c_int), ("value", StyleColorValue))


class Style(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("fg_color", StyleColor),
        ("bg_color", StyleColor),
        ("underline_color", StyleColor),
        ("bold", c_bool),
        ("italic", c_bool),
        ("faint", c_bool),
        ("blink", c_bool),
        ("inverse", c_bool),
        ("invisible", c_bool),
        ("strikethrough", c_bool),
        ("overline", c_bool),
        ("underline", c_int),
    )


class GridRef(Structure):
    _fields_ = (("size", c_size_t), ("node", c_void_p), ("x", c_uint16), ("y", c_uint16))


class PointValue(Structure):
    """ctypes passes no union by value; this has the layout of the real one and goes the same way."""

    _fields_ = (("x", c_uint16), ("y", c_uint32), ("_padding", c_uint64))


class Point(Structure):
    _fields_ = (("tag", c_int), ("value", PointValue))


class Selection(Structure):
    _fields_ = (("size", c_size_t), ("start", GridRef), ("end", GridRef), ("rectangle", c_bool))


class ScreenExtra(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("cursor", c_bool),
        ("style", c_bool),
        ("hyperlink", c_bool),
        ("protection", c_bool),
        ("kitty_keyboard", c_bool),
        ("charsets", c_bool),
    )


class TerminalExtra(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("palette", c_bool),
        ("modes", c_bool),
        ("scrolling_region", c_bool),
        ("tabstops", c_bool),
        ("pwd", c_bool),
        ("keyboard", c_bool),
        ("screen", ScreenExtra),
    )


class FormatterOptions(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("emit", c_int),
        ("unwrap", c_bool),
        ("trim", c_bool),
        ("extra", TerminalExtra),
        ("selection", POINTER(Selection)),
    )


def terminal_extra(wanted: bool) -> TerminalExtra:
    """What a formatter writes besides the text: all of a state that a reset undoes, or nothing."""
    parts = (wanted,) * 6
    extra = TerminalExtra(sizeof(TerminalExtra), *parts, ScreenExtra(sizeof(ScreenExtra), *parts))
    extra.palette = extra.pwd = False
    return extra


_HANDLE, _OUT = c_void_p, c_void_p
_SIZED = (POINTER(c_uint8), c_size_t, POINTER(c_size_t))  #: buffer, its length, length needed
#: Result and arguments of each function that is called. An allocator is always NULL: its own.
PROTOTYPES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "terminal_new": (c_int, (c_void_p, POINTER(_HANDLE), c_uint16, c_uint16)),
    "terminal_free": (None, (_HANDLE,)),
    "terminal_resize": (c_int, (_HANDLE, c_uint16, c_uint16, c_uint32, c_uint32)),
    "terminal_set": (c_int, (_HANDLE, c_int, c_void_p)),
    "terminal_get": (c_int, (_HANDLE, c_int, _OUT)),
    "terminal_vt_write": (None, (_HANDLE, c_char_p, c_size_t)),
    "terminal_continuation_buf": (c_int, (_HANDLE, *_SIZED)),
    "terminal_grid_ref": (c_int, (_HANDLE, Point, POINTER(GridRef))),
    "grid_ref_style": (c_int, (POINTER(GridRef), POINTER(Style))),
    "grid_ref_graphemes": (
        c_int,
        (POINTER(GridRef), POINTER(c_uint32), c_size_t, POINTER(c_size_t)),
    ),
    "snapshot_encode_buf": (c_int, (_HANDLE, *_SIZED)),
    "snapshot_decoder_new_buf": (c_int, (c_void_p, POINTER(_HANDLE), POINTER(c_uint8), c_size_t)),
    "snapshot_decoder_decode": (c_int, (_HANDLE, POINTER(_HANDLE))),
    "snapshot_decoder_free": (None, (_HANDLE,)),
    "formatter_terminal_new": (c_int, (c_void_p, POINTER(_HANDLE), _HANDLE, FormatterOptions)),
    "formatter_format_buf": (c_int, (_HANDLE, *_SIZED)),
    "formatter_free": (None, (_HANDLE,)),
    "render_state_new": (c_int, (c_void_p, POINTER(_HANDLE))),
    "render_state_update": (c_int, (_HANDLE, _HANDLE)),
    "render_state_get": (c_int, (_HANDLE, c_int, _OUT)),
    "render_state_free": (None, (_HANDLE,)),
    "render_state_row_iterator_new": (c_int, (c_void_p, POINTER(_HANDLE))),
    "render_state_row_iterator_next": (c_bool, (_HANDLE,)),
    "render_state_row_iterator_free": (None, (_HANDLE,)),
    "render_state_row_get": (c_int, (_HANDLE, c_int, _OUT)),
    "cell_get": (c_int, (c_uint64, c_int, _OUT)),
    "row_get": (c_int, (c_uint64, c_int, _OUT)),
}


@functools.cache
def load() -> ctypes.CDLL:
    """The library with its prototypes declared.

    Raises LibraryMissing: there is no wheel for this platform, or it is of another version.
    """
    found = importlib.util.find_spec("pyghostty")
    if found is None or found.origin is None:
        raise LibraryMissing("pyghostty is not installed: no terminal emulator on this platform")
    return load_from(Path(found.origin).parent)


def load_from(package: Path) -> ctypes.CDLL:
    """The library inside an installed `pyghostty`. Raises LibraryMissing."""
    # The folder beside it tells the version; importlib.metadata costs as much as all the rest.
    if not (package.parent / f"pyghostty-{VERSION}.dist-info").is_dir():
        raise LibraryMissing(f"pyghostty is not of version {VERSION}, whose layouts are known here")
    try:
        library = ctypes.CDLL(str(package / "_lib" / f"libghostty-vt{_SUFFIX}"))
        for name, (result, arguments) in PROTOTYPES.items():
            function = getattr(library, f"ghostty_{name}")
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise LibraryMissing(f"pyghostty's library cannot be used: {error}") from error
    return library
