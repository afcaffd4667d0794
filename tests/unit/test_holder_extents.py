"""Which bytes of a log are held, over rotation, loss and a new beginning."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay_runtime.holder.log import Extents


def test_a_log_that_holds_nothing_ends_at_zero() -> None:
    extents = Extents([])
    assert (extents.end, extents.find(0), extents.after(0), extents.bases) == (0, None, None, [])


def test_the_end_is_that_of_the_newest_segment_in_whatever_order_they_are_found() -> None:
    assert Extents([(100, 50), (0, 100)]).end == 150


def test_an_offset_is_found_in_its_segment_with_what_is_left_of_it() -> None:
    extents = Extents([(0, 100), (100, 50)])
    assert extents.find(0) == (0, 100)
    assert extents.find(99) == (0, 1)
    assert extents.find(100) == (100, 50)
    assert extents.find(150) is None


def test_lost_bytes_are_skipped_to_the_next_that_are_held() -> None:
    extents = Extents([(0, 100), (400, 50)])
    assert extents.find(100) is None
    assert extents.after(100) == 400
    assert extents.after(450) is None


def test_expiry_drops_the_oldest_and_never_the_newest() -> None:
    extents = Extents([(0, 100), (100, 100), (200, 100)])
    assert extents.expire(150) == [0, 100]
    assert extents.expire(0) == []
    assert extents.find(150) is None
    assert extents.end == 300


def test_a_segment_that_never_held_anything_gives_way_to_the_next() -> None:
    extents = Extents([(0, 100)])
    assert extents.begin(100) == []
    assert extents.begin(250) == [100]
    assert extents.begin(250) == []
    extents.grow(10)
    assert extents.bases == [0, 250]
    assert extents.end == 260


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), max_size=30), st.integers(0, 200)
)
def test_every_byte_is_found_exactly_where_it_was_put(
    writes: list[tuple[int, int]], keep: int
) -> None:
    """Each write is (bytes lost before it, bytes written); each begins a segment."""
    extents, held = Extents([]), set[int]()
    for lost, size in writes:
        base = extents.end + lost
        extents.begin(base)
        gone = extents.expire(keep)
        assert gone == sorted(gone)
        extents.grow(size)
        held |= set(range(base, base + size))
    first = min(extents.bases, default=0)
    for offset in range(extents.end + 5):
        found = extents.find(offset)
        assert (found is not None) == (offset in held and offset >= first)
        if found is not None:
            assert found[0] <= offset and offset + found[1] - 1 in held
        else:
            after = extents.after(offset)
            assert after == min((at for at in held if at > offset and at >= first), default=None)
