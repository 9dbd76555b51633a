"""The count after a fault: calls that returned against rows that are there."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from integration.faults.calls import Progress


@dataclass
class Count:
    """Calls and rows of any number of streams, and how they differ."""

    calls: int = 0
    """Calls that returned."""
    rows: int = 0
    lost: dict[str, list[int]] = field(default_factory=dict)
    """The numbers of the calls that returned and have no row, by stream."""
    duplicates: dict[str, list[int]] = field(default_factory=dict)
    """The numbers that more than one row has."""
    foreign: dict[str, list[int]] = field(default_factory=dict)
    """The numbers of rows that belong to no call."""
    out_of_order: dict[str, list[int]] = field(default_factory=dict)
    """The numbers of rows that come after a row of a later call."""

    @classmethod
    def of(cls, progress: Mapping[str, Progress], stored: Mapping[str, Sequence[int]]) -> Self:
        """Compare the calls of each stream with its rows, which come in the order they are read back.

        A call that had begun and not returned may be a row, or not.
        """
        count = cls()
        nothing = Progress(0, 0, 0, 0)
        for stream in sorted({*progress, *stored}):
            count._add(stream, progress.get(stream, nothing), stored.get(stream, ()))
        return count

    def _add(self, stream: str, progress: Progress, numbers: Sequence[int]) -> None:
        self.calls += progress.returned
        self.rows += len(numbers)
        seen = set(numbers)
        differences = {
            "lost": sorted(set(range(1, progress.returned + 1)) - seen),
            "duplicates": _repeated(numbers),
            "foreign": sorted(number for number in seen if not 1 <= number <= progress.begun),
            "out_of_order": _behind(numbers),
        }
        for name, found in differences.items():
            if found:
                getattr(self, name)[stream] = found

    @property
    def is_exact(self) -> bool:
        """Whether each call is one row, in order, and nothing else is there."""
        return not (self.lost or self.duplicates or self.foreign or self.out_of_order)

    def __str__(self) -> str:
        parts = [f"{self.calls} calls returned, {self.rows} rows"]
        for name in ("lost", "duplicates", "foreign", "out_of_order"):
            differences: dict[str, list[int]] = getattr(self, name)
            texts = [f"{stream}: {ranges(numbers)}" for stream, numbers in differences.items()]
            if texts:
                parts.append(f"{number_of(differences)} {name.replace('_', ' ')} ({'; '.join(texts[:10])})")
        return ", ".join(parts)


def number_of(differences: Mapping[str, Sequence[int]]) -> int:
    """How many there are in all streams."""
    return sum(map(len, differences.values()))


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as people write them: "1-5, 7".

    >>> ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    texts = [f"{first}-{last}" if last > first else str(first) for first, last in found]
    return ", ".join([*texts[:20], *(["..."] if len(texts) > 20 else [])])


def _repeated(numbers: Sequence[int]) -> list[int]:
    return sorted(number for number, times in Counter(numbers).items() if times > 1)


def _behind(numbers: Sequence[int]) -> list[int]:
    highest, found = 0, []
    for number in numbers:
        if number < highest:
            found.append(number)
        highest = max(highest, number)
    return found
