"""What the page takes in a browser: until something is seen, while one scrolls, and how much memory.

    python benchmarks/page.py [--rows 1000000] [--rounds 10]

PostgreSQL holds runs of 1,000 entries, twenty of them under way at a time, and one of 100,000, as in
`benchmarks/read.py`. `execution-logger ui` serves them to the Chromium of this machine, without a window;
each round is a new profile with nothing cached. First paint is the frame after the first row is in the
document, counted from the start of the navigation. Browser, server and database share one machine.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from browser import chromium, opened
from figures import Figures, Table, Target, main, number, percentile, progress
from read import fill
from system import running_postgres
from ui_process import UiProcess

_SCROLLED_SECONDS = 5.0
_FIRST_PAINT = """
    selector => document.querySelector(selector)
        && new Promise(resolve => requestAnimationFrame(() => resolve(performance.now())))
"""
_SCROLL = """
    async ([selector, milliseconds]) => {
        let view = document.querySelector(selector);
        while (view.scrollHeight <= view.clientHeight || getComputedStyle(view).overflowY === "visible")
            view = view.parentElement;
        const frame = () => new Promise(requestAnimationFrame);
        const began = await frame();
        const frames = [];
        for (let now = began, step = 600; now - began < milliseconds; ) {
            view.scrollTop += step;
            if (view.scrollTop + view.clientHeight >= view.scrollHeight) step = -600;
            const next = await frame();
            frames.push(next - now);
            now = next;
        }
        return frames;
    }
"""
_ROW = "run-waterfall .row"
_READ_WHOLE = "() => document.querySelector('.live.open') && performance.now()"


@dataclass(frozen=True)
class View:
    """A view of the page: what it is called, its query, and what its first row is.

    `is_run`: all of it is read in the end, and it is scrolled.
    """

    label: str
    query: str
    row: str = _ROW
    is_run: bool = True


@dataclass
class Seen:
    """What was seen of one view, in all rounds: milliseconds, MB, and nodes of the document."""

    painted: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    nodes: list[float] = field(default_factory=list)

    @property
    def frames_a_second(self) -> float:
        """While one scrolled."""
        return 1e3 * len(self.frames) / sum(self.frames)

    @property
    def cells(self) -> list[str]:
        """As a row of the table."""
        painted = [number(median(self.painted)), number(percentile(self.painted, 95))]
        memory = [number(median(self.megabytes)), number(median(self.nodes))]
        if not self.frames:
            return [*painted, "", "", "", *memory]
        scrolled = [number(self.frames_a_second), number(percentile(self.frames, 99))]
        return [*painted, number(median(self.whole)), *scrolled, *memory]


def views(rows: int) -> list[View]:
    """The list, a run of 1,000 entries, and that of 100,000."""
    return [
        View("the list of 50 runs", "", "tbody tr", is_run=False),
        View("a run of 1,000 entries", f"?run=run-{rows // 1000 - 1}"),
        View("a run of 100,000 entries", "?run=long"),
        View("the same as a log", "?run=long&mode=log", "run-log .row"),
    ]


def look(browser: Browser, url: str, view: View, seen: Seen) -> None:
    """Open a view once in a new profile."""
    with opened(browser, "about:blank", locale="en-US", viewport={"width": 1400, "height": 900}) as page:
        page.goto(url + view.query, wait_until="commit")
        painted = page.wait_for_function(_FIRST_PAINT, arg=view.row, polling="raf")
        seen.painted.append(painted.json_value())
        if view.is_run:
            seen.whole.append(page.wait_for_function(_READ_WHOLE, polling="raf").json_value())
            seen.frames += page.evaluate(_SCROLL, [view.row, _SCROLLED_SECONDS * 1e3])
        measure_memory(page, seen)


def measure_memory(page: Page, seen: Seen) -> None:
    """What JavaScript holds after its garbage is gone."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("HeapProfiler.collectGarbage")
    devtools.send("Performance.enable")
    found = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
    seen.megabytes.append(found["JSHeapUsedSize"] / 1e6)
    seen.nodes.append(found["Nodes"])


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[UiProcess]:
    """The page of a database that is filled."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        postgres = stack.enter_context(running_postgres())
        fill(postgres, options.rows)
        yield stack.enter_context(UiProcess(postgres.url(), folder))


def measure(options: argparse.Namespace) -> Figures:
    """Each view in each round, one after the other."""
    if options.quick:
        options.rows, options.rounds = 100_000, 1
    found = {view: Seen() for view in views(options.rows)}
    with serving(options) as ui, chromium() as browser:
        for _ in range(options.rounds):
            for view, seen in found.items():
                look(browser, ui.url, view, seen)
                progress(f"{view.label}: {seen.cells}")
    columns = (
        "what is opened", "first paint, ms, median", "p95", "all of it is there, ms",
        "frames/s while scrolling", "slowest frame of 100, ms", "JavaScript's memory, MB", "nodes",
    )  # fmt: skip
    scrolled = f"scrolled for {_SCROLLED_SECONDS:g} s by 600 px a frame"
    note = f"{options.rounds} rounds, {options.rows:,} rows; {scrolled}."
    rows = [[view.label, *seen.cells] for view, seen in found.items()]
    long = [seen for view, seen in found.items() if "=long" in view.query]
    slowest = max(percentile(seen.painted, 95) for seen in long)
    fewest = min(seen.frames_a_second for seen in long)
    return Figures(
        [Table("The page in a browser", columns, rows, note)],
        targets=[
            Target("first paint of 100,000 entries, p95", slowest, 1000, "ms"),
            Target("frames a second while scrolling 100,000 entries", fewest, 59, is_least=True),
        ],
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much, and how often."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--rounds", type=int, default=10, help="how often each view is opened")


if __name__ == "__main__":
    main(__doc__, measure, add_options)
