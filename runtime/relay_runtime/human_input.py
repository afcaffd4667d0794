"""What the holder wrote down of people's input, read back from its hooks log. Pure."""

from __future__ import annotations

import json

from .events import HumanInput


def human_input(line: bytes) -> HumanInput | None:
    """The input that a line of the hooks log tells of; None for the line of a hook."""
    try:
        said: object = json.loads(line)
    except ValueError:
        return None
    match said:
        case {"holder": "input", "client": str(client), "kind": str(kind)}:
            return HumanInput(client, kind)
    return None


__all__ = ["human_input"]
