"""Write docs/images: the page with the runs of a day, light and dark.

    python scripts/screenshots.py
    python scripts/screenshots.py --database URL --run NAME --to docs/images/my_host.png

Needs the dependency groups `test` and `integration-test`, Pillow, the page built, and a Chromium. The runs
are made up, and the same each time but for their dates; the second form shows a run of somebody's database.
"""  # noqa: INP001 - run by file

import random
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from PIL import Image
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from batches import encoded  # noqa: E402 - it is found only now
from browser import chromium, opened  # noqa: E402
from stored_runs import StoredRuns  # noqa: E402
from ui_process import UiProcess  # noqa: E402

SIZE = {"width": 1200, "height": 750}
_COLORS = 256
_RUNS = 60
_SHOWN = "report-1059"
_VIEWS: dict[str, tuple[str, str, str | None]] = {
    "runs": ("", "tr:nth-child(15) .sparkline", None),
    "run": (f"?run={_SHOWN}", "run-waterfall .row", "fetch prices"),
    "statistics": ("?view=statistics", "time-chart canvas", None),
}
"""Of each picture: the query, what is awaited, and the row that is selected."""

_FAILS, _WARNS, _TRIES_AGAIN = 0.15, 0.3, 0.2
"""The shares of the runs that fail, of the steps that warn, and of the calls that are tried again."""


class Report:
    """The entries of a run in which agents write a report.

    Args:
        task_id: its name.
        began_at: when it begins.
        chance: decides how long things take, and what goes wrong.
    """

    def __init__(self, task_id: str, began_at: datetime, chance: random.Random) -> None:
        self.entries: list[tuple[datetime, str]] = []
        self._task_id = task_id
        self._now = began_at
        self._chance = chance

    def write(self, until: datetime | None = None) -> list[str]:
        """All of it, or what there is of it then."""
        fails = self._chance.random() < _FAILS and self._task_id != _SHOWN
        root = self._begin("report", category="workflow", details={"run_state": "running"})
        began_at = self._now
        self._agent("outline", "planner", root, ("search", "read sources"))
        self._agent("research", "researcher", root, ("search", "fetch prices", "fetch news", "read filings"))
        self._agent("draft", "writer", root, ("complete", "check facts"))
        if not fails:
            self._agent("review", "editor", root, ("compare", "complete"))
        state = {"run_state": "failed", "error": "no answer"} if fails else {"run_state": "done"}
        self._end("report", root, began_at, category="workflow", details=state, fails=fails)
        return [entry for at, entry in self.entries if until is None or at <= until]

    def _agent(self, step: str, agent: str, root: str, tools: tuple[str, ...]) -> None:
        names = {"step": step, "agent_name": agent, "parent_id": root}
        operation = self._begin(step, **names)
        began_at = self._now
        for tool in tools:
            self._tool(tool, agent, operation)
        if self._chance.random() < _WARNS:
            self._add("warning", f"{step}: the model has cut its answer", category="agent", **names)
        self._end(step, operation, began_at, **names)

    def _tool(self, tool: str, agent: str, parent: str) -> None:
        own = {"category": "tool", "step": tool, "agent_name": agent, "parent_id": parent}
        fails = tool == "fetch prices" and (self._task_id == _SHOWN or self._chance.random() < _TRIES_AGAIN)
        for is_last in (False, True) if fails else (True,):
            operation = self._begin(tool, **own, details={"attempt": 1 + (fails and is_last)})
            began_at = self._now
            self._pass(0.3, 2.5)
            broken = {"error": "TimeoutError: no answer within 2 s", "host": "prices.example"}
            self._end(
                tool, operation, began_at, **own, fails=not is_last, details=None if is_last else broken
            )

    def _begin(self, name: str, **fields: Any) -> str:
        self._pass(0.01, 0.2)
        operation = self._id()
        self._add("info", f"{name} started", operation_id=operation, **fields)
        return operation

    def _end(
        self, name: str, operation: str, began_at: datetime, *, fails: bool = False, **fields: Any
    ) -> None:
        self._pass(0.01, 0.3)
        self._add(
            "error" if fails else "info",
            f"{name} failed: no answer" if fails else f"{name} completed",
            operation_id=operation,
            duration_ms=round((self._now - began_at).total_seconds() * 1000),
            **fields,
        )

    def _add(self, level: str, message: str, *, category: str = "agent", **fields: Any) -> None:
        self._pass(0.001, 0.01)
        entry = encoded(
            id=self._id(),
            task_id=self._task_id,
            created_at=self._now.isoformat(),
            level=level,
            category=category,
            message=message,
            **{name: value for name, value in fields.items() if value is not None},
        )
        self.entries.append((self._now, entry))

    def _pass(self, least: float, most: float) -> None:
        self._now += timedelta(seconds=self._chance.uniform(least, most))

    def _id(self) -> str:
        milliseconds = int(self._now.timestamp() * 1000)
        return str(
            UUID(int=milliseconds << 80 | 0x7 << 76 | self._chance.getrandbits(76) & ~(0x3 << 62) | 1 << 63)
        )


