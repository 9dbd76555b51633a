"""Runs the benchmarks one after the other, and writes their tables and plots into the documents.

    python benchmarks/report.py [--quick] [--only call,store] [--no-run]

A document has marks where figures go, in pairs: `<!-- figures: call -->` for all tables and plots of
`benchmarks/call.py`, `<!-- figures: call 2 -->` for its second table alone, `<!-- targets -->` for the
targets of all programs; `<!-- /figures -->` and `<!-- /targets -->` end them. What was measured last is
kept in `benchmarks/results/`, so that one program can be run again by itself. Needs what the tests
need, and the peers: pip install --group test --group benchmark. Everything takes about two hours.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import Figures, Plot, load, number, progress, target_table

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
RESULTS = FOLDER / "results"
PLOTS = ROOT / "docs" / "plots"
DOCUMENTS = (ROOT / "docs" / "PERFORMANCE.md", ROOT / "docs" / "SCALING.md")

PROGRAMS = (
    "call",
    "loop",
    "producer",
    "store",
    "latency",
    "end_to_end",
    "connections",
    "scale",
    "table_growth",
    "retention",
    "operation",
    "memory",
    "simulate",
)

_MARK = re.compile(
    r"<!-- (?P<what>figures: (?P<name>\w+)(?: (?P<number>\d+))?|targets) -->\n"
    r".*?<!-- /(?:figures|targets) -->",
    re.DOTALL,
)
# Pages are white or dark, and show the same file.
_COLOURS = ("#3778be", "#dd6b20", "#358b60", "#8763d9", "#c53d8f", "#718096", "#a4651e", "#2f8081")
_INK = "#7f7f7f"


def run(name: str, *, is_quick: bool) -> bool:
    """Run a program, which saves what it has found; whether it went well."""
    progress(f"--- {name}")
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--save", str(RESULTS / f"{name}.json")]
    command += ["--quick"] if is_quick else []
    return subprocess.run(command, check=False).returncode == 0  # noqa: S603 - a program of this folder


def draw(plot: Plot, file: Path) -> None:
    """Write a plot as SVG, the same bytes for the same figures, with texts that can be selected."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": file.name, "font.size": 9})
    mpl.rcParams.update({"text.color": _INK, "axes.titlecolor": _INK, "axes.labelcolor": _INK})
    mpl.rcParams.update({"axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK})
    figure = Figure(figsize=(7.5, 0.9 + 0.33 * _bars(plot) if plot.kind == "bars" else 3.6))
    axes = figure.subplots()
    (_draw_bars if plot.kind == "bars" else _draw_lines)(plot, axes)
    axes.set_title(plot.title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if len(plot.series) > 1:
        axes.legend(frameon=False)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None}, transparent=True)


def _bars(plot: Plot) -> int:
    return sum(map(len, plot.series.values()))


def _draw_bars(plot: Plot, axes: Axes) -> None:
    """Lying down, so that long names can be read; the first one on top."""
    names = list(dict.fromkeys(str(name) for points in plot.series.values() for name, _ in points))
    labels = [name.replace("`", "") for name in names]
    height = 0.8 / len(plot.series)
    for at, (series, points) in enumerate(plot.series.items()):
        places = [names.index(str(name)) + at * height for name, _ in points]
        values = [value for _, value in points]
        bars = axes.barh(places, values, height * 0.9, label=series, color=_COLOURS[at])
        axes.bar_label(bars, [number(value) for value in values], padding=3, fontsize=8)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(names))], labels)
    axes.invert_yaxis()
    axes.set_xlabel(plot.y_label)
    if plot.is_log_y:
        axes.set_xscale("log")


def _draw_lines(plot: Plot, axes: Axes) -> None:
    for at, (series, points) in enumerate(plot.series.items()):
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, label=series, color=_COLOURS[at], marker="o", markersize=3)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    if plot.is_log_x:
        axes.set_xscale("log")
    if plot.is_log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def in_markdown(name: str, found: Figures, number: int | None) -> str:
    """One table without its title, or all tables and plots with theirs."""
    if number is not None:
        return found.tables[number - 1].as_markdown()
    parts = [f"**{table.title}**\n\n{table.as_markdown()}" for table in found.tables]
    parts += [f"![{plot.title}](plots/{name}-{at}.svg)" for at, plot in enumerate(found.plots, 1)]
    return "\n\n".join([*parts, f"<sub>{found.machine}</sub>"])


def fill(text: str, found: dict[str, Figures]) -> str:
    """Put what was found between the marks; what was not measured stays as it is."""

    def replace(mark: re.Match[str]) -> str:
        what, name = mark["what"], mark["name"]
        if name is None:
            targets = [target for each in found.values() for target in each.targets]
            return f"<!-- targets -->\n{target_table(targets).as_markdown()}\n<!-- /targets -->"
        if name not in found:
            return mark[0]
        body = in_markdown(name, found[name], int(mark["number"]) if mark["number"] else None)
        return f"<!-- {what} -->\n{body}\n<!-- /figures -->"

    return _MARK.sub(replace, text)


def main() -> int:
    """Measure, draw, fill in; the exit code is 1 when a program has failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs, separated by commas")
    parser.add_argument("--no-run", action="store_true", help="write the documents anew from saved figures")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    PLOTS.mkdir(exist_ok=True)
    names = [] if options.no_run else options.only.split(",")
    failed = [name for name in names if not run(name, is_quick=options.quick)]
    saved = [name for name in PROGRAMS if (RESULTS / f"{name}.json").exists()]
    found = {name: load(RESULTS / f"{name}.json") for name in saved}
    for name, each in found.items():
        for at, plot in enumerate(each.plots, 1):
            draw(plot, PLOTS / f"{name}-{at}.svg")
    for document in DOCUMENTS:
        if document.exists():
            document.write_text(fill(document.read_text(), found))
    if failed:
        progress(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
