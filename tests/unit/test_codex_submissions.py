"""When codex goes on by itself with what a person has queued in it."""

from __future__ import annotations

from relay_drivers.codex.submissions import QUEUE_S, Submissions


def listed(*sizes: int) -> Submissions:
    queue = Submissions()
    for size in sizes:
        queue.listed(size)
    return queue


def test_it_has_to_be_looked_at_first() -> None:
    assert Submissions().changed and not listed(0).changed


def test_an_empty_queue_holds_nothing_up() -> None:
    queue = listed(0)
    assert not queue.goes_on(True, False, 10) and queue.patience(10) is None


def test_what_is_queued_is_waited_for_but_not_for_ever() -> None:
    queue = listed(1)
    assert queue.goes_on(True, False, 10)
    assert queue.patience(10.5) == QUEUE_S - 0.5
    assert queue.goes_on(True, False, 10 + QUEUE_S / 2)
    assert not queue.goes_on(True, False, 10 + QUEUE_S)


def test_what_was_just_taken_out_is_about_to_start() -> None:
    queue = listed(0, 1)
    assert queue.goes_on(True, False, 10)
    queue.listed(0)
    assert queue.goes_on(True, False, 10.1)
    assert not queue.goes_on(False, False, 10.2) and queue.patience(10.2) is None
    assert not queue.goes_on(True, False, 11)


def test_an_interrupt_pauses_the_queue() -> None:
    queue = listed(2)
    assert not queue.goes_on(True, True, 10)
    assert queue.goes_on(True, False, 11)
