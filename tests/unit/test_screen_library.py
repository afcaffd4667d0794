"""What we declare of the emulator's library, beside what its own package and the library itself say."""

from __future__ import annotations

import ctypes
import importlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import given, settings

from relay_runtime.screen import abi, new_screen

from .test_screen import sizes, streams

if TYPE_CHECKING:
    from collections.abc import Mapping

pytest.importorskip("pyghostty", reason="pyghostty has no wheel for this platform")
_ffi = importlib.import_module("pyghostty._ffi")
ffi, lib = _ffi.ffi, _ffi.lib
Terminal = importlib.import_module("pyghostty.core").Terminal


class _Terminal(Protocol):
    """Of the package: a terminal to look into, by column and row."""

    def ref(self, x: int, y: int) -> object: ...
    def style(self, x: int, y: int) -> dict[str, object]: ...


STRUCTS: Mapping[str, type[ctypes.Structure]] = {
    "GhosttyString": abi.String,
    "GhosttyCellsView": abi.CellsView,
    "GhosttyTerminalModeConfig": abi.ModeConfig,
    "GhosttyColorRgb": abi.ColorRgb,
    "GhosttyStyleColor": abi.StyleColor,
    "GhosttyStyle": abi.Style,
    "GhosttyGridRef": abi.GridRef,
    "GhosttyPoint": abi.Point,
    "GhosttySelection": abi.Selection,
    "GhosttyFormatterScreenExtra": abi.ScreenExtra,
    "GhosttyFormatterTerminalExtra": abi.TerminalExtra,
    "GhosttyFormatterTerminalOptions": abi.FormatterOptions,
}
VALUES = {
    "SUCCESS": abi.SUCCESS,
    "OUT_OF_MEMORY": abi.OUT_OF_MEMORY,
    "OUT_OF_SPACE": abi.OUT_OF_SPACE,
    "FORMATTER_FORMAT_PLAIN": abi.FORMAT_PLAIN,
    "FORMATTER_FORMAT_VT": abi.FORMAT_VT,
    "POINT_TAG_ACTIVE": abi.POINT_ACTIVE,
    "TERMINAL_SCREEN_ALTERNATE": abi.SCREEN_ALTERNATE,
    "RENDER_STATE_CURSOR_VISUAL_STYLE_BAR": abi.SHAPE_BAR,
    "RENDER_STATE_CURSOR_VISUAL_STYLE_UNDERLINE": abi.SHAPE_UNDERLINE,
    "TERMINAL_OPT_KITTY_IMAGE_STORAGE_LIMIT": abi.OPT_KITTY_IMAGE_STORAGE_LIMIT,
    "TERMINAL_OPT_APC_MAX_BYTES": abi.OPT_APC_MAX_BYTES,
    "TERMINAL_OPT_SCROLLBACK_MAX_BYTES": abi.OPT_SCROLLBACK_MAX_BYTES,
    "TERMINAL_OPT_CONTINUATION_MAX_BYTES": abi.OPT_CONTINUATION_MAX_BYTES,
    "TERMINAL_DATA_COLS": abi.DATA_COLS,
    "TERMINAL_DATA_ROWS": abi.DATA_ROWS,
    "TERMINAL_DATA_CURSOR_X": abi.DATA_CURSOR_X,
    "TERMINAL_DATA_CURSOR_Y": abi.DATA_CURSOR_Y,
    "TERMINAL_DATA_ACTIVE_SCREEN": abi.DATA_ACTIVE_SCREEN,
    "TERMINAL_DATA_CURSOR_VISIBLE": abi.DATA_CURSOR_VISIBLE,
    "TERMINAL_DATA_TITLE": abi.DATA_TITLE,
    "TERMINAL_DATA_MODE": abi.DATA_MODE,
    "CELL_DATA_CODEPOINT": abi.CELL_CODEPOINT,
    "CELL_DATA_CONTENT_TAG": abi.CELL_CONTENT_TAG,
    "CELL_DATA_WIDE": abi.CELL_WIDE,
    "CELL_DATA_STYLE_ID": abi.CELL_STYLE_ID,
    "CELL_DATA_COLOR_PALETTE": abi.CELL_COLOR_PALETTE,
    "CELL_DATA_COLOR_RGB": abi.CELL_COLOR_RGB,
    "CELL_CONTENT_CODEPOINT_GRAPHEME": abi.CONTENT_CLUSTER,
    "CELL_CONTENT_BG_COLOR_PALETTE": abi.CONTENT_BG_PALETTE,
    "CELL_CONTENT_BG_COLOR_RGB": abi.CONTENT_BG_RGB,
    "CELL_WIDE_WIDE": abi.WIDE_WIDE,
    "CELL_WIDE_SPACER_TAIL": abi.WIDE_SPACER_TAIL,
    "STYLE_COLOR_NONE": abi.STYLE_COLOR_NONE,
    "STYLE_COLOR_PALETTE": abi.STYLE_COLOR_PALETTE,
    "STYLE_COLOR_RGB": abi.STYLE_COLOR_RGB,
    "ROW_DATA_WRAP": abi.ROW_WRAP,
    "RENDER_STATE_DATA_ROW_ITERATOR": abi.RENDER_ROW_ITERATOR,
    "RENDER_STATE_DATA_CURSOR_VISUAL_STYLE": abi.RENDER_CURSOR_SHAPE,
    "RENDER_STATE_ROW_DATA_RAW": abi.RENDER_ROW_RAW,
    "RENDER_STATE_ROW_DATA_CELLS_RAW": abi.RENDER_ROW_CELLS_RAW,
}


