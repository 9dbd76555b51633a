"""What must not grow: memory, open files, disk, looked at every few seconds."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, linear_regression

from figures import Plot, Table, Target, number
from resources import open_files, resident_megabytes

MOST_GROWTH, EARLY, LATE = 1.05, (0.1, 0.3), (0.8, 1.0)


@dataclass
class Watched:
    """Something that must not grow, and what was seen of it: (seconds, value)."""

    name: str
    unit: str
    read: Callable[[], float]
    seen: list[tuple[float, float]] = field(default_factory=list)

    def mean(self, window: tuple[float, float]) -> float:
        """The mean in a part of the time, given by two fractions."""
        end = self.seen[-1][0]
        return fmean(value for at, value in self.seen if window[0] <= at / end <= window[1])

    @property
    def growth(self) -> float:
        """The mean of the late part of the time against that of the early one."""
        early = self.mean(EARLY)
        return self.mean(LATE) / early if early else 1.0

    @property
    def slope_an_hour(self) -> float:
        """After the warm-up."""
        begins = EARLY[0] * self.seen[-1][0]
        times, values = zip(*((at, value) for at, value in self.seen if at >= begins), strict=True)
        return float(linear_regression(times, values).slope) * 3600

    @property
    def row(self) -> tuple[str, ...]:
        """For the table."""
        most = max(value for _, value in self.seen)
        figures = (self.mean(EARLY), self.mean(LATE), most, self.growth, self.slope_an_hour)
        return f"{self.name}, {self.unit}", *map(number, figures)


def watch_processes(pids: dict[str, int]) -> Iterator[Watched]:
    """Memory and open files of each."""
    for name, pid in pids.items():
        yield Watched(name, "MB", partial(resident_megabytes, pid))
        yield Watched(name, "open files", partial(open_files, pid))


def look_at(watched: list[Watched], seconds: float, interval_seconds: float) -> None:
    """Note all of them down, every few seconds."""
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        for each in watched:
            each.seen.append((now, each.read()))
        time.sleep(interval_seconds)


def table_of(watched: Sequence[Watched], title: str, note: str) -> Table:
    """A row for each."""
    early, late = f"from {EARLY[0]:.0%} to {EARLY[1]:.0%} of the time", f"the last {1 - LATE[0]:.0%}"
    columns = ("", "early", "late", "most", "late / early", "slope an hour")
    rows = [each.row for each in watched]
    return Table(title, columns, rows, f"Means: early, {early}; late, {late}. {note}")


def memory_plot(watched: Sequence[Watched]) -> Plot:
    """A line for each memory."""
    memory = [each for each in watched if each.unit == "MB"]
    series = {each.name: [(at / 60, value) for at, value in each.seen] for each in memory}
    return Plot("Memory under load", "minutes", "MB", series, kind="lines")


def growth_targets(watched: Sequence[Watched]) -> list[Target]:
    """Nothing may grow."""
    return [
        Target(f"{each.name}, {each.unit}: late against early", each.growth, MOST_GROWTH) for each in watched
    ]
