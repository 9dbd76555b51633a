"""The batch: what one message carries."""

from dataclasses import dataclass, field

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
