"""One terminal of libghostty-vt: its calls, in Python's types."""

from __future__ import annotations

import ctypes
from ctypes import (
    byref,
    c_bool,
    c_int,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    sizeof,
)
from typing import TYPE_CHECKING, NamedTuple

from . import abi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Kept above the screen, 8 bytes a cell: what one that is made higher shows again, some 1000 lines of
#: 240 columns. Not a number of lines: the library then takes seven times as long for each new one.
SCROLLBACK_BYTES = 2 * 1024 * 1024
#: Of an unfinished sequence: longer than the titles, links and clipboards that terminals take. After
#: a snapshot inside a still longer one, its rest would show as text.
UNFINISHED_BYTES = 1 << 20
#: Of a string in a terminal's own protocols: a chunk of a picture is at most 4 KB.
APC_BYTES = 1 << 16
#: Pictures are not kept: they could take any amount of memory, and a snapshot has none.
IMAGE_BYTES = 0
# A cell in pixels. Only reports and pictures would use it, and there are none.
_CELL_WIDTH, _CELL_HEIGHT = 8, 16


class Row(NamedTuple):
    """The cells of a row in the library's own form, 8 bytes each. An empty cell is 0."""

    wraps: bool  #: it goes on in the next row
    cells: memoryview


class Look(NamedTuple):
    """A cell. One without text can have a background of its own; all else is in its style."""

    codepoint: int  #: 0: no text
    cluster: bool  #: more characters follow the first
    wide: int  #: one of abi.WIDE_…
    style: int  #: 0: none. The same number can be another style in another row
    background: abi.StyleColor


class Cells(NamedTuple):
    """Every cell of the screen, and the shape of its cursor: one of abi.SHAPE_…"""

    rows: tuple[Row, ...]
    cursor_shape: int


