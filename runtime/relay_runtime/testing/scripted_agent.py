"""A stand-in for an agent's terminal program: prompts, takes input, works, answers, prompts again.

    python -m relay_runtime.testing.scripted_agent [--log FILE] [--crash-on MARKER]

Input is a line, or a bracketed paste and Enter, as a person or a supervisor would type it into a
real one. `work=2.5s` in the text makes it work that long. What it took as input goes to the log, one
JSON object a line: `{"at", "pid", "text", "messages"}`. Ctrl-C stops the work, Ctrl-D on an empty
line ends it. Input of any bytes is text. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections import deque
from dataclasses import dataclass, field

PROMPT = "agent> "
#: Longest work one input can ask for: a stand-in must not outlive the patience of its test.
MAX_WORK_S = 600.0
#: Longest draft; a larger one is not an input but a stream.
MAX_DRAFT = 8 * 1024 * 1024
#: Inputs that may wait while it works. A person never gets there; what floods it gets told.
MAX_WAITING = 1000

_PASTE_BEGIN, _PASTE_END = b"\x1b[200~", b"\x1b[201~"
_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])", re.DOTALL)
_PARTIAL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_WORK = re.compile(r"\bwork=(\d+(?:\.\d+)?)s\b")
_MESSAGE = re.compile(r"^\[relay msg (\d+) ", re.MULTILINE)
_TICK_S = 0.5
_ECHO_CHARS = 2000


@dataclass
class Editor:
    """The line being typed. Pure: bytes in, submitted texts and what to show out.

    A paste may come in any number of pieces; only Enter outside of one submits.
    """

    draft: bytearray = field(default_factory=bytearray)
    pasting: bool = False
    interrupted: bool = False
    ended: bool = False
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[str]:
        """The texts that `data` submits. Sets `interrupted` and `ended`; the caller clears them."""
        data, self._rest = self._rest + data, b""
        submitted: list[str] = []
        while data and not self.ended:
            data = self._paste(data) if self.pasting else self._type(data, submitted)
        return submitted

    def _paste(self, data: bytes) -> bytes:
        text, end, rest = data.partition(_PASTE_END)
        if end:
            self.pasting = False
            self._append(text)
            return rest
        keep = next((n for n in range(5, 0, -1) if data.endswith(_PASTE_END[:n])), 0)
        self._append(data[: len(data) - keep])
        self._rest = data[len(data) - keep :]
        return b""

    def _type(self, data: bytes, submitted: list[str]) -> bytes:
        if data.startswith(b"\x1b"):
            return self._escape(data)
        plain = re.match(rb"[^\x00-\x1f\x7f]+", data)
        if plain:
            self._append(plain[0])
            return data[plain.end() :]
        self._control(data[0], submitted)
        return data[1:]

    def _escape(self, data: bytes) -> bytes:
        if data.startswith(_PASTE_BEGIN):
            self.pasting = True
            return data[len(_PASTE_BEGIN) :]
        if _PARTIAL.match(data):
            self._rest = data
            return b""
        skipped = _ESCAPE.match(data)
        return data[skipped.end() :] if skipped else data[1:]

    def _control(self, byte: int, submitted: list[str]) -> None:
        if byte in (0x0A, 0x0D):
            text = self.draft.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
            self.draft.clear()
            if text.strip():
                submitted.append(text)
        elif byte == 0x03:
            self.draft.clear()
            self.interrupted = True
        elif byte == 0x04:
            self.ended = not self.draft
        elif byte == 0x15:
            self.draft.clear()
        elif byte in (0x08, 0x7F):
            while self.draft and self.draft.pop() & 0xC0 == 0x80:
                pass
        elif byte == 0x09:
            self._append(b"\t")

    def _append(self, text: bytes) -> None:
        self.draft += text[: MAX_DRAFT - len(self.draft)]


def display(text: bytes) -> str:
    """Input as the screen shows it: the beginning of it, and no byte that acts on the terminal."""
    head = text[: 4 * _ECHO_CHARS].decode("utf-8", "replace")
    shown = head if len(head) <= _ECHO_CHARS else head[:_ECHO_CHARS] + "…"
    return "".join(c if c.isprintable() or c == "\n" else "·" for c in shown)


class Agent:
    def __init__(self, log: str | None, crash_on: str | None) -> None:
        self._log, self._crash_on = log, crash_on
        self._editor = Editor()
        self._waiting: deque[str] = deque()
        self._echoed = ""
        self._open = True
        self._signalled, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        # The number arrives in the pipe; without a handler it would be raised anywhere.
        signal.signal(signal.SIGINT, lambda *_: None)

    def run(self) -> None:
        """Until the terminal ends, Ctrl-D, or SIGINT when it is not working."""
        self._say(PROMPT)
        while self._open or self._waiting:
            if self._waiting:
                self._take(self._waiting.popleft())
                self._echoed = ""
                self._say(PROMPT)
            elif self._read(None):
                self._open = False
            self._echo()

    def _read(self, timeout: float | None) -> bool:
        """Take in what is typed within `timeout` seconds (None: for ever). True: SIGINT came."""
        inputs = [0, self._signalled] if self._open else [self._signalled]
        ready = select.select(inputs, [], [], timeout)[0]
        if self._signalled in ready:
            return bool(os.read(self._signalled, 64))
        if 0 in ready:
            self._typed()
        return False

    def _typed(self) -> None:
        try:
            data = os.read(0, 65536)
        except OSError:
            data = b""
        texts = self._editor.feed(data)
        self._open = bool(data) and not self._editor.ended
        for text in texts:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(text)
            else:
                self._say("\n! too much input waits; this one is dropped\n")

    def _take(self, text: str) -> None:
        shown = display(text.encode())
        self._say("\n" if shown == self._echoed else f"\r\x1b[K{PROMPT}{shown}\n")
        messages = [int(number) for number in _MESSAGE.findall(text)]
        self._record({"at": time.time(), "pid": os.getpid(), "text": text, "messages": messages})
        if self._crash_on and self._crash_on in text:
            os.kill(os.getpid(), signal.SIGKILL)
        asked = [min(float(seconds), MAX_WORK_S) for seconds in _WORK.findall(text)]
        if not self._work(max(asked, default=0.0)):
            self._say("interrupted.\n")
            return
        read = ", ".join(f"msg {number}" for number in messages) or f"{len(text)} characters"
        self._say(f"done. I read {read}.\n")

    def _work(self, seconds: float) -> bool:
        """Whether the work was finished; Ctrl-C and SIGINT stop it."""
        self._editor.interrupted = False
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            self._say(f"* working, {passed:.1f} of {seconds:g} s\n")
            if self._interrupted_before(begun + min(passed + _TICK_S, seconds)):
                return False
        return True

    def _interrupted_before(self, deadline: float) -> bool:
        while (left := deadline - time.monotonic()) > 0:
            if self._read(left) or self._editor.interrupted:
                return True
        return False

    def _record(self, entry: dict[str, object]) -> None:
        if self._log is None:
            return
        with open(self._log, "a", encoding="utf-8", errors="replace") as log:
            log.write(json.dumps(entry) + "\n")
            log.flush()
            os.fsync(log.fileno())

    def _echo(self) -> None:
        """Show what was typed since; draw the line anew when it did not just grow."""
        if self._waiting:
            return
        shown = display(bytes(self._editor.draft))
        if shown.startswith(self._echoed):
            self._say(shown[len(self._echoed) :])
        else:
            self._say(f"\r\x1b[K{PROMPT}{shown}")
        self._echoed = shown

    def _say(self, text: str) -> None:
        # Raw mode turns off the newline translation of the terminal.
        data = text.replace("\n", "\r\n").encode("utf-8", "replace")
        while data:
            data = data[os.write(1, data) :]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripted_agent")
    parser.add_argument("--log", metavar="FILE", help="append one JSON line for each input taken")
    parser.add_argument("--crash-on", metavar="MARKER", help="die by SIGKILL on input with this")
    options = parser.parse_args()
    agent = Agent(options.log, options.crash_on)
    saved = termios.tcgetattr(0) if os.isatty(0) else None
    try:
        if saved is not None:
            tty.setraw(0)
            os.write(1, b"\x1b[?2004h")
        agent.run()
    except OSError:
        return 1  # the terminal is gone: nobody is left to tell
    finally:
        _restore(saved)
    return 0


def _restore(saved: list[int | list[bytes | int]] | None) -> None:
    if saved is None:
        return
    try:
        os.write(1, b"\x1b[?2004l\r\n")
        termios.tcsetattr(0, termios.TCSANOW, saved)
    except (OSError, termios.error):
        return


if __name__ == "__main__":
    sys.exit(main())
