"""`execution-logger jobs` and `execution-logger purge`."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import main
from sqlite_site import make_tables


class Site:
    """A SQLite file with the tables."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "logs.db"
        self.environment = {
            "CELERY_BROKER_URL": f"embedded://{folder / 'broker'}",
            "DATABASE_URL": f"sqlite:///{self.path}",
        }
        make_tables(self.path)

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
        """The outcome of a command."""
        variables = {**self.environment, **environment}
        return CliRunner().invoke(main, arguments, env=variables, input=stdin)

    def execute(self, script: str) -> None:
        """Change the file without the library."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(script)

    def log(self, *ages_in_days: float, task_id: str = "t") -> None:
        """An entry of each age."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for number, age in enumerate(ages_in_days):
                at = (datetime.now(UTC) - timedelta(days=age)).strftime("%Y-%m-%d %H:%M:%S.000000")
                connection.execute(
                    "INSERT INTO execution_logs (id, task_id, level, category, message, created_at) "
                    "VALUES (?, ?, 'info', 'agent', 'm', ?)",
                    (f"{task_id}-{age}-{number}", task_id, at),
                )

    def count(self) -> int:
        """How many entries there are."""
        with closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute("SELECT count(*) FROM execution_logs").fetchone()[0])

    def jobs(self) -> dict[str, dict[str, Any]]:
        """What `--json` tells, by name."""
        result = self.run("jobs", "--json")
        return {job["name"]: job for job in json.loads(result.stdout)}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Nothing has run yet."""
    return Site(tmp_path)


def test_jobs_that_have_not_run_yet_are_listed(site: Site) -> None:
    """With the time at which they are due; that is no error."""
    result = site.run("jobs")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["retention", "never", "-", "-"] in [line[:4] for line in lines]
    assert "17 3 * * *" in result.stdout


def test_a_job_is_run_by_hand(site: Site) -> None:
    """Here and now; the list shows it then."""
    site.log(100, 95, 1)
    result = site.run("jobs", "run", "retention")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("retention succeeded in ")
    assert "entries 2" in result.stdout
    job = site.jobs()["retention"]
    assert (job["state"], job["summary"]["entries"], job["problem"]) == ("succeeded", 2, None)
    assert datetime.fromisoformat(job["next_at"]) > datetime.now(UTC)


def test_a_job_that_fails_says_why(site: Site) -> None:
    """By hand, in the list, and in the exit codes."""
    site.log(100)
    site.execute("CREATE TRIGGER t BEFORE DELETE ON execution_logs BEGIN SELECT RAISE(ABORT, 'no!'); END")
    result = site.run("jobs", "run", "retention")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("retention failed: The database sqlite+aiosqlite:///")
    result = site.run("jobs")
    assert result.exit_code == 1
    assert "retention: it failed: The database" in result.stdout
    assert "no!" in result.stdout


def test_a_job_that_is_late_says_since_when(site: Site) -> None:
    """Beat or the workers do not run; what is switched off is not late."""
    site.execute("UPDATE execution_log_job_runs SET known_since = '2026-01-01 00:00:00.000000'")
    result = site.run("jobs", EXECUTION_LOGGER_SCHEDULE_STATISTICS="off")
    assert result.exit_code == 1
    assert "retention: it is late since 2026-01-01 03:17 UTC: do Beat and a worker run?" in result.stdout
    assert "statistics: it is late" not in result.stdout
    assert " off" in result.stdout


def test_a_job_that_runs_elsewhere_is_left_alone(site: Site) -> None:
    """The exit code says that it was not done."""
    site.execute(
        "UPDATE execution_log_job_runs SET started_at = '2026-01-01 00:00:00.000000', "
        "held_until = '2999-01-01 00:00:00.000000' WHERE name = 'retention'"
    )
    result = site.run("jobs", "run", "retention")
    assert result.exit_code == 1
    assert result.stderr == "retention: it runs already, since 2026-01-01 00:00:00 UTC\n"
    assert json.loads(site.run("jobs", "run", "retention", "--json").stdout)["outcome"] == "skipped"
    assert site.jobs()["retention"]["state"] == "running"


def test_the_health_names_its_reasons(site: Site) -> None:
    """A line for each; what it has found is no failure of the job."""
    site.log(200)
    assert site.run("jobs", "run", "health").exit_code == 0
    result = site.run("jobs")
    assert result.exit_code == 0
    assert "health: the oldest entry is of" in result.stdout


def test_an_unknown_job_is_wrong_usage(site: Site) -> None:
    """With the names that there are."""
    result = site.run("jobs", "run", "nope")
    assert result.exit_code == 2
    assert "'health', 'statistics', 'retention'" in result.stderr


def test_an_older_database_is_explained(site: Site) -> None:
    """In one line."""
    site.execute("DROP TABLE execution_log_job_runs")
    result = site.run("jobs")
    assert result.exit_code == 3
    assert result.stderr.endswith("Run: execution-logger db upgrade\n")


class TestPurge:
    """Deleting by hand."""

    def test_old_entries_are_deleted(self, site: Site) -> None:
        """And the others stay."""
        site.log(100, 91, 89)
        result = site.run("purge", "--older-than", "90d", "--yes")
        assert result.exit_code == 0, result.output
        first, last = result.stdout.splitlines()
        assert first.startswith("2 entries older than ")
        assert last.startswith("2 entries were deleted in ")
        assert site.count() == 1

    def test_a_run_is_deleted(self, site: Site) -> None:
        """Whatever its age."""
        site.log(100, 0, task_id="a")
        site.log(100, 0, task_id="b")
        result = site.run("purge", "--task-id", "a", "--yes")
        assert "2 entries of run a in execution_logs" in result.stdout
        assert site.count() == 2

    def test_it_asks_first(self, site: Site) -> None:
        """No is no."""
        site.log(100)
        result = site.run("purge", "--older-than", "90d", stdin="n\n")
        assert result.exit_code == 1
        assert site.count() == 1
        assert site.run("purge", "--older-than", "90d", stdin="y\n").exit_code == 0
        assert site.count() == 0

    @pytest.mark.parametrize("option", ["--dry-run", "--yes"])
    def test_nothing_to_delete_is_no_error(self, site: Site, option: str) -> None:
        """It says so, and asks nothing."""
        result = site.run("purge", "--older-than", "90d", option)
        assert result.exit_code == 0
        assert result.stdout.startswith("0 entries older than")

    def test_a_dry_run_only_counts(self, site: Site) -> None:
        """And asks nothing."""
        site.log(100)
        result = site.run("purge", "--older-than", "90d", "--dry-run")
        assert (result.exit_code, site.count()) == (0, 1)
        assert result.stdout.startswith("1 entries older than")

    @pytest.mark.parametrize("options", [(), ("--older-than", "90d", "--task-id", "x")])
    def test_what_to_delete_must_be_said(self, site: Site, options: tuple[str, ...]) -> None:
        """One of the two."""
        result = site.run("purge", *options)
        assert result.exit_code == 2
        assert "give either --older-than or --task-id" in result.stderr
