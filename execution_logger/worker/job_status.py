"""What is known of the jobs, for those who operate them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.faults import attempt
from execution_logger.store.job_runs import JobRun, JobRuns, State
from execution_logger.worker.schedule import JOBS, Job, ZonedCrontab, schedule_of

GRACE = timedelta(minutes=10)
"""From the time at which a job is due to that at which it is late."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job, and what became of its last run.

    Attributes:
        job: which one.
        run: the last one.
        state: of that run.
        schedule: as in a crontab; None when it is off.
        next_at: when it is due next, in UTC; in the past when it is late.
        is_late: whether it is late, so that neither Beat nor the health check has sent it.
    """

    job: Job
    run: JobRun
    state: State
    schedule: str | None
    next_at: datetime | None
    is_late: bool

    @property
    def is_missed(self) -> bool:
        """Whether it should be sent at once: it is late, or has more to do."""
        return self.is_late or self.state == "unfinished"

    @property
    def problem(self) -> str | None:
        """What is wrong, in a sentence; None when all is well."""
        if self.is_late:
            return f"it is late since {self.next_at:%Y-%m-%d %H:%M} UTC: do Beat and a worker run?"
        return f"it failed: {self.run.error}" if self.state == "failed" else None


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
    runs = {run.name: run for run in await job_runs.all(connection)}
    return [
        _status(job, schedule_of(settings, job), runs.get(job.name) or JobRun.never(job.name, now), now)
        for job in JOBS.values()
    ]


def _status(job: Job, schedule: ZonedCrontab | None, run: JobRun, now: datetime) -> JobStatus:
    state = run.state(now)
    next_at = schedule.next_after(run.last_at) if schedule else None
    is_late = next_at is not None and next_at + GRACE < now and state != "running"
    return JobStatus(job, run, state, schedule.text if schedule else None, next_at, is_late)
