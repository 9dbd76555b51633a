"""The batch: what one message carries; how large batches are, and how long they take."""

from bisect import bisect_left
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Annotated, Any, Protocol

import msgspec
from uuid_utils import uuid7


@dataclass(frozen=True, slots=True)
class Batch:
    """What one message carries: encoded entries in their order, under an id that survives every retry."""

    entries: tuple[bytes, ...]
    id: str = field(default_factory=lambda: str(uuid7()))
    process: str = ""
    """The name of the process that recorded the entries; empty when it has none."""
    first: int = 0
    """The number of the first entry among all that the process recorded, from 1; the others follow."""
    missing: int = 0
    """How many of its entries could not be read from the disk any more."""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def count(self) -> int:
        """How many of the process's entries it covers."""
        return len(self.entries) + self.missing

    @property
    def size_bytes(self) -> int:
        """The sum of the entries' sizes."""
        return sum(map(len, self.entries))

    def to_json(self) -> str:
        """One JSON array of the entries, which are joined and not encoded again."""
        return f"[{b','.join(self.entries).decode()}]"


class Source(Protocol):
    """What batches come from: in order, one at a time, and each is kept until it is settled.

    All of it is called by the one thread that ships.
    """

    process: str
    """The name of the process that recorded the entries."""

    def take(self) -> Batch | None:
        """The next batch, and the same one until it is sent; None when none is due."""

    def sent(self, batch: Batch, *, awaited_since: float | None = None) -> None:
        """Go on to the next batch: this one was accepted.

        Args:
            batch: the one that was taken.
            awaited_since: when it was sent, in seconds since 1970, if a confirmation will follow.
        """

    def settle(self, first: int, count: int) -> None:
        """Forget these entries: they are safe elsewhere."""

    def keeps(self, first: int, count: int) -> bool:
        """Whether these entries can be read again as long as they are not settled."""

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries that `keeps` speaks of; raises OSError, a `NotNowError` when they can be read later."""


class NotNowError(OSError):
    """What is on the disk cannot be read at this moment, for want of something that others use up."""


class _Recorded(msgspec.Struct):
    # With its zone: what has none may be before the year 1 in another one.
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]


_decode = msgspec.json.Decoder(_Recorded).decode


def recorded_at(entry: bytes) -> float | None:
    """When an encoded entry was recorded, in seconds since 1970; None when it does not tell."""
    try:
        return _decode(entry).created_at.timestamp()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Watermark:
    """Everything up to `value` is done; what is done beyond it counts once the gap is closed."""

    __slots__ = ("_beyond", "value")

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._beyond: dict[int, int] = {}

    def add(self, first: int, count: int) -> bool:
        """The numbers from `first` on are done, `count` of them; return whether the value has grown."""
        before = self.value
        self._beyond[first] = count
        while (done := self._beyond.pop(self.value + 1, None)) is not None:
            self.value += done
        return self.value > before


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


BATCH_ENTRIES = (1, 5, 10, 25, 50, 100, 250, 500, 1000)
_DELIVERY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_STORE_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Distributions:
    """Of the process's own batches that were sent; observed by the shipper's thread, once for each."""

    def __init__(self) -> None:
        self.batch_entries = Histogram(BATCH_ENTRIES)
        self.delivery_seconds = Histogram(_DELIVERY_SECONDS)
        """Of the attempt that succeeded."""
        self.store_seconds = Histogram(_STORE_SECONDS)
        """From the first time it was sent to its confirmation, which is asked for about once a second."""
