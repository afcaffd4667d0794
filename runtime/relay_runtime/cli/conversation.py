"""`attach` to a session without a terminal: what it does, as it does it, and a line to write to it."""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING
from uuid import uuid4

from prompt_toolkit import PromptSession
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout

from ..attach.transcript import STYLES, Line, read
from . import output
from .caller import default_sender
from .control import supervisor
from .failure import Failure
from .messages import hand_over
from .watch import stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prompt_toolkit.key_binding import KeyPressEvent

    from ..control_answers import Event

#: What came before is shown from here on: a screen or two of it.
PAST_EVENTS = 60


class Conversation:
    """One person looking at one session. `run` returns when they leave or it is over."""

    def __init__(self, name: str, *, read_only: bool, keys: tuple[int, ...]) -> None:
        self._name = name
        self._read_only = read_only
        self._coloured = output.coloured(sys.stdout)
        self._state = ""
        self._failure: Failure | None = None
        self._over = threading.Event()
        self._prompt: PromptSession[str] = PromptSession(
            key_bindings=_leaving(keys),
            bottom_toolbar=self._toolbar,
            color_depth=None if self._coloured else ColorDepth.DEPTH_1_BIT,
            reserve_space_for_menu=0,
        )

    def run(self) -> None:
        """Raises `Failure` when the supervisor is gone for good."""
        # A thread, because both the prompt and the stream wait; it ends with this process.
        reader = threading.Thread(target=self._read, name="events", daemon=True)
        with patch_stdout(raw=True):
            reader.start()
            while not self._over.is_set():
                try:
                    text = self._prompt.prompt(
                        "" if self._read_only else f"{self._name} › ", pre_run=self._leave_if_over
                    )
                except KeyboardInterrupt:
                    self._show(
                        Line("Ctrl-D leaves; `relay-runtime interrupt` stops the turn", "quiet")
                    )
                    continue
                except EOFError:
                    break
                if text.strip() and not self._read_only:
                    self._send(text)
        if self._failure is not None:
            raise self._failure

    # --- what it does ---------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            since = self._show_past()
            for event in stream(self._name, since, follow=True):
                self._take(event)
                if event["type"] == "session.ended":
                    break
        except Failure as failure:
            self._failure = failure
        finally:
            self._over.set()
            self._leave()

    def _show_past(self) -> int:
        past = deque(stream(self._name, 0, follow=False), PAST_EVENTS)
        for event in past:
            self._take(event)
        return past[-1]["cursor"] if past else 0

    def _take(self, event: Event) -> None:
        data: Mapping[str, object] = event["data"]
        if event["type"] == "session.state":
            reason = output.one_line(str(data.get("reason") or ""))
            self._state = f"{data.get('state')}{': ' if reason else ''}{reason}"
            self._prompt.app.invalidate()
        if (line := read(event["type"], data, self._name)) is not None:
            self._show(line)

    def _show(self, line: Line) -> None:
        sgr = STYLES[line.style] if self._coloured else ""
        output.say(f"\x1b[{sgr}m{line.text}\x1b[0m" if sgr else line.text)

    def _toolbar(self) -> str:
        mode = "read-only · " if self._read_only else ""
        return f" {self._name} · {self._state or 'connecting'} · {mode}Ctrl-D leaves "

    def _leave(self) -> None:
        """From the reader's thread: end the prompt, if it is up."""
        if (loop := self._prompt.app.loop) is not None:
            with suppress(RuntimeError):  # it has ended just now
                loop.call_soon_threadsafe(self._leave_if_over)

    def _leave_if_over(self) -> None:
        app = self._prompt.app
        if self._over.is_set() and app.is_running and not app.is_done:
            app.exit(exception=EOFError)

    # --- what the person says -------------------------------------------------------------------

    def _send(self, text: str) -> None:
        message: dict[str, object] = {
            "from": default_sender(),
            "to": self._name,
            "body": text,
            "mode": "next-turn",
            "idempotency_key": uuid4().hex,
        }
        try:
            with supervisor(start=True) as control:
                hand_over(control, message)
        except Failure as failure:  # it stays in the history: one key brings it back
            self._show(Line(f"! not sent: {failure.message}", "bad"))


def recite(name: str) -> None:
    """What a session does, from the beginning of what is shown until it is over, as plain lines."""
    past = deque(stream(name, 0, follow=False), PAST_EVENTS)
    cursor = past[-1]["cursor"] if past else 0
    for event in chain(past, stream(name, cursor, follow=True)):
        if (line := read(event["type"], event["data"], name)) is not None:
            output.say(line.text)
            sys.stdout.flush()
        if event["type"] == "session.ended":
            return


def _leaving(keys: tuple[int, ...]) -> KeyBindings:
    """The keys that detach from a terminal leave here too."""
    bindings = KeyBindings()

    @bindings.add(*(f"c-{chr(key | 0x40).lower()}" for key in keys))
    def _(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError)

    return bindings


__all__ = ["Conversation", "recite"]
