"""`execution-logger dead`: entries. Messages take a Redis: they are in the integration tests."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batches import batch, encoded
from execution_logger import Settings
from execution_logger.cli import main
from execution_logger.store import Writer, create_engine
from sqlite_site import make_tables

NOTHING = "No entry was refused, and no message was moved aside.\n"


class Site:
    """A SQLite file with the tables, which refuses loud entries."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "logs.db"
        self.environment = {
            "CELERY_BROKER_URL": f"embedded://{folder / 'broker'}",
            "DATABASE_URL": f"sqlite:///{self.path}",
            # Hundreds of entries are refused one by one, on machines of any speed.
            "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "30",
        }
        make_tables(self.path)
        self.execute(
            "CREATE TRIGGER loud BEFORE INSERT ON execution_logs WHEN NEW.level = 'loud' "
            "BEGIN SELECT RAISE(ABORT, 'too loud'); END"
        )

    def execute(self, statement: str) -> list[Any]:
        """The rows of a statement."""
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def refuse(self, *messages: str) -> None:
        """Have the database refuse entries with these messages."""
        entries = batch(*(encoded(level="loud", message=message) for message in messages))

        async def write() -> None:
            settings = Settings.from_environment(self.environment)
            engine = create_engine(settings, pool_size=1)
            await Writer(engine, settings).write("b1", entries)
            await engine.dispose()

        asyncio.run(write())

    def dead(self, *arguments: str, stdin: str | None = None) -> Result:
        """The outcome of the command."""
        return CliRunner().invoke(main, ["dead", *arguments], env=self.environment, input=stdin)

    def listed(self, *options: str) -> list[dict[str, Any]]:
        """What `list --json` tells."""
        result = self.dead("list", "--json", *options)
        assert result.exit_code == 0, result.output
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Nothing is dead yet."""
    return Site(tmp_path)


def test_that_there_is_nothing_is_said(site: Site) -> None:
    """And no error: for programs it is an empty list, and there is nothing to retry."""
    assert site.dead("list").stdout == NOTHING
    assert site.listed() == []
    result = site.dead("retry", "--all")
    assert (result.exit_code, result.stdout) == (0, "Retried with success: 0. Refused again: 0.\n")
    assert site.dead("purge", "--all", "--yes").stdout == "Deleted: 0.\n"


def test_entries_are_listed_with_the_reason(site: Site) -> None:
    """Not whole: an entry can be large."""
    site.refuse("1", "2", "3")
    found = site.listed()
    assert [(each["kind"], each["batch_id"], each["reason"]) for each in found] == [
        ("entry", "b1", "IntegrityError: too loud")
    ] * 3
    assert len(site.listed("--limit", "2")) == 2
    table = site.dead("list").stdout
    assert all(each["id"] in table for each in found)
    assert table.count("too loud") == 3


def test_one_is_shown_whole(site: Site) -> None:
    """As it came."""
    site.refuse("任务")
    (each,) = site.listed()
    shown = json.loads(site.dead("show", each["id"]).stdout)
    assert {name: shown[name] for name in each} == each
    assert json.loads(shown["entry"])["message"] == "任务"


def test_a_retry_tells_what_is_refused_again(site: Site) -> None:
    """By the exit code too; once the cause is gone, all are stored."""
    site.refuse("1", "2")
    (first, second) = (each["id"] for each in site.listed())
    result = site.dead("retry", first)
    assert result.exit_code == 1
    assert result.stderr == f"{first}: IntegrityError: too loud\n"
    assert result.stdout == "Retried with success: 0. Refused again: 1.\n"
    site.execute("DROP TRIGGER loud")
    result = site.dead("retry", "--all")
    assert (result.exit_code, result.stdout) == (0, "Retried with success: 2. Refused again: 0.\n")
    assert site.execute("SELECT message FROM execution_logs ORDER BY message") == [("1",), ("2",)]
    assert site.dead("list").stdout == NOTHING
    assert site.dead("retry", second).exit_code == 1


def test_all_are_tried_however_many_there_are(site: Site) -> None:
    """Those that are refused again hide no others."""
    site.refuse(*map(str, range(250)))
    site.execute("DROP TRIGGER loud")
    site.execute('DELETE FROM execution_log_dead_letters WHERE entry LIKE \'%"message": "7"%\'')
    site.execute(
        "CREATE TRIGGER few BEFORE INSERT ON execution_logs WHEN NEW.message LIKE '1%' "
        "BEGIN SELECT RAISE(ABORT, 'not these'); END"
    )
    result = site.dead("retry", "--all")
    assert (result.exit_code, result.stdout) == (1, "Retried with success: 138. Refused again: 111.\n")
    assert len(site.listed("--limit", "1000")) == 111


def test_purging_deletes_for_good(site: Site) -> None:
    """Those that are named; all of them only when it is confirmed."""
    site.refuse("1", "2", "3")
    first = site.listed()[0]["id"]
    assert site.dead("purge", first).stdout == "Deleted: 1.\n"
    assert site.dead("purge", "--all", stdin="n\n").exit_code == 1
    assert len(site.listed()) == 2
    assert site.dead("purge", "--all", "--yes").stdout == "Deleted: 2.\n"
    assert site.listed() == []


@pytest.mark.parametrize("name", ["show", "retry", "purge"])
@pytest.mark.parametrize("letter_id", ["nonsense", "message-0123456789abcdef"])
def test_an_id_that_is_not_there_is_one_line(site: Site, name: str, letter_id: str) -> None:
    """It says where ids come from."""
    result = site.dead(name, letter_id)
    assert result.exit_code == 1
    expected = f"{letter_id}: there is none with this id. See: execution-logger dead list"
    assert result.stderr == f"execution-logger: {expected}\n"


@pytest.mark.parametrize("arguments", [(), ("--all", "x")])
@pytest.mark.parametrize("name", ["retry", "purge"])
def test_ids_or_all_of_them(site: Site, name: str, arguments: tuple[str, ...]) -> None:
    """One of the two, or nothing is done."""
    result = site.dead(name, *arguments)
    assert result.exit_code == 2
    assert "name the ids, or --all" in result.stderr


def test_a_database_that_is_away_is_one_line(site: Site) -> None:
    """As it is without the tables."""
    site.environment["DATABASE_URL"] = "sqlite:////no/such/folder/x"
    result = site.dead("list")
    assert result.exit_code == 3
    assert result.stderr.startswith("execution-logger: The database ")
    assert result.stderr.count("\n") == 1


def test_a_broker_that_is_away_is_one_line(site: Site) -> None:
    """Unless Celery is not used at all."""
    site.environment["CELERY_BROKER_URL"] = "redis://:secret@127.0.0.1:1/0"
    result = site.dead("list")
    assert result.exit_code == 3
    assert result.stderr.startswith("execution-logger: redis://127.0.0.1:1/0: ")
    site.environment["CELERY_ENABLED"] = "false"
    assert site.dead("list").stdout == NOTHING
