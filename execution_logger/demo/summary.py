"""The sums at the end: what was logged, what it cost, what is in the database."""

from dataclasses import dataclass

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Summary:
    """What the demonstration has measured."""

    runs: int
    files: int
    runs_seconds: float
    recorded_ids: list[str]
    stored_ids: list[str]
    call_cost: str
    call_seconds: float
    batches: int
    host_connections: int
    worker_connections: int | None
    worker_pool: int

    @property
    def lost(self) -> int:
        """Entries that were recorded and are not stored."""
        return len(set(self.recorded_ids) - set(self.stored_ids))

    @property
    def duplicates(self) -> int:
        """Rows beyond one for each entry."""
        return len(self.stored_ids) - len(set(self.stored_ids))

    @property
    def is_complete(self) -> bool:
        """Whether each entry is one row."""
        return not self.lost and not self.duplicates

    def table(self) -> Table:
        """For people."""
        table = Table(box=SIMPLE, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in self._rows():
            table.add_row(name, value)
        return table

    def _rows(self) -> list[tuple[str, Text]]:
        calls = len(self.recorded_ids)
        share = self.call_seconds / self.runs_seconds
        seen = "not measured here" if self.worker_connections is None else self.worker_connections
        return [
            ("log calls", Text(f"{calls:,} in {self.runs} concurrent runs over {self.files} files")),
            (
                "cost of a call",
                Text(f"{self.call_cost}; {share:.1%} of the {self.runs_seconds:.2f} s of the runs"),
            ),
            ("batches", Text(f"{self.batches}, with {calls / self.batches:.0f} entries on average")),
            ("rows stored", Text(f"{len(self.stored_ids):,}")),
            (
                "connections",
                Text(f"host {self.host_connections}; worker {seen}, its pool is {self.worker_pool}"),
            ),
            ("lost", _verdict(self.lost)),
            ("duplicates", _verdict(self.duplicates)),
        ]


def _verdict(count: int) -> Text:
    return Text(f"{count:,}", "bold red" if count else "bold green")