def main() -> None:
    """Take the pictures of the runs that are made up, or that of one run."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="the URL of a database that has the run")
    parser.add_argument("--run", help="the name of the run")
    parser.add_argument("--to", type=Path, help="the file to write")
    options = parser.parse_args()
    if options.database is None:
        _take_all()
    else:
        _take_run(options.database, options.run, options.to.resolve())


def _take_run(database_url: str, run: str, path: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        UiProcess(database_url, Path(folder)) as ui,
        chromium() as browser,
    ):
        view = (f"?{urlencode({'run': run})}", "run-waterfall .row", None)
        _write(path, _take(browser, ui.url, view, "light"))


def _take_all() -> None:
    """Make the data, serve it, and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = StoredRuns(Path(folder) / "logs.db")
        runs.store(*_entries(datetime.now(UTC)))
        runs.execute("UPDATE execution_log_job_runs SET known_since = datetime('now', '-2 days')")
        count = [sys.executable, "-m", "execution_logger.cli", "jobs", "run", "statistics"]
        subprocess.run(count, env=runs.environment, check=True)  # noqa: S603 - our own command
        with UiProcess(runs.environment["DATABASE_URL"], Path(folder)) as ui, chromium() as browser:
            for name, view in _VIEWS.items():
                for scheme in ("light", "dark"):
                    _write(IMAGES / f"{name}-{scheme}.png", _take(browser, ui.url, view, scheme))


def _entries(now: datetime) -> list[str]:
    """Those of runs over the last day; the last one has not ended yet."""
    chance = random.Random(7)  # noqa: S311 - for pictures
    entries: list[str] = []
    for number in range(_RUNS):
        age = timedelta(hours=23) * ((_RUNS - 1 - number) / _RUNS) ** 1.5 + timedelta(seconds=45)
        entries += Report(f"report-{1000 + number}", now - age, chance).write()
    entries += Report(f"report-{1000 + _RUNS}", now - timedelta(seconds=12), chance).write(until=now)
    return entries


def _take(browser: Browser, url: str, view: tuple[str, str, str | None], scheme: str) -> bytes:
    query, awaited, selected = view
    options = {"locale": "en-US", "color_scheme": scheme, "viewport": SIZE, "reduced_motion": "reduce"}
    with opened(browser, url + query, **options) as page:
        page.locator(awaited).first.wait_for()
        if awaited.startswith("run-"):
            page.get_by_text("Complete", exact=False).first.wait_for()
            page.wait_for_function("() => document.querySelector('.message.waiting') === null")
        if selected is not None:
            page.locator(awaited, has_text=selected).first.click()
            page.locator("entry-pane dl").first.wait_for()
        page.mouse.move(0, 0)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return page.screenshot()


def _write(path: Path, picture: bytes) -> None:
    """With a palette, which makes a third of it."""
    image = Image.open(BytesIO(picture)).convert("RGB")
    small = image.quantize(_COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")  # noqa: T201 - it reports


if __name__ == "__main__":
    main()
