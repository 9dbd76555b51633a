"""Running jobs: once at a time, in slices, and with the reason when one fails."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from execution_logger.errors import StoreUnavailableError
from execution_logger.worker.jobs.job import JOBS, RETENTION, JobError, Slice
from execution_logger.worker.jobs.runner import WORK, Result, Runner
from sqlite_site import SqliteSite, make_tables


class Site(SqliteSite):
    """A SQLite file, and a job that does what the test says."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(path, **settings)
        self.pieces: list[Slice] = []
        self.messages = 0
        self.does: Any = True
        self.is_stopping = False

    async def run(self, owner: str | None = None, next_owner: str = "next", **arguments: Any) -> Result:
        """Give a runner of a process of its own a message."""
        self.messages += 1
        runner = Runner(self.engine, self.settings, lambda: self.is_stopping, {RETENTION.name: self._work})
        return await runner.run(RETENTION, owner or f"m{self.messages}", next_owner, **arguments)

    async def _work(self, piece: Slice) -> bool:
        self.pieces.append(piece)
        if isinstance(self.does, Exception):
            raise self.does
        if callable(self.does):
            return bool(await self.does(piece))
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

    async def work(piece: Slice) -> bool:
        assert piece.has_time()
        piece.summary["rows"] = 3
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
    assert len(site.pieces) == 3


async def test_a_job_runs_once_at_a_time(site: Site) -> None:
    """Whoever asks meanwhile is told who has it, also by hand."""
    has_begun, goes_on = asyncio.Event(), asyncio.Event()

    async def work(_: Slice) -> bool:
        has_begun.set()
        return await goes_on.wait()

    site.does = work
    first = asyncio.create_task(site.run("m1"))
    await has_begun.wait()
    for is_by_hand in (False, True):
        result = await site.run("m2", is_by_hand=is_by_hand)
        assert result.outcome == "skipped"
        assert result.run.owner == "m1"
    goes_on.set()
    assert (await first).outcome == "succeeded"
    assert len(site.pieces) == 1


async def test_a_long_job_goes_on_with_another_message(site: Site) -> None:
    """Which knows what was done; the time of the run is that of all slices."""

    async def work(piece: Slice) -> bool:
        piece.summary["slices"] = piece.summary.get("slices", 0) + 1
        return bool(piece.summary["slices"] == 3)

    site.does = work
    assert (await site.run("m1", "m2")).outcome == "handed over"
    assert (await site.run("stranger")).outcome == "skipped"
    assert (await site.run("m2", "m3")).outcome == "handed over"
    result = await site.run("m3", "m4")
    assert (result.outcome, result.run.summary, result.run.slices) == ("succeeded", {"slices": 3}, 3)
    assert len({piece.started_at for piece in site.pieces}) == 1
    assert (await site.run("m4")).outcome == "skipped"


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

        async def work(_: Slice) -> bool:
            await asyncio.Event().wait()
            return True

        site.does = work
        result = await site.run()
        assert (result.outcome, result.run.error) == ("failed", "a slice of it took longer than 0.5 s")


async def test_a_worker_that_ends_has_no_time(site: Site) -> None:
    """The rest is for another one."""

    async def work(piece: Slice) -> bool:
        return piece.has_time()

    site.does = work
    site.is_stopping = True
    assert (await site.run()).outcome == "handed over"


async def test_a_killed_workers_job_goes_on_elsewhere(site: Site) -> None:
    """With its own message, which comes again; after three deaths it is given up."""

    class KilledError(BaseException):
        """The process is gone."""

    async def work(_: Slice) -> bool:
        raise KilledError

    site.does = work
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append((await site.run("m1")).outcome)
        except KilledError:
            outcomes.append("killed")  # type: ignore[arg-type]
    assert outcomes == ["killed", "killed", "killed", "failed"]
    (row,) = site.rows("SELECT * FROM execution_log_job_runs WHERE name = 'retention'")
    assert row["error"] == "3 workers were lost over it"


async def test_a_job_that_was_stopped_goes_on_at_once(site: Site) -> None:
    """A Ctrl-C is not the loss of a worker, and what was done is not forgotten."""
    has_begun = asyncio.Event()

    async def work(piece: Slice) -> bool:
        piece.summary["rows"] = 3
        has_begun.set()
        await asyncio.Event().wait()
        return True

    site.does = work
    running = asyncio.create_task(site.run("m1", is_by_hand=True))
    await has_begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    site.does = True
    result = await site.run("m2")
    assert (result.outcome, result.run.summary, result.run.interruptions) == ("succeeded", {"rows": 3}, 0)


async def test_without_the_table_it_says_what_to_do(site: Site) -> None:
    """An older installation has none."""
    site.execute("DROP TABLE execution_log_job_runs")
    with pytest.raises(StoreUnavailableError, match="Run: execution-logger db upgrade"):
        await site.run()


def test_every_job_has_its_work() -> None:
    """None is forgotten."""
    assert WORK.keys() == JOBS.keys()
