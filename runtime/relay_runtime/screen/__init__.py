"""A terminal's screen, made from a program's output: text, cursor, modes, and a way to restore it."""

from __future__ import annotations

from .base import LARGEST_SIDE, Cursor, Screen


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


__all__ = ["LARGEST_SIDE", "Cursor", "Screen", "exact", "new_screen"]