class Terminal:
    """Owns a terminal. Every method but `close` raises ValueError once it is closed."""

    _owned = c_void_p()  # also for `__del__` when there was nothing to own

    def __init__(self, rows: int, cols: int) -> None:
        self._own(c_void_p())
        _check(self._lib.ghostty_terminal_new(None, byref(self._owned), cols, rows))
        self._limit()

    def _limit(self) -> None:
        for option, value in (
            (abi.OPT_SCROLLBACK_MAX_BYTES, SCROLLBACK_BYTES),
            (abi.OPT_CONTINUATION_MAX_BYTES, UNFINISHED_BYTES),
            (abi.OPT_APC_MAX_BYTES, APC_BYTES),
            (abi.OPT_KITTY_IMAGE_STORAGE_LIMIT, IMAGE_BYTES),
        ):
            _check(self._lib.ghostty_terminal_set(self._handle, option, byref(c_uint64(value))))

    def _own(self, handle: c_void_p) -> None:
        self._lib, self._owned = abi.load(), handle

    @property
    def _handle(self) -> c_void_p:
        if not self._owned:
            raise ValueError("the screen is closed")
        return self._owned

    def close(self) -> None:
        owned, self._owned = self._owned, c_void_p()
        if owned:
            self._lib.ghostty_terminal_free(owned)

    __del__ = close

    def feed(self, data: bytes) -> None:
        self._lib.ghostty_terminal_vt_write(self._handle, data, len(data))

    def resize(self, rows: int, cols: int) -> None:
        sizes = cols, rows, _CELL_WIDTH, _CELL_HEIGHT
        _check(self._lib.ghostty_terminal_resize(self._handle, *sizes))

    def size(self) -> tuple[int, int]:
        return self._short(abi.DATA_ROWS), self._short(abi.DATA_COLS)

    def cursor(self) -> tuple[int, int]:
        return self._short(abi.DATA_CURSOR_Y), self._short(abi.DATA_CURSOR_X)

    def cursor_visible(self) -> bool:
        value = c_bool()
        self._get(abi.DATA_CURSOR_VISIBLE, value)
        return value.value

    def alternate(self) -> bool:
        value = c_int()
        self._get(abi.DATA_ACTIVE_SCREEN, value)
        return value.value == abi.SCREEN_ALTERNATE

    def title(self) -> bytes:
        value = abi.String()
        self._get(abi.DATA_TITLE, value)
        return ctypes.string_at(value.ptr, value.len) if value.len else b""

    def mode(self, number: int) -> bool:
        """A DEC private mode; False when it is not known."""
        value = abi.ModeConfig(number, False)
        known = self._lib.ghostty_terminal_get(self._handle, abi.DATA_MODE, byref(value))
        return known == abi.SUCCESS and bool(value.value)

    def unfinished(self) -> bytes | None:
        """The bytes of a sequence, or character, whose end has not come. None: too many to keep."""
        return self._bytes(self._lib.ghostty_terminal_continuation_buf, self._handle)

    def plain(self) -> bytes:
        """The rows as text."""
        return self._format(abi.FORMAT_PLAIN, with_state=False)

    def styled(self) -> bytes:
        """The rows as text with colours and attributes; CR LF between rows."""
        return self._format(abi.FORMAT_VT, with_state=False)

    def whole(self) -> bytes:
        """Modes and tab stops, then what `styled` gives, then scrolling region, cursor and pen."""
        return self._format(abi.FORMAT_VT, with_state=True)

    def _format(self, form: int, *, with_state: bool) -> bytes:
        rows, cols = self.size()
        # Without a selection the scrollback would come too, and move the screen down.
        area = abi.Selection(sizeof(abi.Selection), self._ref(0, 0), self._ref(rows - 1, cols - 1))
        options = abi.FormatterOptions(sizeof(abi.FormatterOptions), form)
        options.selection = ctypes.pointer(area)
        options.extra = abi.terminal_extra(with_state)
        formatter = c_void_p()
        _check(
            self._lib.ghostty_formatter_terminal_new(None, byref(formatter), self._handle, options)
        )
        try:
            found = self._bytes(self._lib.ghostty_formatter_format_buf, formatter)
        finally:
            self._lib.ghostty_formatter_free(formatter)
        if found is None:
            raise MemoryError("the terminal emulator cannot write its screen")
        return found

    def _ref(self, row: int, col: int) -> abi.GridRef:
        ref = abi.GridRef(sizeof(abi.GridRef))
        point = abi.Point(abi.POINT_ACTIVE, abi.PointValue(col, row))
        _check(self._lib.ghostty_terminal_grid_ref(self._handle, point, byref(ref)))
        return ref

    def copy(self) -> Terminal | None:
        """A second terminal in the same state. None: inside a sequence too long to keep."""
        data = self.encoded()
        return None if data is None else self.decoded(data)

    def encoded(self) -> bytes | None:
        """Its state, for `decoded` of the same version. None: inside a sequence too long to keep."""
        return self._bytes(self._lib.ghostty_snapshot_encode_buf, self._handle)

    @classmethod
    def decoded(cls, data: bytes) -> Terminal:
        """A terminal in that state. Raises ValueError when it is none."""
        copy = cls.__new__(cls)
        copy._own(c_void_p())
        source = (c_uint8 * len(data)).from_buffer_copy(data)
        decoder = c_void_p()
        new = copy._lib.ghostty_snapshot_decoder_new_buf
        _check(new(None, byref(decoder), source, len(data)))
        try:
            result = copy._lib.ghostty_snapshot_decoder_decode(decoder, byref(copy._owned))
        finally:
            copy._lib.ghostty_snapshot_decoder_free(decoder)
        if result != abi.SUCCESS:
            raise ValueError("these bytes are no terminal's state")
        copy._limit()
        return copy

    def cells(self) -> Cells:
        state, iterator = c_void_p(), c_void_p()
        _check(self._lib.ghostty_render_state_new(None, byref(state)))
        try:
            _check(self._lib.ghostty_render_state_row_iterator_new(None, byref(iterator)))
            try:
                get, shape = self._lib.ghostty_render_state_get, c_int()
                _check(self._lib.ghostty_render_state_update(state, self._handle))
                _check(get(state, abi.RENDER_CURSOR_SHAPE, byref(shape)))
                _check(get(state, abi.RENDER_ROW_ITERATOR, byref(iterator)))
                return Cells(tuple(self._each_row(iterator)), shape.value)
            finally:
                self._lib.ghostty_render_state_row_iterator_free(iterator)
        finally:
            self._lib.ghostty_render_state_free(state)

    def _each_row(self, iterator: c_void_p) -> Iterator[Row]:
        get = self._lib.ghostty_render_state_row_get
        view, raw, wraps = abi.CellsView(), c_uint64(), c_bool()
        while self._lib.ghostty_render_state_row_iterator_next(iterator):
            _check(get(iterator, abi.RENDER_ROW_CELLS_RAW, byref(view)))
            _check(get(iterator, abi.RENDER_ROW_RAW, byref(raw)))
            _check(self._lib.ghostty_row_get(raw, abi.ROW_WRAP, byref(wraps)))
            cells = ctypes.string_at(view.ptr, view.len * sizeof(c_uint64))
            yield Row(wraps.value, memoryview(cells).cast("Q"))

    def look(self, cell: int) -> Look:
        """What the bits of a cell say."""
        get = self._lib.ghostty_cell_get
        codepoint, content, wide, style = c_uint32(), c_int(), c_int(), c_uint16()
        _check(get(cell, abi.CELL_CODEPOINT, byref(codepoint)))
        _check(get(cell, abi.CELL_CONTENT_TAG, byref(content)))
        _check(get(cell, abi.CELL_WIDE, byref(wide)))
        _check(get(cell, abi.CELL_STYLE_ID, byref(style)))
        color = abi.StyleColor()
        if content.value == abi.CONTENT_BG_PALETTE:
            color.tag = abi.STYLE_COLOR_PALETTE
            _check(get(cell, abi.CELL_COLOR_PALETTE, byref(color.value)))
        elif content.value == abi.CONTENT_BG_RGB:
            color.tag = abi.STYLE_COLOR_RGB
            _check(get(cell, abi.CELL_COLOR_RGB, byref(color.value)))
        cluster = content.value == abi.CONTENT_CLUSTER
        text = codepoint.value if color.tag == abi.STYLE_COLOR_NONE else 0
        return Look(text, cluster, wide.value, style.value, color)

    def style(self, row: int, col: int) -> abi.Style:
        style = abi.Style(sizeof(abi.Style))
        _check(self._lib.ghostty_grid_ref_style(byref(self._ref(row, col)), byref(style)))
        return style

    def cluster(self, row: int, col: int) -> str:
        """All characters of a cell that has more than one."""
        ref, size = self._ref(row, col), c_size_t()
        get = self._lib.ghostty_grid_ref_graphemes
        get(byref(ref), None, 0, byref(size))
        buffer = (c_uint32 * max(1, size.value))()
        _check(get(byref(ref), buffer, size, byref(size)))
        return "".join(map(chr, buffer[: size.value]))

    def _short(self, key: int) -> int:
        value = c_uint16()
        self._get(key, value)
        return value.value

    def _get(self, key: int, value: ctypes._CData) -> None:
        _check(self._lib.ghostty_terminal_get(self._handle, key, byref(value)))

    @staticmethod
    def _bytes(call: Callable[..., int], handle: c_void_p) -> bytes | None:
        """What a function writes into a buffer of the size it asks for. None: it refuses."""
        size = c_size_t()
        if call(handle, None, 0, byref(size)) not in (abi.SUCCESS, abi.OUT_OF_SPACE):
            return None
        if not size.value:
            return b""
        buffer = (c_uint8 * size.value)()
        _check(call(handle, buffer, size, byref(size)))
        return ctypes.string_at(buffer, size.value)


def _check(result: int) -> None:
    if result == abi.SUCCESS:
        return
    if result == abi.OUT_OF_MEMORY:
        raise MemoryError("the terminal emulator is out of memory")
    raise RuntimeError(f"the terminal emulator refuses a call: result {result}")
