"""`execution-logger audit`."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from execution_logger import Settings
from execution_logger.cli import audit as cli_audit
from execution_logger.cli import main
from execution_logger.store import create_engine
from ledgers import Noted, fill
from sqlite_site import make_tables


class Database:
    """A SQLite file with the tables."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        make_tables(path)

    def run(self, *arguments: str) -> Result:
        """The outcome of a command."""
        return CliRunner().invoke(main, list(arguments), env={"DATABASE_URL": self.url})

    def audit(self, *options: str) -> Result:
        """The outcome of an audit."""
        return self.run("audit", *options)

    def fill(self, *ledger: Noted) -> None:
        """Make this the ledger."""

        async def run() -> None:
            engine = create_engine(Settings(database_url=self.url), pool_size=1)
            await fill(engine, ledger, datetime.now(UTC))
            await engine.dispose()

        asyncio.run(run())


def noted(first: int, process: str = "api-1", **changed: Any) -> Noted:
    """A batch of ten entries that was stored at once, an hour ago."""
    usual = {"batch_id": f"{process}-{first}", "entries": 10, "deliveries": 1, "age": 3600, "delay": 1}
    return Noted(**{**usual, "process": process, "first": first, **changed})


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """An empty one."""
    return Database(tmp_path / "logs.db")


def rows(result: Result) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in result.stdout.splitlines()]


def test_all_that_is_there_is_complete(database: Database) -> None:
    """The sums say of how much; the exit code is for scripts."""
    database.fill(noted(1), noted(11), noted(1, "api-2"))
    result = database.audit()
    assert result.exit_code == 0, result.output
    assert "Nothing is missing." in result.stdout
    (total,) = (row for row in rows(result) if row[:2] == ["all", "2"])
    assert total[2:9] == ["3", "30", "-", "-", "-", "-", "-"]
    assert "api-1" not in result.stdout, "there is nothing to say of a process that is well"
    assert "cannot be seen from the database" in result.stdout


def test_what_is_missing_is_listed(database: Database) -> None:
    """With its numbers and the times between which it was logged; the exit code is 1."""
    database.fill(noted(1), noted(1011), noted(1022))
    result = database.audit()
    assert result.exit_code == 1
    listed = rows(result)
    assert ["api-1", "11", "-", "1,010", "1,000"] in [row[:5] for row in listed]
    assert ["api-1", "1,021", "1"] in [row[:3] for row in listed]
    assert "Missing: 1,001" in result.stdout


def test_what_is_late_or_came_again_is_listed(database: Database) -> None:
    """Neither is an error."""
    database.fill(noted(1, delay=300), noted(11, deliveries=3))
    result = database.audit()
    assert result.exit_code == 0
    listed = [row[:6] for row in rows(result)]
    assert ["api-1", "1", "-", "10", "10", "300.0"] in listed
    assert ["api-1", "11", "-", "20", "10", "3"] in listed
    assert "stored late" not in database.audit("--late-after", "400").stdout


def test_a_young_gap_is_not_stored_yet(database: Database) -> None:
    """It may be on its way."""
    database.fill(noted(1), noted(21, age=10))
    result = database.audit()
    assert result.exit_code == 0
    assert "not stored yet" in result.stdout
    assert database.audit("--late-after", "5").exit_code == 1


def test_many_processes_and_gaps_are_cut_short(database: Database) -> None:
    """Those with gaps come first; the sums are of all."""
    database.fill(*(noted(1, f"a{n}") for n in range(25)), *(noted(1 + 20 * n, "z") for n in range(30)))
    lines = database.audit().stdout.splitlines()
    assert sum(line.lstrip().startswith("z ") for line in lines) == 1 + 20
    assert lines[4].split()[0] == "z"
    assert any(line.split()[:2] == ["all", "26"] for line in lines)
    assert any("and 9 more" in line for line in lines)


def test_programs_read_json(database: Database) -> None:
    """Everything that was found, with ISO times."""
    database.fill(noted(1), noted(21))
    result = database.audit("--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    (gap,) = found["missing"]
    assert (gap["process"], gap["first"], gap["last"]) == ("api-1", 11, 20)
    assert datetime.fromisoformat(gap["noticed_at"]).tzinfo is not None
    assert found["is_complete"] is False
    assert found["accounts"][0]["missing"] == 10


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        (("--since", "30m"), 1),
        (("--until", "30m"), 2),
        (("--since", "2h", "--until", "1m"), 2),
        (("--since", "2020-01-01"), 3),
        (("--until", "2020-01-01T08:00:00+08:00"), 0),
        (("--process", "api-2"), 1),
    ],
)
def test_a_part_may_be_asked_for(database: Database, options: tuple[str, ...], batches: int) -> None:
    """By age, by time (UTC unless it says otherwise) and by process."""
    database.fill(noted(1), noted(11, age=5), noted(1, "api-2"))
    result = database.audit("--json", *options)
    assert result.exit_code == 0, result.output
    assert sum(account["batches"] for account in json.loads(result.stdout)["accounts"]) == batches


@pytest.mark.parametrize(
    "options",
    [("--process", "api"), ("--process", "api-1", "--until", "2h"), ("--json", "--process", "API-1")],
)
def test_of_an_unknown_process_nothing_is_said(database: Database, options: tuple[str, ...]) -> None:
    """A name that is misspelt must not look like one that is complete."""
    database.fill(noted(1))
    result = database.audit(*options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the ledger has no batch of a process " in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [((), "no batches.\n"), (("--since", "2026-11-01"), "since 2026-11-01 00:00:00 UTC.\n")],
)
def test_an_empty_ledger_is_not_called_complete(
    database: Database, options: tuple[str, ...], words: str
) -> None:
    """Nobody has stored anything: that is all there is to say."""
    result = database.audit(*options)
    assert (result.exit_code, result.stdout.endswith(words)) == (0, True)
    assert "missing" not in result.stdout


@pytest.mark.parametrize("width", [80, 120])
def test_names_of_processes_stay_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """They are for copying, into --process and into searches."""
    shown = Console(width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(cli_audit, "open_console", lambda: shown)
    name = "web-7d9f8b6c5-x2x9p.production.example-1-0193a7c2b4d5"
    database.fill(noted(1, name), noted(1011, name), noted(1021, name, delay=300, deliveries=2), noted(1))
    lines = database.audit().stdout.splitlines()
    assert sum(name in line for line in lines) == 4
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--since", "yesterday"), "'yesterday' must be an age such as 30m"),
        (("--since", "999999w"), "'999999w' must be an age"),
        (("--until", "2026-13-01"), "'2026-13-01' must be an age"),
        (("--since", "1h", "--until", "2h"), "is not before --until"),
        (("--late-after", "-1"), "--late-after"),
        (("--loud",), "--loud"),
    ],
)
def test_wrong_usage_is_explained(database: Database, options: tuple[str, ...], words: str) -> None:
    """With an exit code of its own."""
    result = database.audit(*options)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_database_without_a_ledger_is_one_line(tmp_path: Path) -> None:
    """It says what to do."""
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    result = CliRunner().invoke(main, ["audit"], env={"DATABASE_URL": url})
    assert result.exit_code == 3
    assert "execution-logger db upgrade" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_help_says_what_an_audit_cannot_know() -> None:
    """Nobody may take it for more than it is."""
    text = " ".join(CliRunner().invoke(main, ["audit", "--help"]).stdout.split())
    assert "the last entries of a process can never be seen as missing" in text
    assert "journal of a host or in the queue is not stored yet" in text
