"""The rows of the jobs: a run has one owner at a time, and what became of it is noted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_logger.store.engine import transaction
from execution_logger.store.job_runs import Claim, JobRun, JobRuns
from sqlite_site import SqliteSite, make_tables

HOLD_SECONDS = 60.0


class Jobs:
    """The rows of a SQLite file."""

    def __init__(self, site: SqliteSite) -> None:
        self.site = site
        self._runs = JobRuns(site.settings)

    async def claim(self, owner: str, *, may_start: bool = True) -> Claim:
        """Ask for the job `a`."""
        async with transaction(self.site.engine) as connection:
            return await self._runs.claim(connection, "a", owner, HOLD_SECONDS, lambda _run, _now: may_start)

    async def hand_over(self, run: JobRun, next_owner: str, **summary: Any) -> JobRun:
        """Leave the rest of a run to somebody else."""
        async with transaction(self.site.engine) as connection:
            return await self._runs.hand_over(connection, run, summary, next_owner, HOLD_SECONDS)

    async def finish(self, run: JobRun, error: str | None = None, **summary: Any) -> JobRun:
        """End a run."""
        async with transaction(self.site.engine) as connection:
            return await self._runs.finish(connection, run, summary, error)

    def lose(self) -> None:
        """Let the time pass for which the worker has the run."""
        self.site.execute("UPDATE execution_log_job_runs SET held_until = '2026-01-01 00:00:00.000000'")


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[Jobs]:
    """Jobs of which none has run."""
    async with SqliteSite(tmp_path / "logs.db") as site:
        make_tables(site.path)
        yield Jobs(site)


async def test_all_jobs_are_known_from_the_upgrade_on(jobs: Jobs) -> None:
    """One that never runs is late some day."""
    rows = jobs.site.rows("SELECT * FROM execution_log_job_runs")
    assert {row["name"] for row in rows} == {"health", "statistics", "retention", "report"}
    assert {row["started_at"] for row in rows} == {None}
    known_since = datetime.fromisoformat(rows[0]["known_since"]).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - known_since) < timedelta(minutes=1)


async def test_a_run_has_a_beginning_and_an_end(jobs: Jobs) -> None:
    """With what it did, and how long it took."""
    claim = await jobs.claim("m1")
    assert claim.is_granted
    assert claim.run.state(claim.now) == "running"
    assert (claim.run.slices, claim.run.duration_seconds) == (1, None)
    run = await jobs.finish(claim.run, rows=7)
    assert run.state(claim.now) == "succeeded"
    assert run.summary == {"rows": 7}
    assert run.succeeded_at == run.finished_at
    assert run.duration_seconds is not None
    assert 0 <= run.duration_seconds < 10


async def test_a_run_that_is_under_way_is_nobody_elses(jobs: Jobs) -> None:
    """A second Beat sends the same."""
    first = await jobs.claim("m1")
    second = await jobs.claim("m2")
    assert not second.is_granted
    assert second.run == first.run


async def test_a_run_begins_when_it_may(jobs: Jobs) -> None:
    """That is for the schedule to say."""
    run = await jobs.finish((await jobs.claim("m1")).run)
    claim = await jobs.claim("m2", may_start=False)
    assert not claim.is_granted
    assert claim.run == run
    assert (await jobs.claim("m3")).run.owner == "m3"


async def test_a_message_that_comes_again_goes_on(jobs: Jobs) -> None:
    """Celery gives the message of a killed worker to another one; its id is the same."""
    await jobs.claim("m1")
    again = await jobs.claim("m1", may_start=False)
    assert again.is_granted
    assert (again.run.slices, again.run.interruptions) == (2, 1)


async def test_whoever_it_was_handed_to_goes_on(jobs: Jobs) -> None:
    """With what was done so far, and nobody else does."""
    run = (await jobs.claim("m1")).run
    await jobs.hand_over(run, "m2", rows=5)
    assert not (await jobs.claim("m3")).is_granted
    claim = await jobs.claim("m2", may_start=False)
    assert claim.is_granted
    assert claim.run.summary == {"rows": 5}
    assert claim.run.started_at == run.started_at
    assert (claim.run.slices, claim.run.interruptions) == (2, 0)


async def test_a_lost_run_goes_to_the_next_who_asks(jobs: Jobs) -> None:
    """After the time for which its worker had it; what it did is not forgotten."""
    run = (await jobs.claim("m1")).run
    await jobs.hand_over(run, "lost", rows=5)
    jobs.lose()
    claim = await jobs.claim("m3", may_start=False)
    assert claim.is_granted
    assert (claim.run.summary, claim.run.interruptions) == ({"rows": 5}, 1)


async def test_who_has_lost_a_run_cannot_end_it(jobs: Jobs) -> None:
    """It was slow, and somebody else has gone on meanwhile."""
    slow = (await jobs.claim("m1")).run
    jobs.lose()
    new = (await jobs.claim("m2")).run
    assert await jobs.finish(slow, rows=1) == new
    assert await jobs.hand_over(slow, "m3") == new
    assert (await jobs.finish(new, rows=2)).summary == {"rows": 2}
    assert (await jobs.finish(new, error="twice")).error is None


async def test_a_failure_is_noted_with_its_reason(jobs: Jobs) -> None:
    """A success before it is not forgotten."""
    good = await jobs.finish((await jobs.claim("m1")).run)
    bad = await jobs.finish((await jobs.claim("m2")).run, "x" * 5000 + "\0", rows=3)
    assert bad.state(datetime.now(UTC)) == "failed"
    assert bad.error == "x" * 2000
    assert bad.summary == {"rows": 3}
    assert bad.succeeded_at == good.finished_at
    begun = await jobs.claim("m3")
    assert (begun.run.error, begun.run.summary, begun.run.outcome) == (None, {}, None)


async def test_the_last_twenty_runs_are_remembered(jobs: Jobs) -> None:
    """Newest first."""
    for number in range(22):
        run = await jobs.finish((await jobs.claim(f"m{number}")).run, number=number)
    assert [past["summary"]["number"] for past in run.past_runs] == list(range(21, 1, -1))
    assert run.past_runs[0]["outcome"] == "succeeded"
    assert datetime.fromisoformat(run.past_runs[0]["finished_at"]) == run.finished_at
