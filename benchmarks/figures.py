"""What a benchmark has found: tables, plots and targets, printed for people and saved for the report."""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Literal

import msgspec


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __str__(self) -> str:
        """For a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        texts = [
            line[0].ljust(widths[0])
            + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
            for line in lines
        ]
        return "\n".join([self.title, *texts, *([self.note] if self.note else [])])

    def as_markdown(self) -> str:
        """For a document, without the title."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{text}\n\n{self.note}" if self.note else text


@dataclass(frozen=True)
class Plot:
    """Bars (x are names) or lines (x are numbers), one set of points for each name in `series`."""

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[str | float, float]]]
    kind: Literal["bars", "lines"] = "bars"
    is_log_x: bool = False
    is_log_y: bool = False


@dataclass(frozen=True)
class Target:
    """What was aimed at, and what was measured, in one unit."""

    text: str
    measured: float
    limit: float
    unit: str = ""
    is_least: bool = False
    """The limit is the least and not the most that it may be."""

    @property
    def is_met(self) -> bool:
        """Whether the measured figure is within the limit."""
        return self.measured >= self.limit if self.is_least else self.measured <= self.limit

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The target, its limit, the measured figure, and whether it was met."""
        sign = "≥" if self.is_least else "≤"
        limit, measured = (f"{number(value)} {self.unit}".strip() for value in (self.limit, self.measured))
        return self.text, f"{sign} {limit}", measured, "yes" if self.is_met else "no"


@dataclass
class Figures:
    """All that one program has found."""

    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    machine: str = ""
    values: dict[str, float] = field(default_factory=dict)
    """What other programs calculate with, by a name."""

    def __str__(self) -> str:
        """For a terminal; plots are for the report."""
        parts = [str(table) for table in self.tables]
        if self.targets:
            parts.append(str(target_table(self.targets)))
        return "\n\n".join(parts)


def target_table(targets: Sequence[Target]) -> Table:
    """The targets, a row each."""
    return Table("Targets", ("target", "limit", "measured", "met"), [target.cells for target in targets])


def number(value: float) -> str:
    """Three significant digits, with commas: 0.0123, 1.23, 12.3, 123, 12,345."""
    digits = next((d for d, least in enumerate((100, 10, 1, 0.1, 0.01)) if abs(value) >= least), 4)
    return f"{value:,.{digits}f}" if value else "0"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(values: Sequence[float]) -> str:
    """Median and quartiles: `12.3 (11.9-13.0)`."""
    if len(values) < 4:  # noqa: PLR2004 - fewer have no quartiles worth showing
        return f"{number(median(values))} ({number(min(values))}-{number(max(values))})"
    low, middle, high = quantiles(values, n=4)
    return f"{number(middle)} ({number(low)}-{number(high)})"


def main(
    doc: str | None,
    measure: Callable[[argparse.Namespace], Figures],
    add_options: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> None:
    """Read the options, measure, print, and save when asked to.

    Every program has `--quick`, for a look whose figures mean little, and `--save FILE`.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short run, to see that all works")
    parser.add_argument("--save", type=Path, metavar="FILE", help="save the figures as JSON")
    add_options(parser)
    options = parser.parse_args()
    figures = measure(options)
    figures.machine = describe_machine()
    print(f"{figures}\n\n{figures.machine}")
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")


def load(file: Path) -> Figures:
    """What `--save` has saved."""
    return msgspec.json.decode(file.read_bytes(), type=Figures)


def describe_machine() -> str:
    """Processor, cores, system and Python: what figures depend on."""
    models = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores ({model}), {platform.system()}, {python}"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def progress(text: str) -> None:
    """Say what is being measured, apart from the results."""
    print(text, file=sys.stderr, flush=True)
