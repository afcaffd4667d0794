"""Input in several steps that nothing may come between: a paste, a pause, the key that sends it.

The holder itself takes the steps, so a client that dies in the middle leaves no half-typed message,
and what people type meanwhile goes in after it.
"""

from __future__ import annotations

#: Of all pauses together. People wait that long for their keys, and hooks for their answer.
MAX_TYPING_S = 2.0
MAX_STEPS = 16

TYPED, DONE_BEFORE, CHANGED, HUMAN = "typed", "repeated", "changed", "human"


class Typing:
    """Steps still to be taken."""

    def __init__(self, steps: list[tuple[bytes, float]], now: float) -> None:
        self._steps = steps
        self.deadline = now

    @property
    def done(self) -> bool:
        return not self._steps

    def due(self, now: float) -> bytes:
        """What is to be written now; empty while a pause lasts. Once `done`, nothing more comes."""
        if now < self.deadline or not self._steps:
            return b""
        data, pause = self._steps.pop(0)
        self.deadline = now + pause
        return data


def parse_steps(value: object) -> list[tuple[bytes, float]]:
    """Raises `ValueError`. An empty text at the end is only a pause: it adds a step for its end."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_STEPS:
        raise ValueError(f"steps must be a list of 1 to {MAX_STEPS} pairs")
    steps = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("a step is a text and the pause after it in milliseconds")
        text, pause = pair
        if not isinstance(text, str) or type(pause) is not int or pause < 0:
            raise ValueError("a step is a text and the pause after it in milliseconds")
        # Bytes that are no UTF-8 travel in JSON as surrogates.
        steps.append((text.encode("utf-8", "surrogateescape"), pause / 1000))
    if sum(pause for _, pause in steps) > MAX_TYPING_S:
        raise ValueError(f"the pauses may last {MAX_TYPING_S:g} s together")
    if steps[-1][1]:
        steps.append((b"", 0.0))
    return steps
