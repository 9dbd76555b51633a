"""A histogram in plain Python, so that nobody needs a metrics library to count."""

from bisect import bisect_left
from collections.abc import MutableSequence, Sequence
from itertools import accumulate
from typing import Any


class Histogram:
    """How often values fell up to each of some bounds, and their sum; Prometheus' buckets.

    One thread observes at a time; any other may read meanwhile.

    Args:
        bounds: upper bounds of the buckets, ascending; a last one without bound is added.
        cells: where the numbers are kept, `cells_needed(bounds)` of them; in memory of its own by default.
    """

    def __init__(
        self, bounds: Sequence[float], cells: "MutableSequence[float] | memoryview[float] | None" = None
    ) -> None:
        self._bounds = bounds
        self._cells = [0.0] * cells_needed(bounds) if cells is None else cells

    def observe(self, value: float) -> None:
        """Count a value."""
        self._cells[bisect_left(self._bounds, value)] += 1
        self._cells[-1] += value

    def as_dict(self) -> dict[str, Any]:
        """`count`, `sum`, and `buckets`, whose keys are the bounds: how many values are at most that."""
        *buckets, total = self._cells
        names = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        counts = [int(count) for count in accumulate(buckets)]
        return {"count": counts[-1], "sum": total, "buckets": dict(zip(names, counts, strict=True))}


def cells_needed(bounds: Sequence[float]) -> int:
    """One for each bucket, one for what is beyond the last bound, one for the sum."""
    return len(bounds) + 2
