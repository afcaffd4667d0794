"""Typing in steps, and views that end with their last viewer: what is due when."""

from __future__ import annotations

import pytest

from relay_runtime.holder.leaving import FIRST_S, Leaving
from relay_runtime.holder.steps import MAX_STEPS, Typing, parse_steps


def test_each_step_waits_for_the_pause_before_it() -> None:
    typing = Typing(parse_steps([["a", 100], ["b", 50], ["c", 0]]), 1.0)
    assert typing.due(1.0) == b"a"
    assert typing.due(1.05) == b""
    assert typing.due(1.1) == b"b"
    assert not typing.done
    assert typing.due(1.2) == b"c"
    assert typing.done


def test_a_pause_at_the_end_is_waited_out_too() -> None:
    typing = Typing(parse_steps([["a", 100]]), 1.0)
    assert typing.due(1.0) == b"a"
    assert not typing.done
    assert typing.due(1.1) == b""
    assert typing.done


@pytest.mark.parametrize(
    "steps",
    [
        None,
        [],
        [["a"]],
        [["a", -1]],
        [["a", 0.5]],
        [["a", True]],
        [[1, 0]],
        [["a", 1001], ["b", 1000]],
        [["a", 0]] * (MAX_STEPS + 1),
    ],
)
def test_steps_that_are_none_are_refused(steps: object) -> None:
    with pytest.raises(ValueError, match=r"step|pauses"):
        parse_steps(steps)


def test_a_view_waits_for_its_first_viewer_and_then_ends_after_the_last() -> None:
    leaving = Leaving(2.0, 100.0)
    assert not leaving.due(100.0 + FIRST_S - 1)
    assert leaving.due(100.0 + FIRST_S)
    leaving.watched(1, 101.0)
    assert not leaving.due(1e9)
    leaving.watched(0, 200.0)
    leaving.watched(0, 201.0)
    assert not leaving.due(201.9)
    assert leaving.due(202.0)


def test_a_session_that_is_no_view_never_ends_by_itself() -> None:
    leaving = Leaving(None, 100.0)
    leaving.watched(0, 200.0)
    assert leaving.deadline is None
