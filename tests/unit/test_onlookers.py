"""What those who look at a session's terminal read about messages that wait for its agent."""

from __future__ import annotations

import pytest

from relay_runtime.supervisor.onlookers import waiting_line
from relay_runtime.turn_types import SessionState


@pytest.mark.parametrize(
    ("count", "state", "reason", "line"),
    [
        (0, SessionState.BUSY, None, None),
        (0, SessionState.HELD, "paused", None),
        (1, SessionState.BUSY, None, "1 message waits: it is working"),
        (2, SessionState.DRAFTING, None, "2 messages wait: you are typing"),
        (3, SessionState.WAITING, "Bash: rm x", "3 messages wait: it has asked something"),
        (2, SessionState.HELD, "paused", "2 messages wait: held, paused"),
        (1, SessionState.HELD, None, "1 message waits: held"),
        (1, SessionState.IDLE, None, "1 message waits"),
    ],
)
def test_it_says_how_many_and_why(
    count: int, state: SessionState, reason: str | None, line: str | None
) -> None:
    assert waiting_line(count, state, reason) == line
