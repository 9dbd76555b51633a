"""The runner: does a slice of a job, once at a time among all workers, and notes what became of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.diagnostics import logger
from execution_logger.errors import ExecutionLoggerError
from execution_logger.settings import Settings
from execution_logger.store.engine import transaction
from execution_logger.store.faults import attempt
from execution_logger.store.job_runs import ANYBODY, Claim, JobRun, JobRuns
from execution_logger.worker.jobs.health import check_health
from execution_logger.worker.jobs.job import HEALTH, REPORT, RETENTION, STATISTICS, Job, JobError, Slice, Work
from execution_logger.worker.jobs.report import send_report
from execution_logger.worker.jobs.retention import delete_expired
from execution_logger.worker.jobs.schedule import is_due, schedule_of
from execution_logger.worker.jobs.statistics import roll_up_statistics

WORK: Mapping[str, Work] = {
    HEALTH.name: check_health,
    STATISTICS.name: roll_up_statistics,
    RETENTION.name: delete_expired,
    REPORT.name: send_report,
}
"""What each job does, by its name."""

MOST_INTERRUPTIONS = 3
"""After so many lost workers a run is given up, until the job is due again."""

_SLICE_SHARE = 0.25
_LIMIT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a slice.

    Attributes:
        outcome: `skipped` is for somebody else, or done already; `handed over` needs another slice.
        run: as it is noted now.
    """

    outcome: Literal["skipped", "handed over", "succeeded", "failed"]
    run: JobRun


class Runner:
    """Does slices of jobs.

    Args:
        engine: of `create_engine`.
        settings: name the tables and the schedules. A slice begins nothing new after a quarter of the
            time in which the broker expects a message back, and is cut off at half of it.
        is_stopping: whether the process ends: then a slice stops early.
        work: what each job does.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        settings: Settings,
        is_stopping: Callable[[], bool] = lambda: False,
        work: Mapping[str, Work] = WORK,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._is_stopping = is_stopping
        self._work = work
        self._job_runs = JobRuns(settings)
        self._hold_seconds = float(settings.visibility_timeout_seconds)
        limits = (
            settings.visibility_timeout_seconds,
            settings.task_soft_time_limit,
            settings.task_time_limit,
        )
        shortest = min(limit for limit in limits if limit is not None)
        self._slice_seconds = shortest * _SLICE_SHARE
        self.limit_seconds = shortest * _LIMIT_SHARE

    async def run(self, job: Job, owner: str, next_owner: str, *, is_by_hand: bool = False) -> Result:
        """Do a slice, when there is something to do and nobody else does it.

        Args:
            job: one of `JOBS`.
            owner: recognises a message that comes again, and the one that goes on.
            next_owner: who goes on when the outcome is `handed over`.
            is_by_hand: begin a run also when the job is not due.

        Raises:
            StoreUnavailableError: the database cannot be used now, so nothing could be noted either.
        """
        claim = await self._claim(job, owner, is_by_hand=is_by_hand)
        if not claim.is_granted:
            return Result("skipped", claim.run)
        if claim.run.interruptions >= MOST_INTERRUPTIONS:
            reason = f"{claim.run.interruptions} workers were lost over it"
            return await self._finish(claim.run, claim.run.summary, reason)
        piece = self._slice(claim)
        try:
            is_finished = await self._do(job, piece)
        except ExecutionLoggerError as error:
            return await self._finish(claim.run, piece.summary, str(error))
        except asyncio.CancelledError:  # a Ctrl-C: whoever asks next goes on at once
            await self._hand_over(piece, ANYBODY, hold_seconds=0.0)
            raise
        if is_finished:
            return await self._finish(claim.run, piece.summary)
        return await self._hand_over(piece, next_owner, self._hold_seconds)

    async def _claim(self, job: Job, owner: str, *, is_by_hand: bool) -> Claim:
        schedule = schedule_of(self._settings, job)

        def may_start(run: JobRun, now: datetime) -> bool:
            if is_by_hand or schedule is None or run.started_at is None:
                return True
            return is_due(schedule, run.started_at, now)

        async with self._transaction() as connection:
            return await self._job_runs.claim(connection, job.name, owner, self._hold_seconds, may_start)

    def _slice(self, claim: Claim) -> Slice:
        stop_at = time.monotonic() + self._slice_seconds
        return Slice(
            engine=self._engine,
            settings=self._settings,
            run=claim.run,
            now=claim.now,
            limit_seconds=self.limit_seconds,
            has_time=lambda: time.monotonic() < stop_at and not self._is_stopping(),
            summary=dict(claim.run.summary),
        )

    async def _do(self, job: Job, piece: Slice) -> bool:
        try:
            async with asyncio.timeout(self.limit_seconds) as limit:
                return await self._work[job.name](piece)
        except ExecutionLoggerError:
            raise
        except Exception as error:
            if limit.expired():
                raise JobError(f"a slice of it took longer than {self.limit_seconds:g} s") from error
            logger.exception("job %s: unexpected error", job.name)
            raise JobError(f"{type(error).__name__}: {error}") from error

    async def _hand_over(self, piece: Slice, next_owner: str, hold_seconds: float) -> Result:
        async with self._transaction() as connection:
            run = await self._job_runs.hand_over(
                connection, piece.run, piece.summary, next_owner, hold_seconds
            )
        return Result("handed over", run)

    async def _finish(self, run: JobRun, summary: Mapping[str, Any], error: str | None = None) -> Result:
        async with self._transaction() as connection:
            finished = await self._job_runs.finish(connection, run, summary, error)
        return Result("succeeded" if error is None else "failed", finished)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        timeout_seconds = self._settings.database_timeout_seconds
        async with attempt(self._engine, timeout_seconds), transaction(self._engine) as connection:
            yield connection
