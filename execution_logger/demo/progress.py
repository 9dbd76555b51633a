"""How far the demonstration is: live on a terminal, as lines elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

_LINE_SECONDS = 1.0
_BAR_WIDTH = 50


@dataclass(frozen=True, slots=True)
class Counts:
    """Where everything is at one moment."""

    runs: int = 0
    runs_total: int = 0
    calls: int = 0
    delivered: int = 0
    in_queue: int = 0
    """Batches; all other numbers of what is logged are entries."""
    stored: int = 0

    def __str__(self) -> str:
        return (
            f"runs {self.runs}/{self.runs_total}, calls {self.calls}, delivered {self.delivered}, "
            f"in queue {self.in_queue} batches, stored {self.stored}"
        )


class Progress:
    """Shows the counts while the demonstration runs, and leaves the last ones standing.

    Args:
        console: a terminal is drawn on; elsewhere a line is printed, at most one a second.
        monotonic: seconds; tests inject their own.
    """

    def __init__(self, console: Console, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counts = Counts()
        self._console = console
        self._monotonic = monotonic
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._began_at = monotonic()
        self._printed: Counts | None = None
        self._printed_at = self._began_at - _LINE_SECONDS

    def update(self, **changed: int) -> None:
        """Change some of the counts, and show them."""
        self.counts = replace(self.counts, **changed)
        if self._live:
            self._live.update(self._table(), refresh=True)
        elif self._monotonic() - self._printed_at >= _LINE_SECONDS:
            self._print_line()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        elif kind is None:
            self._print_line()

    def _print_line(self) -> None:
        if self.counts != self._printed:
            self._console.print(f"{self._seconds():5.1f} s  {self.counts}", highlight=False)
            self._printed, self._printed_at = self.counts, self._monotonic()

    def _table(self) -> Table:
        counts = self.counts
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", min_width=11)
        table.add_column(justify="right", min_width=7)
        for name, number, total in (
            ("runs", counts.runs, counts.runs_total),
            ("log calls", counts.calls, None),
            ("delivered", counts.delivered, counts.calls),
            ("in queue", counts.in_queue, None),
            ("rows stored", counts.stored, counts.calls),
        ):
            bar = (
                "" if total is None else ProgressBar(total=max(total, 1), completed=number, width=_BAR_WIDTH)
            )
            table.add_row(f"  {name}", f"{number:,}", bar)
        note = "" if counts.stored else "the worker is starting; the host does not wait for it"
        table.add_row("", f"{self._seconds():.1f} s", note, style="dim")
        return table

    def _seconds(self) -> float:
        return self._monotonic() - self._began_at


def _bar(number: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=number, width=_BAR_WIDTH)
