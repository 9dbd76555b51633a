"""The rows of the jobs: what became of each run is noted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_logger.store.engine import transaction
from execution_logger.store.job_runs import JobRun, JobRuns
from sqlite_site import SqliteSite, make_tables


class Jobs:
    """The rows of a SQLite file."""

    def __init__(self, site: SqliteSite) -> None:
        self.site = site
        self._runs = JobRuns(site.settings)

    async def begin(self) -> JobRun:
        """Begin a tick of the job `a`."""
        async with transaction(self.site.engine) as connection:
            return await self._runs.begin(connection, await self._runs.get(connection, "a"), 60.0)

    async def pause(self, run: JobRun, **summary: Any) -> JobRun:
        """End a tick."""
        async with transaction(self.site.engine) as connection:
            return await self._runs.pause(connection, run, summary)

    async def finish(self, run: JobRun, error: str | None = None, **summary: Any) -> JobRun:
        """End a run."""
        async with transaction(self.site.engine) as connection:
            return await self._runs.finish(connection, run, summary, error)


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[Jobs]:
    """Jobs of which none has run."""
    async with SqliteSite(tmp_path / "logs.db") as site:
        make_tables(site.path)
        yield Jobs(site)


async def test_all_jobs_are_known_from_the_upgrade_on(jobs: Jobs) -> None:
    """One that never runs is late some day."""
    rows = jobs.site.rows("SELECT * FROM execution_log_job_runs")
    assert {row["name"] for row in rows} == {"health", "statistics", "retention"}
    assert {row["started_at"] for row in rows} == {None}
    known_since = datetime.fromisoformat(rows[0]["known_since"]).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - known_since) < timedelta(minutes=1)


async def test_a_run_has_a_beginning_and_an_end(jobs: Jobs) -> None:
    """With what it did, and how long it took."""
    begun = await jobs.begin()
    assert begun.state(datetime.now(UTC)) == "running"
    assert begun.state(datetime.now(UTC) + timedelta(minutes=2)) == "unfinished", "its worker was killed"
    assert begun.duration_seconds is None
    run = await jobs.finish(begun, rows=7)
    assert run.state(datetime.now(UTC)) == "succeeded"
    assert run.summary == {"rows": 7}
    assert run.succeeded_at == run.finished_at
    assert run.duration_seconds is not None
    assert 0 <= run.duration_seconds < 10


async def test_a_tick_goes_on_with_a_run_that_is_not_finished(jobs: Jobs) -> None:
    """With its beginning, and with what it did; the schedule goes on from its last tick."""
    begun = await jobs.begin()
    paused = await jobs.pause(begun, rows=5)
    assert paused.state(datetime.now(UTC)) == "unfinished"
    assert begun.started_at is not None
    assert paused.last_at > begun.started_at
    again = await jobs.begin()
    assert (again.started_at, again.summary) == (begun.started_at, {"rows": 5})
    await jobs.finish(again)
    assert (await jobs.begin()).summary == {}


async def test_a_failure_is_noted_with_its_reason(jobs: Jobs) -> None:
    """A success before it is not forgotten."""
    good = await jobs.finish(await jobs.begin())
    bad = await jobs.finish(await jobs.begin(), "x" * 5000 + "\0", rows=3)
    assert bad.state(datetime.now(UTC)) == "failed"
    assert bad.error == "x" * 2000
    assert bad.summary == {"rows": 3}
    assert bad.succeeded_at == good.finished_at
    begun = await jobs.begin()
    assert (begun.error, begun.summary, begun.outcome) == (None, {}, None)


async def test_the_last_twenty_runs_are_remembered(jobs: Jobs) -> None:
    """Newest first."""
    for number in range(22):
        run = await jobs.finish(await jobs.begin(), number=number)
    assert [past["summary"]["number"] for past in run.past_runs] == list(range(21, 1, -1))
    assert run.past_runs[0]["outcome"] == "succeeded"
    assert datetime.fromisoformat(run.past_runs[0]["finished_at"]) == run.finished_at
