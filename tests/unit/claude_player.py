"""Plays recordings of the real Claude Code, and single lines, to the claude driver's protocol.

`tests/recordings/claude/<version>/*.jsonl` is stdout of the real program against a scripted model;
lists of tools and commands were emptied, paths replaced. Our messages have the ids of `uuid`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from relay_drivers.claude.protocol import Protocol
from relay_drivers.claude.reading import observe
from relay_drivers.claude.state import State

if TYPE_CHECKING:
    from collections.abc import Collection

    from relay_runtime.events import Event

RECORDINGS = Path(__file__).parents[1] / "recordings" / "claude"
NEW, OLD = "2.1.330", "2.1.197"
BOTH = pytest.mark.parametrize("version", [NEW, OLD])
ALL = sorted(RECORDINGS.glob("*/*.jsonl"))
NOW = 1000.0
E = TypeVar("E")


def uuid(number: int) -> str:
    """The ids of our messages in the recordings."""
    return f"00000000-0000-4000-8000-{number:012d}"


class Player:
    """The shell around the protocol, with a record that consists of ids."""

    def __init__(self, recorded: Collection[str] = (), *, exists: bool = True) -> None:
        self.protocol = Protocol(State("conversation"))
        self.recorded = recorded
        self.exists = exists
        self.events: list[Event] = []

    def line(self, line: bytes) -> None:
        if (seen := observe(line)) is not None:
            self.events += self.protocol.see(seen, NOW)
        self.weigh()

    def say(self, **message: object) -> None:
        self.line(json.dumps(message).encode())

    def weigh(self) -> None:
        writes = self.protocol.writes
        for harness_id in writes.claims:
            if harness_id in self.recorded:
                self.events += writes.confirmed(harness_id)
        for harness_id in writes.overdue:
            decide = writes.missing if self.exists else writes.unrecorded
            self.events += decide(harness_id)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def play(version: str, name: str, recorded: Collection[str] | None = None) -> Player:
    """A recording from begin to end; without `recorded` every message of ours is on disk."""
    player = Player([uuid(n) for n in range(10)] if recorded is None else recorded)
    for line in lines_of(RECORDINGS / version / f"{name}.jsonl"):
        player.line(line)
    return player
