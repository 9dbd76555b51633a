"""`execution-logger db upgrade`."""

import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result

from execution_logger.cli import main


def upgrade(url: str | None) -> Result:
    """The outcome of the command for a database."""
    return CliRunner().invoke(main, ["db", "upgrade"], env={"DATABASE_URL": url})


def test_it_makes_the_tables_and_says_so(tmp_path: Path) -> None:
    """One line of what was done, one of what was not."""
    path = tmp_path / "logs.db"
    result = upgrade(f"sqlite:///{path}")
    assert result.exit_code == 0
    done, not_done = result.stdout.splitlines()
    tables = ("logs", "log_dead_letters", "log_batches", "log_job_runs", "log_statistics")
    assert done == ", ".join(f"execution_{name} created" for name in tables)
    assert not_done == "Nothing else in the database was touched."
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM execution_logs").fetchone() == (0,)


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    """Every deployment may run it."""
    url = f"sqlite:///{tmp_path / 'logs.db'}"
    upgrade(url)
    result = upgrade(url)
    assert result.exit_code == 0
    assert "execution_logs is there already" in result.stdout


def test_without_a_database_it_says_what_to_set() -> None:
    """In one line."""
    result = upgrade(None)
    assert result.exit_code == 2
    assert result.stderr.startswith("execution-logger: DATABASE_URL is not set")
    assert len(result.stderr.splitlines()) == 1


def test_a_database_that_is_away_is_one_line_without_its_password() -> None:
    """Nobody listens on port 1."""
    result = upgrade("postgresql://user:secret@127.0.0.1:1/logs")
    assert result.exit_code == 3
    assert "127.0.0.1:1/logs cannot be used now" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.output
