"""Up to which number everything is done, when things are done in any order."""

from hypothesis import given
from hypothesis import strategies as st

from execution_logger.entry.batch import Watermark


def test_in_order_it_grows_with_each() -> None:
    """And says so."""
    watermark = Watermark()
    assert watermark.add(1, 3)
    assert watermark.value == 3
    assert watermark.add(4, 1)
    assert watermark.value == 4


def test_a_gap_holds_it_back_until_it_is_closed() -> None:
    """Then all beyond it counts at once."""
    watermark = Watermark(10)
    assert not watermark.add(13, 2)
    assert not watermark.add(15, 5)
    assert watermark.value == 10
    assert watermark.add(11, 2)
    assert watermark.value == 19


@given(sizes=st.lists(st.integers(1, 5), max_size=20), start=st.integers(0, 100), data=st.data())
def test_in_any_order_it_is_what_counting_says(sizes: list[int], start: int, data: st.DataObject) -> None:
    """The model marks each number by itself, and nothing is remembered that is of no use any more."""
    ranges, first = [], start + 1
    for size in sizes:
        ranges.append((first, size))
        first += size
    watermark, done = Watermark(start), set[int]()
    for first, size in data.draw(st.permutations(ranges)):
        before = watermark.value
        done.update(range(first, first + size))
        expected = before
        while expected + 1 in done:
            expected += 1
        assert watermark.add(first, size) == (expected > before)
        assert watermark.value == expected
    assert watermark.value == start + sum(sizes)
    assert watermark._beyond == {}
