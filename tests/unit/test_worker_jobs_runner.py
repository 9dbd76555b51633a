"""Running ticks: what a job does in each, and what is noted of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from execution_logger.errors import StoreUnavailableError
from execution_logger.worker.jobs import WORK, JobError, Result, Runner, Tick
from execution_logger.worker.schedule import JOBS, RETENTION
from sqlite_site import SqliteSite, make_tables


class Site(SqliteSite):
    """A SQLite file, and a job that does what the test says."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(path, **settings)
        self.ticks: list[Tick] = []
        self.does: Any = True
        self.is_stopping = False

    async def run(self, **arguments: Any) -> Result:
        """Give a runner of a process of its own a message."""
        runner = Runner(self.engine, self.settings, lambda: self.is_stopping, {RETENTION.name: self._work})
        return await runner.run(RETENTION, **arguments)

    async def _work(self, tick: Tick) -> bool:
        self.ticks.append(tick)
        if isinstance(self.does, BaseException):
            raise self.does
        if callable(self.does):
            return bool(await self.does(tick))
        return bool(self.does)

    def make_due(self) -> None:
        """Let two days pass since the last run."""
        self.execute("UPDATE execution_log_job_runs SET started_at = datetime(started_at, '-2 days')")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Tables without rows."""
    async with Site(tmp_path / "logs.db") as site:
        make_tables(site.path)
        yield site


async def test_a_job_succeeds(site: Site) -> None:
    """What it says of itself is noted."""

    async def work(tick: Tick) -> bool:
        assert tick.has_time()
        tick.summary["rows"] = 3
        return True

    site.does = work
    result = await site.run()
    assert result.outcome == "succeeded"
    assert result.run.summary == {"rows": 3}


async def test_a_second_message_of_the_same_time_does_nothing(site: Site) -> None:
    """Two Beats send each job twice; by hand it can be run at any time."""
    assert (await site.run()).outcome == "succeeded"
    assert (await site.run()).outcome == "skipped"
    assert (await site.run(is_by_hand=True)).outcome == "succeeded"
    site.make_due()
    assert (await site.run()).outcome == "succeeded"
    assert len(site.ticks) == 3


async def test_a_job_runs_once_at_a_time(site: Site) -> None:
    """Whoever asks meanwhile does nothing, also by hand."""
    has_begun, goes_on = asyncio.Event(), asyncio.Event()

    async def work(_: Tick) -> bool:
        has_begun.set()
        return await goes_on.wait()

    site.does = work
    first = asyncio.create_task(site.run())
    await has_begun.wait()
    for is_by_hand in (False, True):
        assert (await site.run(is_by_hand=is_by_hand)).outcome == "skipped"
    goes_on.set()
    assert (await first).outcome == "succeeded"
    assert len(site.ticks) == 1


async def test_the_next_tick_goes_on_with_a_long_job(site: Site) -> None:
    """Whoever runs it, it knows what was done; the time of the run is that of all ticks."""

    async def work(tick: Tick) -> bool:
        tick.summary["ticks"] = tick.summary.get("ticks", 0) + 1
        return bool(tick.summary["ticks"] == 3)

    site.does = work
    results = [await site.run() for _ in range(4)]
    assert [each.outcome for each in results] == ["unfinished", "unfinished", "succeeded", "skipped"]
    assert results[2].run.summary == {"ticks": 3}
    assert len({tick.started_at for tick in site.ticks}) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (JobError("the hook said no"), "the hook said no"),
        (StoreUnavailableError("the database is away"), "the database is away"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
async def test_a_failure_is_noted_and_tried_when_it_is_due_again(
    site: Site, error: Exception, reason: str
) -> None:
    """And not before: a database that is down is not asked all the time."""
    site.does = error
    result = await site.run()
    assert (result.outcome, result.run.error) == ("failed", reason)
    assert (await site.run()).outcome == "skipped"
    site.make_due()
    site.does = True
    result = await site.run()
    assert (result.outcome, result.run.error) == ("succeeded", None)
    assert [past["error"] for past in result.run.past_runs] == [None, reason]


async def test_a_job_that_hangs_is_cut_off(tmp_path: Path) -> None:
    """Well before the broker gives its message to somebody else."""
    async with Site(tmp_path / "logs.db", task_time_limit=1.0) as site:
        make_tables(site.path)

        async def work(_: Tick) -> bool:
            await asyncio.Event().wait()
            return True

        site.does = work
        result = await site.run()
        assert (result.outcome, result.run.error) == ("failed", "a tick of it took longer than 0.5 s")


async def test_a_worker_that_ends_has_no_time(site: Site) -> None:
    """The rest is for another one."""

    async def work(tick: Tick) -> bool:
        return tick.has_time()

    site.does = work
    site.is_stopping = True
    assert (await site.run()).outcome == "unfinished"


async def test_a_tick_that_was_killed_is_made_up_for(site: Site) -> None:
    """The next one goes on with what was noted before; in SQLite when the longest time of a tick is over."""

    async def work(tick: Tick) -> bool:
        tick.summary["rows"] = 3
        return False

    site.does = work
    await site.run()
    site.does = asyncio.CancelledError()  # nothing more is noted, as after a SIGKILL
    with pytest.raises(asyncio.CancelledError):
        await site.run()
    site.does = True
    assert (await site.run()).outcome == "skipped"
    site.execute("UPDATE execution_log_job_runs SET held_until = datetime('now', '-1 seconds')")
    result = await site.run()
    assert (result.outcome, result.run.summary) == ("succeeded", {"rows": 3})


async def test_a_run_that_an_earlier_version_began_goes_on(site: Site) -> None:
    """It was handed over to a message; whichever comes takes it, with what was done so far."""
    site.execute(
        "UPDATE execution_log_job_runs SET started_at = datetime('now', '-1 minutes'), owner = 'm1', "
        "handed_to = 'm2', held_until = datetime('now', '-1 seconds'), slices = 2, "
        "summary = '{\"rows\": 5}' WHERE name = 'retention'"
    )
    result = await site.run()
    assert (result.outcome, result.run.summary) == ("succeeded", {"rows": 5})
    (row,) = site.rows("SELECT * FROM execution_log_job_runs WHERE name = 'retention'")
    assert (row["owner"], row["slices"], row["interruptions"]) == (None, 3, 0)


async def test_without_the_table_it_says_what_to_do(site: Site) -> None:
    """An older installation has none."""
    site.execute("DROP TABLE execution_log_job_runs")
    with pytest.raises(StoreUnavailableError, match="Run: execution-logger db upgrade"):
        await site.run()


def test_every_job_has_its_work() -> None:
    """None is forgotten."""
    assert WORK.keys() == JOBS.keys()
