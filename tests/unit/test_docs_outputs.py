"""What the documentation shows below a command is what this prints: headings, labels and sentences.

Values are those of the day on which somebody looked: numbers, times and names of machines may differ.
Both languages show the same blocks, which `test_docs.py` checks: the English pages stand for both.
"""

import asyncio
import inspect
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from batches import encoded
from documents import TRANSLATED, Document
from execution_logger import Settings
from execution_logger.cli import demo, main
from execution_logger.journal import find_destination
from execution_logger.shipping.flush import Report
from execution_logger.store import create_engine
from journals import DyingProcess
from ledgers import Noted, fill
from stored_runs import StoredRuns

OF_REDIS = {
    "execution_logger_broker_memory_bytes",
    "execution_logger_broker_memory_limit_bytes",
    "execution_logger_queue_in_flight_messages",
    "execution_logger_queue_oldest_age_seconds",
    "execution_logger_queue_quarantined_messages",
}
"""What an embedded broker does not have."""


def documented() -> dict[str, list[str]]:
    """Each command of ours that a page shows with its output, and the lines of that."""
    found: dict[str, list[str]] = {}
    blocks = [block for name in TRANSLATED for block in Document(name).blocks if block.language == "console"]
    for block in blocks:
        lines: list[str] = []
        for line in block.code.splitlines():
            if line.startswith("$ "):
                lines = found.setdefault(line[2:], [])
            else:
                lines.append(line)
    return {command: lines for command, lines in found.items() if lines and "execution-logger " in command}


DOCUMENTED = documented()

WITH_SERVERS = {
    "execution-logger doctor --end-to-end": "takes a worker",
    "execution-logger metrics --port 9541": "does not end",
    "execution-logger ui --open": "does not end",
}
"""Outputs that are looked at by the tests of these commands only, and why."""

_VALUE = re.compile(r"(?:[\w+]+://)?(?:[/\w.:@-]*\d[\w.,:+-]*|/[\w/.-]+)+")

REPORT, RESEARCH, FOUND, LOST = (f"01a2020e-76f9-7733-a5d1-0d5f613dc3d{digit}" for digit in "abcd")


Fields = dict[str, Any]


def entry(time: str, message: str, level: str = "info", day: int = 22, **changed: Any) -> str:
    """An entry of the examples' day."""
    return encoded(message=message, level=level, created_at=f"2026-11-{day}T{time}Z", **changed)


