"""A terminal's screen, made from a program's output: text, cursor, modes, and a way to restore it."""

from __future__ import annotations

from .base import LARGEST_SIDE, Cursor, Saved, Screen


def exact() -> bool:
    """Whether this platform has a terminal emulator. Without, screens know modes, title and text."""
    from . import abi

    try:
        abi.load()
    except abi.LibraryMissing:
        return False
    return True


def new_screen(rows: int, cols: int) -> Screen:
    """An empty screen. ValueError: not 1 to LARGEST_SIDE rows and columns."""
    if exact():
        from .ghostty import GhosttyScreen

        return GhosttyScreen(rows, cols)
    from .plain import PlainScreen

    return PlainScreen(rows, cols)


def restored(saved: Saved) -> Screen:
    """A screen as it was when it was saved.

    Where another emulator saved it, what had scrolled away is not in it any more.
    """
    if exact():
        from .ghostty import GhosttyScreen

        try:
            return GhosttyScreen.restored(saved)
        except ValueError:
            pass
    screen = new_screen(saved.rows, saved.cols)
    screen.feed(saved.painting)
    return screen


__all__ = ["LARGEST_SIDE", "Cursor", "Saved", "Screen", "exact", "new_screen", "restored"]
