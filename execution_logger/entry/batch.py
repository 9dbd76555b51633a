"""The batch: what one message carries."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

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