class Site(StoredRuns):
    """The entries of the examples, and what a dead process has left."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "logs.db")
        self.environment |= {
            "CELERY_BROKER_URL": f"embedded://{folder / 'broker'}",
            "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(folder / "journal"),
        }
        self._store_report_42()
        self._store_report_44()
        destination = find_destination(Settings.from_environment(self.environment))
        DyingProcess(destination.folder, "vm-2191-cd99894f7c72", to=destination).log(200).die()

    def _store_report_42(self) -> None:
        outline: Fields = {"task_id": "report-42", "step": "outline", "agent_name": "planner"}
        write: Fields = {"task_id": "report-42", "step": "write", "agent_name": "author"}
        done = {"step": "plan", "model": "small", "chapters": 3}
        query = {"hits": 12, "query": "progress report of the third quarter"}
        self.store(
            entry("12:59:19.390", "Planning", **{**outline, "step": "plan"}),
            entry("12:59:19.390", "outline started", **outline, details={"step": "plan"}),
            entry("12:59:19.800", "outline completed", **outline, details=done, duration_ms=410),
            entry("12:59:19.800", "search: 进展报告", "debug", **write, details=query),
            entry("12:59:19.800", "rate limit, waiting", "warning", **write, duration_ms=1500),
            entry("12:59:19.800", "no answer from the model", "error", **write, details={"attempts": 3}),
        )

    def _store_report_44(self) -> None:
        at = partial(entry, day=29, task_id="report-44")
        report: Fields = {"operation_id": REPORT}
        research: Fields = {"operation_id": RESEARCH, "parent_id": REPORT, "agent_name": "planner"}
        search: Fields = {"parent_id": RESEARCH, "agent_name": "researcher"}
        found, lost = search | {"operation_id": FOUND}, search | {"operation_id": LOST}
        self.store(
            at("09:22:41.584", "report started", **report),
            at("09:22:41.588", "Planning", parent_id=REPORT, details={"chapters": 3}),
            at("09:22:41.588", "research started", **research),
            at("09:22:41.589", "search started", **found),
            at("09:22:41.590", "asking the index", "debug", parent_id=FOUND, details={"query": "prices"}),
            at("09:22:41.590", "search started", **lost),
            at("09:22:41.590", "asking the index", "debug", parent_id=LOST, details={"query": "rivals"}),
            at("09:22:41.899", "search completed", **found, duration_ms=310),
            at(
                "09:22:42.023", "search failed: no answer from the index", "error", **lost,
                duration_ms=433, details={"error": "no answer from the index"},
            ),
            at("09:22:42.026", "one source is missing", "warning", parent_id=RESEARCH),
            at("09:22:42.026", "research completed", **research, duration_ms=438),
            at("09:22:42.026", "report completed", **report, duration_ms=438, details={"run_state": "done"}),
        )  # fmt: skip

    def fill_ledger(self) -> None:
        """A process whose numbers have a gap of 50."""

        async def run() -> None:
            engine = create_engine(Settings.from_environment(self.environment), pool_size=1)
            process = "vm-31662-a0b7352987b4"
            noted = [Noted(f"b{first}", process, first, 50, 1, age=3600, delay=1) for first in (1, 101)]
            await fill(engine, noted, datetime.now(UTC))
            await engine.dispose()

        asyncio.run(run())

    def printed(self, command: str) -> list[str]:
        """The lines that a documented command prints, to both outputs."""
        before, _, arguments = command.partition("execution-logger ")
        environment = dict(each.split("=") for each in before.split())
        words = arguments.partition(" | ")[0].split()
        result = self.run(*words, **environment)
        assert result.exit_code in (0, 1), result.output
        return result.output.splitlines()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient_looks: None) -> Site:
    """What is written to a file goes to the test's folder."""
    monkeypatch.chdir(tmp_path)
    return Site(tmp_path)


def without_values(lines: Iterable[str]) -> list[str]:
    """Sentences in which each number, and each path, is the same."""
    return [_VALUE.sub("0", line) for line in lines]


def headings(lines: Sequence[str]) -> list[list[str]]:
    """The columns of each table: a rule stands below them."""
    return [re.split(" {2,}", above.strip()) for above, rule in pairwise(lines) if rule.startswith("──")]


def labels(lines: Iterable[str]) -> list[str]:
    """What stands before the value of each line."""
    return [line[:28].strip() for line in lines]


def test_every_output_is_looked_at() -> None:
    """A block that nobody compares would tell of a program of years ago."""
    here = Path(__file__).read_text("utf-8")
    assert len(DOCUMENTED) > 12
    assert [command for command in DOCUMENTED if f'"{command}"' not in here] == []


@pytest.mark.parametrize(
    "command", ["execution-logger tail report-42", "execution-logger tail report-44 --tree"]
)
def test_entries_are_shown_like_that(site: Site, command: str) -> None:
    """Those of the page itself, to the letter."""
    assert site.printed(command) == DOCUMENTED[command]


@pytest.mark.parametrize(
    "command",
    [
        "execution-logger runs --since 2h",
        "execution-logger jobs",
        "execution-logger recover --dry-run",
        "execution-logger audit --process vm-31662-a0b7352987b4",
        "EXECUTION_LOGGER_BATCHSIZE=20 execution-logger config --changed",
    ],
)
def test_tables_have_these_columns(site: Site, command: str) -> None:
    """Of these names, in this order."""
    site.store_run("report-46", "info")
    site.fill_ledger()
    found = headings(site.printed(command))
    assert found
    assert found == headings(DOCUMENTED[command])


