"""What a screen is, whichever emulator is behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: Rows and columns. More than any monitor shows, and a screen that size is still cheap to hold; a
#: program can ask its terminal for any size up to 65535 by 65535, which would be 34 GB.
LARGEST_SIDE = 1000


class Cursor(NamedTuple):
    """Where the next character goes, counted from 0 at the top left."""

    row: int
    col: int
    visible: bool


#: A number of the palette, red green blue, or None for the terminal's own.
Color = int | tuple[int, int, int] | None


class Cell(NamedTuple):
    """A character and how it looks. A wide one is a cell of width 2; the next is beside it."""

    text: str = " "  #: with what combines with it
    width: int = 1
    color: Color = None
    background: Color = None
    bold: bool = False
    faint: bool = False
    italic: bool = False
    underline: bool = False
    inverse: bool = False
    invisible: bool = False
    strikethrough: bool = False


class Saved(NamedTuple):
    """A screen as bytes. `state` is all of it, with what has scrolled away, but only for that very
    `emulator`; empty when there is none. `painting` is what `Screen.snapshot` gives."""

    rows: int
    cols: int
    emulator: str
    state: bytes
    painting: bytes


class Screen(ABC):
    """A terminal's state, made from what a program wrote to it.

    Not for two threads at once. The cost of a byte is bounded, but a few bytes can ask for 65535
    characters or a whole screen: a hostile 64 KB can take half a second at usual sizes. Where other
    things must go on, feed small pieces, or in a thread: the emulator runs without the interpreter's
    lock.
    """

    @property
    @abstractmethod
    def rows(self) -> int: ...

    @property
    @abstractmethod
    def cols(self) -> int: ...

    @property
    @abstractmethod
    def cursor(self) -> Cursor: ...

    @property
    @abstractmethod
    def title(self) -> str:
        """The window title, empty when none was set. Holds no control characters."""

    @property
    @abstractmethod
    def alternate(self) -> bool:
        """Whether the alternate screen is shown."""

    @abstractmethod
    def mode(self, number: int) -> bool:
        """Whether a DEC private mode is set. False for modes that nobody knows."""

    @abstractmethod
    def feed(self, data: bytes) -> None: ...

    @abstractmethod
    def resize(self, rows: int, cols: int) -> None:
        """Takes the new size, with long lines reflowed. ValueError: not 1 to LARGEST_SIDE."""

    @abstractmethod
    def snapshot(self) -> bytes:
        """Output which brings a terminal of this size, just reset, to this state.

        When the program's output so far ends inside a sequence, so does this: what the program
        writes next may follow. Scrollback, pictures, links under text, and changes of the palette
        are not in it.
        """

    @abstractmethod
    def save(self) -> Saved:
        """For `restored`, which makes a screen in the same state of it, also in another process."""

    @abstractmethod
    def text(self) -> list[str]:
        """One string a row, without blanks at their ends."""

    @abstractmethod
    def ansi(self) -> list[str]:
        """One string a row with its colours and attributes, to be printed line by line."""

    @abstractmethod
    def cells(self) -> list[list[Cell]]:
        """Each row from left to right; what is missing at its end is blank."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_size(rows: int, cols: int) -> None:
    """ValueError: not a size that a screen can have."""
    if not (1 <= rows <= LARGEST_SIDE and 1 <= cols <= LARGEST_SIDE):
        raise ValueError(
            f"a screen has 1 to {LARGEST_SIDE} rows and columns, not {rows} rows by {cols} columns"
        )
