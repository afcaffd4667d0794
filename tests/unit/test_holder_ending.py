"""The steps of a stop, by the clock."""

from __future__ import annotations

import pytest

from relay_runtime.holder.ending import DRAIN, INTERRUPT, KILL, TERM, Ending, parse_bounds


def test_each_step_begins_when_the_one_before_has_had_its_time() -> None:
    ending = Ending((30.0, 5.0, 2.0))
    assert (ending.due(100.0), ending.deadline) == ([DRAIN], 130.0)
    assert ending.due(129.9) == []
    assert (ending.due(130.0), ending.deadline) == ([INTERRUPT], 135.0)
    assert (ending.due(135.5), ending.deadline) == ([TERM], 137.5)
    assert (ending.due(137.5), ending.deadline) == ([KILL], None)
    assert ending.due(1000.0) == []


@pytest.mark.parametrize(
    ("bounds", "steps"),
    [
        ((0.0, 0.0, 0.0), [KILL]),
        ((0.0, 5.0, 0.0), [INTERRUPT]),
        ((0.0, 0.0, 5.0), [TERM]),
    ],
)
def test_a_step_without_time_is_skipped(
    bounds: tuple[float, float, float], steps: list[str]
) -> None:
    assert Ending(bounds).due(0.0) == steps


def test_a_second_request_shortens_the_step_that_runs_and_those_to_come() -> None:
    ending = Ending((30.0, 5.0, 5.0))
    ending.due(0.0)
    ending.hasten((1.0, 0.0, 9.0), 10.0)
    assert ending.deadline == 11.0
    assert (ending.due(11.0), ending.deadline) == ([TERM], 16.0)


def test_a_second_request_cannot_prolong_or_start_over() -> None:
    ending = Ending((0.0, 5.0, 0.0))
    ending.due(0.0)
    ending.hasten((30.0, 30.0, 30.0), 1.0)
    assert ending.deadline == 5.0
    assert ending.due(5.0) == [KILL]
    ending.hasten((30.0, 30.0, 30.0), 6.0)
    assert ending.due(1000.0) == []


@pytest.mark.parametrize(
    "wrong", ["5", None, -1, float("nan"), float("inf"), 1e9, True, [], {"s": 1}]
)
def test_bounds_that_are_no_sane_number_of_seconds_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="seconds"):
        parse_bounds((0, wrong, 0))


def test_bounds_may_be_whole_or_broken_numbers() -> None:
    assert parse_bounds((0, 1.5, 2)) == (0.0, 1.5, 2.0)
