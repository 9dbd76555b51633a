"""The schedule: when Celery Beat sends which job, in a time zone of its own, and with patience."""

import time
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from functools import cached_property
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

from celery.beat import Scheduler, SchedulingError
from celery.schedules import ParseException, crontab
from kombu.exceptions import OperationalError

from execution_logger.broker.connection import Backoff
from execution_logger.diagnostics import logger
from execution_logger.errors import SettingsError
from execution_logger.settings import PREFIX, Settings, time_zone

OFF = ("off", "")

_LONGEST_PAUSE_SECONDS = 30.0

# Of the clocks of Beat, of the workers and of the database.
_TOLERANCE = timedelta(seconds=30)
_FIELDS = 5

# Eight minutes.
_RETRY_POLICY = {"max_retries": 20, "interval_start": 1, "interval_step": 5, "interval_max": 30}

OLD_REPORT_TASK = "execution_logger.send_report"
"""Of the weekly report that an earlier version made."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job.

    Attributes:
        name: its row's, and that on the command line.
        task: the Celery task.
        meaning: what it does, for people.
        expires_seconds: after which a message that no worker has taken is dropped.
    """

    name: str
    task: str
    meaning: str
    expires_seconds: int

    @property
    def setting(self) -> str:
        """Of its schedule."""
        return f"schedule_{self.name}"


HEALTH = Job(
    "health", "execution_logger.check_health", "looks at the broker, the database and the other jobs", 3_600
)
STATISTICS = Job(
    "statistics", "execution_logger.roll_up_statistics", "counts the entries of each hour", 3_600
)
RETENTION = Job("retention", "execution_logger.delete_expired", "deletes entries that are too old", 6 * 3_600)

JOBS = {job.name: job for job in (HEALTH, STATISTICS, RETENTION)}
"""By name."""


def _longest(month: int) -> int:
    """The days of a month, in a leap year."""
    return monthrange(2024, month)[1]


class ZonedCrontab(crontab):  # type: ignore[misc] # Celery has no types
    """A crontab entry in a time zone of its own; Celery's are in that of their application.

    Raises:
        ValueError: it is no crontab entry.
    """

    def __init__(self, text: str, zone: str) -> None:
        words = text.split()
        if len(words) != _FIELDS:
            raise ValueError(f"{len(words)} fields instead of {_FIELDS}")
        minute, hour, day_of_month, month_of_year, day_of_week = words
        try:
            super().__init__(minute, hour, day_of_week, day_of_month, month_of_year)
        except (ParseException, KeyError, TypeError) as error:
            raise ValueError(str(error)) from error
        if min(self.day_of_month) > max(map(_longest, self.month_of_year)):
            raise ValueError(f"month {month_of_year} has no day {day_of_month}")
        self.text = text
        self.zone = zone

    @cached_property
    def tz(self) -> ZoneInfo:
        """The time zone."""
        return time_zone(self.zone)

    def now(self) -> datetime:
        """The time in it."""
        return datetime.now(self.tz)

    def next_after(self, moment: datetime) -> datetime:
        """When it is due next after this moment (aware), in UTC.

        A time that clocks leave out is as much later; of one that they repeat, the first counts. Celery's
        answer depends on its version: before 5.7 it is wrong for a moment of another day or zone.
        """
        return next(due_at for due_at in self._times(moment.astimezone(self.tz).date()) if due_at > moment)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """What Beat asks: how long until it is due next after this moment; negative when it is late."""
        return self.next_after(self.maybe_make_aware(last_run_at)) - self.now()

    def _times(self, day: date) -> Iterator[datetime]:
        """When it is due on this day and later, in UTC."""
        while True:
            if self._is_on(day):
                for hour, minute in product(sorted(self.hour), sorted(self.minute)):
                    yield datetime.combine(day, clock(hour, minute), self.tz).astimezone(UTC)
            day += timedelta(days=1)

    def _is_on(self, day: date) -> bool:
        return (
            day.month in self.month_of_year
            and day.day in self.day_of_month
            and day.isoweekday() % 7 in self.day_of_week
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZonedCrontab) and (other.text, other.zone) == (self.text, self.zone)

    def __hash__(self) -> int:
        return hash((self.text, self.zone))

    def __reduce__(self) -> Any:
        # Beat keeps its entries in a file.
        return type(self), (self.text, self.zone)


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """The entries for Celery's `beat_schedule`, to be merged into that of any application.

    The application whose worker runs the jobs has them from `register_tasks`; the one that Beat runs
    with needs to know nothing but these entries.

    Raises:
        SettingsError: a schedule is no crontab entry.
    """
    schedules = {job: schedule_of(settings, job) for job in JOBS.values()}
    return {
        f"execution_logger.{job.name}": {
            "task": job.task,
            "schedule": schedule,
            "options": {
                "queue": settings.queue,
                # While no worker is there one message of each kind is enough.
                "expires": job.expires_seconds,
                "ignore_result": True,
                # A broker that is away for minutes must not cost the job of a day.
                "retry": True,
                "retry_policy": _RETRY_POLICY,
            },
        }
        for job, schedule in schedules.items()
        if schedule is not None
    }


def schedule_of(settings: Settings, job: Job) -> ZonedCrontab | None:
    """When a job is due; None when its schedule is off.

    Raises:
        SettingsError: the setting is no crontab entry.
    """
    text = getattr(settings, job.setting).strip().lower()
    if text in OFF:
        return None
    try:
        return ZonedCrontab(text, settings.schedule_time_zone)
    except ValueError as error:
        raise SettingsError(
            f"{PREFIX}{job.setting.upper()}={text!r}: must be off, or a crontab entry: minute, hour, day of "
            f"the month, month and day of the week, e.g. 17 3 * * * ({error})"
        ) from None


def is_due(schedule: ZonedCrontab, last_at: datetime, now: datetime) -> bool:
    """Whether it was due since `last_at`, give or take half a minute: clocks differ."""
    return schedule.next_after(last_at + _TOLERANCE) <= now + _TOLERANCE


class PatientScheduler(Scheduler):  # type: ignore[misc] # Celery has no types
    """Sends a job as soon as the broker takes it; Celery's own drops it until it is due again.

    Waiting here holds up nothing else, because nothing else could be sent either. It has no file: when
    each job ran last is in the database, which all Beats share and no restart forgets, and the health
    check sends what was missed.
    """

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **options: Any) -> Any:  # noqa: FBT001, FBT002 - Celery's signature
        """Send one job; return when it is sent."""
        backoff = Backoff(_LONGEST_PAUSE_SECONDS)
        while True:
            try:
                return super().apply_async(entry, producer=producer, advance=advance, **options)
            except SchedulingError as error:
                if _hides_an_exit(error):
                    raise SystemExit from error
                if not isinstance(error.__context__, OperationalError):
                    raise
                pause_seconds = backoff.next_pause_seconds()
                why = f"the next attempt is in {pause_seconds:.1f} s: {error.__context__}"
                logger.warning("job %s waits for the broker, %s", entry.name, why)
                time.sleep(pause_seconds)
                advance = False  # it is reserved already


def _hides_an_exit(error: BaseException | None) -> bool:
    """Whether Beat was told to end in the middle of sending, and what was being cleaned up there has failed.

    Its signal handler raises SystemExit; redis-py's parser, whose buffer is closed by then, a ValueError.
    """
    while error is not None and not isinstance(error, SystemExit):
        error = error.__context__
    return error is not None
