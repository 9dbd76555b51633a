"""A job: what is done again and again, in slices that are short enough for a message."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from execution_logger.errors import ExecutionLoggerError
from execution_logger.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from execution_logger.store.job_runs import JobRun


class JobError(ExecutionLoggerError):
    """A job could not do what it is for."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job.

    Attributes:
        name: its row's, and that on the command line.
        task: the Celery task.
        meaning: what it does, for people.
        setting: of its schedule.
        expires_seconds: after which a message that no worker has taken is dropped.
    """

    name: str
    task: str
    meaning: str
    setting: str
    expires_seconds: int


HEALTH = Job(
    "health",
    "execution_logger.check_health",
    "looks at the broker, the database and the other jobs",
    "schedule_health",
    3_600,
)
STATISTICS = Job(
    "statistics",
    "execution_logger.roll_up_statistics",
    "counts the entries of each hour",
    "schedule_statistics",
    3_600,
)
RETENTION = Job(
    "retention",
    "execution_logger.delete_expired",
    "deletes entries that are too old",
    "schedule_retention",
    6 * 3_600,
)
REPORT = Job(
    "report",
    "execution_logger.send_report",
    "sums up the week",
    "schedule_report",
    6 * 3_600,
)

JOBS = {job.name: job for job in (HEALTH, STATISTICS, RETENTION, REPORT)}
"""By name."""


@dataclass(slots=True)
class Slice:
    """What a job is given for a slice of its run.

    Attributes:
        engine: to the database.
        settings: of the worker.
        run: as it was noted down when the slice began.
        now: when the slice began, by the clock of the database, in UTC.
        limit_seconds: after which the slice is cut off.
        has_time: whether to go on; otherwise the job returns, and the next slice is given its summary.
        summary: what was done so far, for people and for the next slice; of what JSON knows.
    """

    engine: "AsyncEngine"
    settings: Settings
    run: "JobRun"
    now: datetime
    limit_seconds: float
    has_time: Callable[[], bool]
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def started_at(self) -> datetime:
        """When the run began, which is the same in all its slices."""
        return self.run.started_at or self.now


Work = Callable[[Slice], Awaitable[bool]]
"""Does a slice of a job, and returns whether the run is finished."""
