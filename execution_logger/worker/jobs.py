"""The jobs. Each message is a tick: it works for a short while, notes what became of it, and returns.

A tick may be lost or come twice without harm: the next one goes on with what is noted in the job's row.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.diagnostics import logger
from execution_logger.errors import ExecutionLoggerError
from execution_logger.settings import Settings
from execution_logger.store.engine import create_engine, transaction
from execution_logger.store.faults import attempt
from execution_logger.store.job_runs import JobRun, JobRuns
from execution_logger.worker.health import check_health
from execution_logger.worker.maintenance import delete_expired, roll_up_statistics
from execution_logger.worker.schedule import (
    HEALTH,
    RETENTION,
    STATISTICS,
    Job,
    ZonedCrontab,
    is_due,
    schedule_of,
)


@dataclass(slots=True)
class Tick:
    """A short while in which a job works.

    Attributes:
        engine: to the database.
        settings: of the worker.
        run: as it was noted down when the tick began.
        now: when the tick began, by the clock of the database, in UTC.
        limit_seconds: after which the tick is cut off.
        has_time: whether to go on; otherwise the job returns, and the next tick is given its summary.
        summary: what the run has done so far, for people and for the next tick; of what JSON knows.
        app: the Celery application whose worker runs it; None outside of one.
    """

    engine: AsyncEngine
    settings: Settings
    run: JobRun
    now: datetime
    limit_seconds: float
    has_time: Callable[[], bool]
    summary: dict[str, Any] = field(default_factory=dict)
    app: Any = None

    @property
    def started_at(self) -> datetime:
        """When the run began, which is the same in all its ticks."""
        return self.run.started_at or self.now

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection to look something up with.

        Raises:
            StoreUnavailableError: the database cannot be used now.
        """
        timeout_seconds = self.settings.database_timeout_seconds
        async with attempt(self.engine, timeout_seconds), self.engine.connect() as connection:
            yield connection


Work = Callable[[Tick], Awaitable[bool]]
"""Works for a tick, and returns whether the run is finished."""

WORK: Mapping[str, Work] = {
    HEALTH.name: check_health,
    STATISTICS.name: roll_up_statistics,
    RETENTION.name: delete_expired,
}
"""What each job does, by its name."""

CONNECTIONS = 2
"""One holds the lock, the other one works."""

_TICK_SECONDS = 15.0
_TICK_SHARE = 0.25
_LIMIT_SHARE = 0.5


class JobError(ExecutionLoggerError):
    """A job could not do what it is for."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a tick.

    Attributes:
        outcome: `skipped` when it is done already, or somebody else is at it; `unfinished` when more is left.
        run: as it is noted now.
    """

    outcome: Literal["skipped", "unfinished", "succeeded", "failed"]
    run: JobRun


class Runner:
    """Runs ticks of jobs.

    Args:
        engine: of `create_engine`, with at least `CONNECTIONS`.
        settings: name the tables and the schedules. A tick begins nothing new after 15 s, or a quarter of
            the shortest time limit, and is cut off at half of that limit.
        is_stopping: whether the process ends: then a tick ends early.
        work: what each job does.
        app: the Celery application whose worker runs them.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        settings: Settings,
        is_stopping: Callable[[], bool] = lambda: False,
        work: Mapping[str, Work] = WORK,
        app: Any = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._is_stopping = is_stopping
        self._work = work
        self._app = app
        self._job_runs = JobRuns(settings)
        shortest = time_limit_seconds(settings)
        self._tick_seconds = min(_TICK_SECONDS, shortest * _TICK_SHARE)
        self._limit_seconds = shortest * _LIMIT_SHARE
        self._most_seconds = most_seconds(settings)

    async def run(self, job: Job, *, is_by_hand: bool = False) -> Result:
        """Work for a tick, when there is something to do and nobody else does it.

        Args:
            job: one of `JOBS`.
            is_by_hand: begin a run also when the job is not due.

        Raises:
            StoreUnavailableError: the database cannot be used now, so nothing could be noted either.
        """
        schedule = schedule_of(self._settings, job)
        async with (
            attempt(self._engine, self._most_seconds),
            self._job_runs.lock(self._engine, job.name, self._most_seconds) as is_alone,
        ):
            async with self._transaction() as connection:
                run = await self._job_runs.get(connection, job.name)
                now = await self._job_runs.now(connection)
                if not is_alone or self._is_noted_elsewhere(run.state(now)):
                    return Result("skipped", run)
                if not (is_by_hand or schedule is None or _has_work(schedule, run, now)):
                    return Result("skipped", run)
                run = await self._job_runs.begin(connection, run, self._most_seconds)
            return await self._work_and_note(job, self._tick(run, now))

    def _is_noted_elsewhere(self, state: str) -> bool:
        """Whoever has PostgreSQL's lock knows that a run which seems to be under way has lost its worker."""
        return state == "running" and self._engine.dialect.name == "sqlite"

    def _tick(self, run: JobRun, now: datetime) -> Tick:
        stop_at = time.monotonic() + self._tick_seconds
        return Tick(
            engine=self._engine,
            settings=self._settings,
            run=run,
            now=now,
            limit_seconds=self._limit_seconds,
            has_time=lambda: time.monotonic() < stop_at and not self._is_stopping(),
            summary=dict(run.summary),
            app=self._app,
        )

    async def _work_and_note(self, job: Job, tick: Tick) -> Result:
        is_finished, error = True, None
        try:
            is_finished = await self._do(job, tick)
        except ExecutionLoggerError as reason:
            error = str(reason)
        async with self._transaction() as connection:
            if not is_finished:
                return Result("unfinished", await self._job_runs.pause(connection, tick.run, tick.summary))
            run = await self._job_runs.finish(connection, tick.run, tick.summary, error)
        return Result("succeeded" if error is None else "failed", run)

    async def _do(self, job: Job, tick: Tick) -> bool:
        try:
            async with asyncio.timeout(self._limit_seconds) as limit:
                return await self._work[job.name](tick)
        except ExecutionLoggerError:
            raise
        except Exception as error:
            if limit.expired():
                raise JobError(f"a tick of it took longer than {self._limit_seconds:g} s") from error
            logger.exception("job %s: unexpected error", job.name)
            raise JobError(f"{type(error).__name__}: {error}") from error

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        timeout_seconds = self._settings.database_timeout_seconds
        async with attempt(self._engine, timeout_seconds), transaction(self._engine) as connection:
            yield connection


def most_seconds(settings: Settings) -> float:
    """The longest that a tick takes: to lock, and to note its beginning and its end, take statements, too."""
    return time_limit_seconds(settings) * _LIMIT_SHARE + 3 * settings.database_timeout_seconds


def time_limit_seconds(settings: Settings) -> float:
    """Celery ends a task, or takes it for lost, after this."""
    limits = (settings.visibility_timeout_seconds, settings.task_soft_time_limit, settings.task_time_limit)
    return min(limit for limit in limits if limit is not None)


def _has_work(schedule: ZonedCrontab, run: JobRun, now: datetime) -> bool:
    """Whether it is due, or was not finished."""
    return run.started_at is None or run.finished_at is None or is_due(schedule, run.started_at, now)


async def run_tick(settings: Settings, job: Job, is_stopping: Callable[[], bool], app: Any = None) -> Result:
    """Run a tick over connections of its own: a child of a prefork pool has a single one for batches.

    Raises:
        StoreUnavailableError: the database cannot be used now, so nothing could be noted either.
    """
    engine = create_engine(settings, pool_size=CONNECTIONS)
    try:
        return await Runner(engine, settings, is_stopping, app=app).run(job)
    finally:
        await engine.dispose()