@pytest.mark.parametrize(
    ("command", "last"),
    [
        ("execution-logger recover --dry-run", 1),
        ("execution-logger audit --process vm-31662-a0b7352987b4", 3),
        ("EXECUTION_LOGGER_BATCHSIZE=20 execution-logger config --changed", 1),
        ("execution-logger export report-42 --output report-42.ndjson", 1),
        ("execution-logger export report-42 --format csv --output report-42.csv", 1),
        ("execution-logger export report-44 --format chrome-trace --output report-44.json", 1),
        ("execution-logger db upgrade", 1),
    ],
)
def test_what_is_said_at_the_end_is_this(site: Site, command: str, last: int) -> None:
    """The last lines, but for their numbers."""
    site.fill_ledger()
    assert without_values(site.printed(command)[-last:]) == without_values(DOCUMENTED[command][-last:])


def test_a_purge_says_this(site: Site) -> None:
    """What it will delete, and what it has; the progress is of one that takes longer."""
    lines = DOCUMENTED["execution-logger purge --older-than 60d --yes"]
    site.store(entry("00:00:00", "old").replace("2026-11", "2020-11"))
    printed = site.printed("execution-logger purge --older-than 60d --yes")
    assert without_values(printed) == without_values([lines[0], lines[-1]])


def test_the_tables_are_called_like_that(tmp_path: Path) -> None:
    """Those which `db upgrade` makes."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    result = CliRunner().invoke(main, ["db", "upgrade"], env={"DATABASE_URL": url})
    assert result.stdout.splitlines() == DOCUMENTED["execution-logger db upgrade"]


def test_the_status_has_these_facts(site: Site) -> None:
    """Part by part."""
    command = "execution-logger status"
    assert labels(site.printed(command)) == labels(DOCUMENTED[command])


def test_the_doctor_has_these_columns(site: Site) -> None:
    """A misspelt variable is found, and said like that; what to do stands below what is wrong."""
    site.environment["EXECUTION_LOGGER_BATCHSIZE"] = "20"
    printed, lines = site.printed("execution-logger doctor"), DOCUMENTED["execution-logger doctor"]
    column = lines[0].index("EXECUTION")
    for line in (*printed[:-2], *lines[:-2], *DOCUMENTED["execution-logger doctor --end-to-end"][:-2]):
        head, text = line[:column], line[column:]
        assert re.fullmatch("(ok|warning|error) +[a-z]+ +", head) or (not head.strip() and text[:3] == "-> ")
    assert printed[:2] == lines[:2]
    said = [line for line in lines if line[:column].split() in (["ok", "settings"], ["ok", "database"])]
    assert len(said) == 4
    assert set(without_values(said)) <= set(without_values(printed))


def test_the_exporter_has_these_metrics(site: Site) -> None:
    """And with a Redis what only this can tell."""
    command = "execution-logger metrics --once | grep -v '^#'"
    shown, named = (
        {line.partition(" ")[0] for line in lines if not line.startswith("#")}
        for lines in (site.printed(command), DOCUMENTED[command])
    )
    assert named - shown <= OF_REDIS
    assert shown <= named


def test_the_demonstration_counts_this() -> None:
    """Its test runs it; here are its labels only."""
    (block,) = (block for block in Document("README.md").blocks if "scripts/demo.sh" in block.code)
    named = re.findall("^(\\w[\\w ]+?) {2,}", block.code, re.MULTILINE)
    assert len(named) == 6
    assert re.findall("^(\\w[\\w ]+?) {2,}", inspect.getsource(demo), re.MULTILINE) == named


def test_the_reports_of_a_flush_are_this() -> None:
    """Sent, confirmed, and kept while the broker is away."""
    shown = "".join(block.code for block in Document("docs/USING.md").blocks if block.language == "console")
    (late,) = re.findall("^log entries are late: (.*: redis.*)$", shown, re.MULTILINE)
    error = late.partition(" s: ")[2]
    assert late == str(Report(False, 0, 1, 2.0, last_error=error))
    assert f"{Report(True, 120, 0, 0.03, 120)}\n{Report(True, 0, 0, 0.07)}\n" in shown
