"""What a terminal shows, as far as a prompt is concerned. Pure.

Not an emulator: rows of characters, a cursor, and the sequences that line editors use. Colours,
titles, scroll regions and other screens are skipped; double-width characters count as one column.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay_runtime.contract import Json

#: In `feed`'s answer: the program turned bracketed paste off, as line editors do when they are
#: given a line.
PASTE_OFF = "\x0e"
#: A sequence that is longer is noise from a binary file.
_MAX_SEQUENCE = 256

_TOKEN = re.compile(
    r"\x1b\[(?P<arguments>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|(?P<string>\x1b[\]PX^_])"
    r"|\x1b(?:[ -/]+[0-~]|[0-OQ-WYZ\\`-~])"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f-\x9f])"
    r"|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
)
_PARTIAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[ -/]*)\Z")
_STRING_END = re.compile("[\x07\x18\x1a\x1b\x9c]")


class Screen:
    """Feed it the program's output; `lines` ends with the row of the cursor.

    `pasting` is whether the program asks for bracketed paste now.
    """

    def __init__(self, rows: int, cols: int, encoding: str) -> None:
        self.pasting = False
        self._height, self._width = rows, cols
        self._rows: list[list[str]] = [[]]
        self._row = self._col = 0
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._rest = ""  # the beginning of a sequence
        self._in_string = False  # inside of a title or the like, until its end

    @property
    def lines(self) -> list[str]:
        """The rows from the top to the cursor's."""
        return ["".join(row) for row in self._rows[: self._row + 1]]

    def feed(self, data: bytes) -> str:
        """What was printed, in order: text, line feeds, and `PASTE_OFF`."""
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        printed: list[str] = []
        at = 0
        while at < len(text):
            if self._in_string:
                end = _STRING_END.search(text, at)
                if end is None:
                    break
                self._in_string = False
                at = end.start() if end[0] == "\x1b" else end.end()
                continue
            token = _TOKEN.match(text, at)
            if token is None:
                if _PARTIAL.match(text, at) and len(text) - at <= _MAX_SEQUENCE:
                    self._rest = text[at:]
                    break
                at += 1  # an escape that begins nothing
                continue
            at = token.end()
            printed.append(self._act(token))
        return "".join(printed)

    def skip(self) -> None:
        """Output was lost: forget the sequence and the character it may have been in."""
        self._decoder.reset()
        self._rest, self._in_string = "", False

    # --- what tokens do ---------------------------------------------------------------------------

    def _act(self, token: re.Match[str]) -> str:
        if text := token["text"]:
            self._write(text)
            return text
        if control := token["control"]:
            return self._control(control)
        if token["string"]:
            self._in_string = True
        elif final := token["final"]:
            return self._sequence(token["arguments"], final)
        return ""

    def _control(self, control: str) -> str:
        if control == "\n":
            self._feed_line()
            return "\n"
        if control == "\r":
            self._col = 0
        elif control == "\b":
            self._col = max(0, self._col - 1)
        elif control == "\t":
            self._col = min(self._col // 8 * 8 + 8, self._width - 1)
        return ""

    def _sequence(self, arguments: str, final: str) -> str:
        if arguments.startswith("?"):
            if "2004" in arguments[1:].split(";") and final in "hl":
                was, self.pasting = self.pasting, final == "h"
                return PASTE_OFF if was and not self.pasting else ""
            return ""
        numbers = [int(part) if part.isdigit() else 0 for part in arguments[:32].split(";")]
        self._move(final, numbers)
        self._erase(final, numbers[0])
        return ""

    def _move(self, final: str, numbers: list[int]) -> None:
        count = max(1, numbers[0])
        if final in "AF":
            self._row = max(0, self._row - count)
        elif final in "BE":
            self._go(self._row + count)
        elif final == "C":
            self._col += count
        elif final == "D":
            self._col -= count
        elif final in "G`":
            self._col = count - 1
        elif final == "d":
            self._go(count - 1)
        elif final in "Hf":
            self._go(count - 1)
            self._col = max(1, numbers[1] if len(numbers) > 1 else 1) - 1
        if final in "EF":
            self._col = 0
        self._col = min(max(0, self._col), self._width)

    def _erase(self, final: str, how: int) -> None:
        row = self._rows[self._row]
        if final == "K":
            if how == 0:
                del row[self._col :]
            else:
                row[: self._col] = [" "] * min(self._col, len(row))
                if how == 2:
                    row.clear()
        elif final == "J":
            if how == 0:
                del row[self._col :]
                del self._rows[self._row + 1 :]
            elif how in (2, 3):
                self._rows = [[] for _ in range(self._row + 1)]
        elif final == "P":
            del row[self._col : self._col + max(1, how)]
        elif final == "@":
            row[self._col : self._col] = [" "] * min(max(1, how), self._width)
        elif final == "X":
            end = min(len(row), self._col + max(1, how))
            row[self._col : end] = [" "] * max(0, end - self._col)

    def _write(self, text: str) -> None:
        while text:
            if self._col >= self._width:
                self._col = 0
                self._feed_line()
            piece = text[: self._width - self._col]
            text = text[len(piece) :]
            row = self._rows[self._row]
            row.extend(" " * (self._col - len(row)))
            row[self._col : self._col + len(piece)] = piece
            self._col += len(piece)

    def _feed_line(self) -> None:
        if self._row == self._height - 1:
            del self._rows[0]
            self._row -= 1
        self._go(self._row + 1)

    def _go(self, row: int) -> None:
        """To a row of the screen, or as near as there is one."""
        self._row = min(max(0, row), self._height - 1)
        while len(self._rows) <= self._row:
            self._rows.append([])

    # --- checkpoints ------------------------------------------------------------------------------

    def dump(self) -> dict[str, Json]:
        pending, state = self._decoder.getstate()
        return {
            "rows": ["".join(row) for row in self._rows],
            "row": self._row,
            "col": self._col,
            "bytes": pending.hex(),
            "decoder": state,
            "rest": self._rest,
            "in_string": self._in_string,
            "pasting": self.pasting,
        }

    def load(self, dumped: Json) -> None:
        match dumped:
            case {
                "rows": list(rows),
                "row": int(row),
                "col": int(col),
                "bytes": str(pending),
                "decoder": int(state),
                "rest": str(rest),
                "in_string": bool(in_string),
                "pasting": bool(pasting),
            }:
                self._rows = [list(str(text)) for text in rows]
                self._row, self._col = row, col
                self._decoder.setstate((bytes.fromhex(pending), state))
                self._rest, self._in_string, self.pasting = rest, in_string, pasting
            case _:
                raise ValueError("not a screen")


__all__ = ["PASTE_OFF", "Screen"]
