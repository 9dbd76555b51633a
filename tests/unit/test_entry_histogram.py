"""Histograms: how often values fell up to each bound."""

import pytest

from execution_logger.entry.batch import Histogram, cells_needed


def test_a_value_is_in_its_bucket_and_in_all_larger_ones() -> None:
    """As Prometheus counts: a bucket holds what is at most its bound."""
    histogram = Histogram((1, 2.5, 10))
    for value in (0.5, 1, 1.01, 2.5, 9, 11, 100):
        histogram.observe(value)
    found = histogram.as_dict()
    assert found["buckets"] == {"1": 2, "2.5": 4, "10": 5, "+Inf": 7}
    assert found["count"] == 7
    assert found["sum"] == pytest.approx(125.01)


def test_without_a_value_all_is_zero() -> None:
    """The buckets are there from the start."""
    assert Histogram((1,)).as_dict() == {"count": 0, "sum": 0, "buckets": {"1": 0, "+Inf": 0}}


def test_the_cells_may_be_somebody_elses() -> None:
    """Of a worker's processes each has its own, and who adds them up has the sum of all."""
    bounds = (1, 2)
    first, second = ([0.0] * cells_needed(bounds) for _ in range(2))
    Histogram(bounds, first).observe(0.5)
    Histogram(bounds, second).observe(3)
    sums = [a + b for a, b in zip(first, second, strict=True)]
    assert Histogram(bounds, sums).as_dict() == {
        "count": 2,
        "sum": 3.5,
        "buckets": {"1": 1, "2": 1, "+Inf": 2},
    }
