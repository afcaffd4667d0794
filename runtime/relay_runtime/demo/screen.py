"""The board on a terminal, live; or line by line where there is none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .board import Board, Row

#: Rows that fit a small terminal; the newest are the interesting ones.
ROWS = 16

_STYLES = {"delivered": "green", "accepted": "cyan", "failed": "red"}


@contextmanager
def screen() -> Iterator[Callable[[Board], None]]:
    """A function that shows the board. Colours by rich's rules, NO_COLOR among them."""
    console = Console(highlight=False)
    if not console.is_terminal:
        yield _Lines(console).show
        return
    with Live(console=console, refresh_per_second=12, transient=False) as live:
        yield lambda board: live.update(_view(board))


class _Lines:
    """Each step and each final receipt once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: set[str] = set()

    def show(self, board: Board) -> None:
        self._once(f"* {board.note}")
        for row in board.rows.values():
            if "delivered" in row.receipts and row.to:
                self._once(f"  message {row.message_id} to {row.to}: {_path(row)}")

    def _once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._console.print(line, markup=False, soft_wrap=True)


def _view(board: Board) -> Group:
    states = Text("  ").join(
        Text.assemble((name, "bold"), " ", (state, _STYLES.get(state, "yellow")))
        for name, state in sorted(board.states.items())
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("msg", "to", "sent while", "receipts", "evidence"):
        table.add_column(title, no_wrap=title != "receipts")
    for row in list(board.rows.values())[-ROWS:]:
        path = Text(" → ").join(
            Text(receipt, style=_STYLES.get(receipt, "yellow")) for receipt in row.receipts
        )
        table.add_row(str(row.message_id), row.to, row.when, path, row.evidence)
    return Group(Text(board.note, style="bold"), states, table)


def _path(row: Row) -> str:
    return " -> ".join(row.receipts) + (f" [{row.evidence}]" if row.evidence else "")
