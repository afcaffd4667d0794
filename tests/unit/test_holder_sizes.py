"""Whose size a terminal gets, and from where in its output on it had which."""

from __future__ import annotations

from relay_runtime.holder.sizes import MAX_SIZES, Sizes, choose

VIEWS = [(50, 200), (30, 100), (40, 90)]


def test_the_size_is_that_of_the_newest_or_the_largest_that_all_can_show() -> None:
    assert choose("latest", VIEWS) == (40, 90)
    assert choose("smallest", VIEWS) == (30, 90)
    assert choose("latest", []) is None


def test_sizes_are_kept_with_the_place_in_the_output_where_they_begin() -> None:
    sizes = Sizes()
    assert sizes.now is None
    for offset, rows in [(100, 24), (150, 30), (150, 31), (180, 32)]:
        sizes.add(offset, rows, 80)
    assert sizes.as_json() == [[100, 24, 80], [150, 31, 80], [180, 32, 80]]
    assert sizes.now == (32, 80)


def test_the_beginning_of_the_run_is_kept_when_nothing_was_written_yet() -> None:
    sizes = Sizes()
    sizes.add(7, 24, 80)
    sizes.add(7, 30, 90)
    sizes.add(7, 31, 91)
    assert sizes.as_json() == [[7, 24, 80], [7, 31, 91]]


def test_a_storm_of_sizes_is_bounded_and_keeps_the_first_and_the_last() -> None:
    sizes = Sizes()
    for offset in range(3 * MAX_SIZES):
        sizes.add(offset, 10 + offset % 50, 80)
    kept = sizes.as_json()
    assert len(kept) == MAX_SIZES
    assert kept[0][0] == 0 and kept[-1][0] == 3 * MAX_SIZES - 1
