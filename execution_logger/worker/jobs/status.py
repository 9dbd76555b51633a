"""What is known of the jobs, for those who operate them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.faults import attempt
from execution_logger.store.job_runs import JobRun, JobRuns, State
from execution_logger.worker.jobs.job import JOBS, Job
from execution_logger.worker.jobs.schedule import ZonedCrontab, schedule_of

GRACE = timedelta(minutes=10)
"""From the time at which a job is due to that at which it is late."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job, and what became of its last run. Times are in UTC.

    Attributes:
        name: of the job.
        meaning: what it does.
        schedule: as in a crontab; None when it is off.
        state: `never`, `running`, `interrupted`, `succeeded` or `failed`.
        started_at: of the last run.
        finished_at: of the last run, None while it is under way.
        succeeded_at: when it last did what it is for.
        duration_seconds: of the last run.
        summary: what it did.
        error: why it failed.
        next_at: when it is due next; in the past when it is late.
        is_missed: whether it should be run again at once: it is late, or its worker was lost.
        problem: what is wrong, in a sentence; None when all is well.
        past_runs: the last twenty, newest first.
    """

    name: str
    meaning: str
    schedule: str | None
    state: State
    started_at: datetime | None
    finished_at: datetime | None
    succeeded_at: datetime | None
    duration_seconds: float | None
    summary: Mapping[str, Any]
    error: str | None
    next_at: datetime | None
    is_missed: bool
    problem: str | None
    past_runs: Sequence[Mapping[str, Any]]


async def read_jobs(engine: AsyncEngine, settings: Settings) -> list[JobStatus]:
    """All jobs, in the order in which they are listed.

    Raises:
        StoreUnavailableError: the database cannot be used now, or lacks the table.
        SettingsError: a schedule is no crontab entry.
    """
    async with attempt(engine, settings.database_timeout_seconds), engine.connect() as connection:
        return await job_statuses(connection, settings)


async def job_statuses(connection: AsyncConnection, settings: Settings) -> list[JobStatus]:
    """The same, over a connection.

    Raises:
        sqlalchemy.exc.DBAPIError: the database cannot be used now, or lacks the table.
    """
    job_runs = JobRuns(settings)
    now = await job_runs.now(connection)
    runs = {name: JobRun.never(name, now) for name in JOBS}
    runs |= {run.name: run for run in await job_runs.all(connection)}
    return [_status(job, schedule_of(settings, job), runs[job.name], now) for job in JOBS.values()]


def _status(job: Job, schedule: ZonedCrontab | None, run: JobRun, now: datetime) -> JobStatus:
    state = run.state(now)
    next_at = schedule.next_after(run.started_at or run.known_since) if schedule else None
    is_late = next_at is not None and next_at + GRACE < now and state != "running"
    return JobStatus(
        name=job.name,
        meaning=job.meaning,
        schedule=schedule.text if schedule else None,
        state=state,
        started_at=run.started_at,
        finished_at=run.finished_at,
        succeeded_at=run.succeeded_at,
        duration_seconds=run.duration_seconds,
        summary=run.summary,
        error=run.error,
        next_at=next_at,
        is_missed=is_late or state == "interrupted",
        problem=_problem(state, run, next_at if is_late else None),
        past_runs=run.past_runs,
    )


def _problem(state: State, run: JobRun, late_since: datetime | None) -> str | None:
    if late_since is not None:
        return f"it is late since {late_since:%Y-%m-%d %H:%M} UTC: do Beat and a worker run?"
    if state == "failed":
        return f"it failed: {run.error}"
    if state == "interrupted":
        return "it was interrupted, or its worker was lost; the health check sends it again"
    return None