def test_the_installed_package_is_the_one_that_the_declarations_were_written_to() -> None:
    assert metadata.version("pyghostty") == abi.VERSION
    pinned = [line for line in metadata.requires("relay-runtime") or () if "pyghostty" in line]
    assert [line.partition(";")[0].strip() for line in pinned] in (
        [],
        [f"pyghostty=={abi.VERSION}"],
    )
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    assert f"pyghostty=={abi.VERSION};" in text


def test_every_number_that_we_use_is_declared() -> None:
    ours = {name for name in vars(abi) if name.isupper() and isinstance(getattr(abi, name), int)}
    assert len(ours) == len(VALUES)


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_numbers_are_those_of_the_package(name: str, value: int) -> None:
    assert getattr(lib, f"GHOSTTY_{name}") == value


@pytest.mark.parametrize(("name", "ours"), STRUCTS.items())
def test_layouts_are_those_of_the_package(name: str, ours: type[ctypes.Structure]) -> None:
    theirs = ffi.typeof(name)
    assert ffi.sizeof(name) == ctypes.sizeof(ours)
    assert ffi.alignof(name) == ctypes.alignment(ours)
    fields = {field: (one.offset, ffi.sizeof(one.type)) for field, one in theirs.fields}
    assert fields == {
        field: (getattr(ours, field).offset, getattr(ours, field).size)
        for field, *_ in ours._fields_
    }


@pytest.mark.parametrize(("name", "ours"), STRUCTS.items())
def test_layouts_are_those_of_the_library(name: str, ours: type[ctypes.Structure]) -> None:
    told = abi.load()["ghostty_type_json"]
    told.restype = ctypes.c_char_p
    theirs = json.loads(told())["types"][name]
    assert (theirs["size"], theirs["align"]) == (ctypes.sizeof(ours), ctypes.alignment(ours))
    for field, *_ in ours._fields_:
        place = theirs["fields"][field]
        assert (place["offset"], place["size"]) == (
            getattr(ours, field).offset,
            getattr(ours, field).size,
        )


@pytest.mark.parametrize("name", abi.PROTOTYPES)
def test_prototypes_are_those_of_the_package(name: str) -> None:
    result, arguments = abi.PROTOTYPES[name]
    theirs = ffi.typeof(getattr(lib, f"ghostty_{name}"))
    assert len(theirs.args) == len(arguments)
    for one, ours in zip(theirs.args, arguments, strict=True):
        assert ffi.sizeof(one) == ctypes.sizeof(ours), one
    if result is None:
        assert theirs.result.kind == "void"
    else:
        assert ffi.sizeof(theirs.result) == ctypes.sizeof(result)


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyghostty").mkdir()
    (tmp_path / "pyghostty-0.1.2.dist-info").mkdir()
    with pytest.raises(abi.LibraryMissing, match="not of version"):
        abi.load_from(tmp_path / "pyghostty")


def test_a_library_that_cannot_be_loaded_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / f"pyghostty-{abi.VERSION}.dist-info").mkdir()
    with pytest.raises(abi.LibraryMissing, match="cannot be used"):
        abi.load_from(tmp_path / "pyghostty")


def test_the_package_itself_is_not_imported() -> None:
    code = "import sys; from relay_runtime.screen import new_screen; new_screen(2, 2).snapshot()"
    code += "; assert not {'pyghostty', 'cffi', 'importlib.metadata'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@settings(deadline=None)
@given(streams, sizes)
def test_every_cell_of_a_restored_screen_looks_the_same(data: bytes, size: tuple[int, int]) -> None:
    rows, cols = size
    with new_screen(rows, cols) as screen, Terminal(cols, rows) as one, Terminal(cols, rows) as two:
        screen.feed(data)
        one.feed(data)
        two.feed(screen.snapshot())
        for row in range(rows):
            for col in range(cols):
                assert _look(one, row, col) == _look(two, row, col)


def _look(terminal: _Terminal, row: int, col: int) -> object:
    """What can be seen of a cell: an empty one looks as a blank does."""
    cell, value = ffi.new("GhosttyCell*"), ffi.new("uint32_t*")
    lib.ghostty_grid_ref_cell(terminal.ref(col, row), cell)

    def get(name: str) -> int:
        lib.ghostty_cell_get(cell[0], getattr(lib, f"GHOSTTY_CELL_DATA_{name}"), value)
        return int(value[0])

    style, tag = terminal.style(col, row), get("CONTENT_TAG")
    text = get("CODEPOINT") if tag in (0, 1) else 0
    if tag == lib.GHOSTTY_CELL_CONTENT_BG_COLOR_PALETTE:
        style["bg"] = ("palette", get("COLOR_PALETTE") & 0xFF)
    if tag == lib.GHOSTTY_CELL_CONTENT_BG_COLOR_RGB:
        color = get("COLOR_RGB")
        style["bg"] = ("rgb", tuple(color.to_bytes(4, "little")[:3]))
    if text in (0, 32):
        shown = ("bg", "inverse", "underline", "strikethrough", "overline")
        return {name: style[name] for name in shown}
    return chr(text), get("WIDE"), style
