"""The schedule: when which job is due, and what Beat is given."""

import json
import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from celery import Celery
from celery.beat import Scheduler

from execution_logger import Settings, SettingsError
from execution_logger.broker.message import problem_of
from execution_logger.worker import beat_schedule, create_app
from execution_logger.worker.schedule import JOBS, RETENTION, ZonedCrontab, is_due, schedule_of
from memory_broker import MemoryBroker

NIGHTLY = ZonedCrontab("17 3 * * *", "UTC")
SUNDAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "due_at"),
    [
        ("17 3 * * *", "UTC", "2026-11-23T03:17:00+00:00"),
        ("17 3 * * *", "Asia/Shanghai", "2026-11-22T19:17:00+00:00"),
        ("*/5 * * * *", "UTC", "2026-11-22T12:05:00+00:00"),
        ("30 6 * * mon", "UTC", "2026-11-23T06:30:00+00:00"),
        ("0 0 1 1 *", "UTC", "2027-01-01T00:00:00+00:00"),
        ("30 2 29 mar *", "Europe/Berlin", "2027-03-29T00:30:00+00:00"),
        ("0 0 29 2 mon", "UTC", "2044-02-29T00:00:00+00:00"),
        # Clocks leave this out.
        ("30 2 28 mar *", "Europe/Berlin", "2027-03-28T01:30:00+00:00"),
    ],
)
def test_the_next_time_is_that_of_the_zone(text: str, zone: str, due_at: str) -> None:
    """Whatever the time zone of the machine is."""
    assert ZonedCrontab(text, zone).next_after(SUNDAY).isoformat() == due_at


def test_a_time_that_clocks_repeat_is_one() -> None:
    """A job that cleans up at night does so once, in that night as well."""
    schedule = ZonedCrontab("30 2 * * *", "Europe/Berlin")
    due_at = schedule.next_after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert due_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    between = due_at + timedelta(minutes=40)
    assert (
        schedule.next_after(due_at)
        == schedule.next_after(between)
        == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    )


def test_the_zone_is_not_that_of_the_application() -> None:
    """A host's Celery may have any; Beat asks the same question as we do."""
    app = Celery("host", set_as_current=False)
    app.conf.timezone = "America/New_York"
    schedule = ZonedCrontab("0 12 * * *", "Asia/Shanghai")
    schedule.app = app
    last = datetime.now(UTC) - timedelta(days=2)
    assert schedule.is_due(last).is_due
    remaining_seconds = schedule.is_due(datetime.now(UTC)).next
    due_at = datetime.now(UTC) + timedelta(seconds=remaining_seconds)
    assert abs(due_at - schedule.next_after(datetime.now(UTC))) < timedelta(seconds=5)
    assert due_at.astimezone(schedule.tz).hour in (11, 12)
    app.close()


@pytest.mark.parametrize("text", ["off", "OFF", "", " "])
def test_a_job_can_be_switched_off(text: str) -> None:
    """A word, because an empty variable is an unset one."""
    settings = Settings(schedule_retention=text)
    assert schedule_of(settings, RETENTION) is None
    assert "execution_logger.retention" not in beat_schedule(settings)


@pytest.mark.parametrize("text", ["soon", "* * * *", "61 * * * *", "* * * * 8", "a b c d e", "0 0 30 2 *"])
def test_a_wrong_schedule_is_said_at_the_start(text: str) -> None:
    """With the variable, the value, and what is allowed."""
    with pytest.raises(SettingsError, match=r"_SCHEDULE_RETENTION='.*': must be off, or a crontab"):
        create_app(Settings(database_url="sqlite:///unused.db", schedule_retention=text))


def test_a_host_takes_the_entries_into_its_own_beat(broker: MemoryBroker) -> None:
    """Whose scheduler keeps them in a file, and compares what it has with what it is given."""
    schedule = beat_schedule(Settings(queue="mine"))
    assert set(schedule) == {f"execution_logger.{name}" for name in JOBS}
    for entry in schedule.values():
        again = pickle.loads(pickle.dumps(entry["schedule"]))
        assert again == entry["schedule"]
        assert hash(again) == hash(entry["schedule"])
        assert entry["options"]["queue"] == "mine"
    assert (
        schedule["execution_logger.health"]["schedule"] != schedule["execution_logger.retention"]["schedule"]
    )


def test_what_beat_sends_is_no_malformed_message(broker: MemoryBroker) -> None:
    """The quarantine leaves it alone, and it expires."""
    settings = Settings(broker_url=broker.url, database_url="sqlite:///unused.db")
    app = create_app(settings)
    app.conf.beat_schedule = beat_schedule(settings)
    scheduler = Scheduler(app=app)
    for entry in scheduler.schedule.values():
        scheduler.apply_async(entry, advance=False)
    scheduler.close()
    messages = broker.queue()
    assert {message.headers["task"] for message in messages} >= {job.task for job in JOBS.values()}
    assert [problem for each in messages if (problem := problem_of(json.dumps(each.raw)))] == []
    expected = {job.task for job in JOBS.values()}
    assert {each.headers["task"] for each in messages if each.headers["expires"]} == expected
    app.close()


def test_beat_needs_no_file() -> None:
    """Nothing in the current folder, nothing that can be damaged: when a job ran is in the database."""
    app = create_app(Settings(database_url="sqlite:///unused.db"))
    assert app.conf.beat_scheduler == "execution_logger.worker.schedule:PatientScheduler"
    app.close()


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        ("2026-11-21T03:17:01", "2026-11-22T03:17:00", True),
        ("2026-11-22T03:17:01", "2026-11-22T03:17:02", False),
        # Another Beat's clock is behind or ahead.
        ("2026-11-22T03:16:50", "2026-11-22T03:17:00", False),
        ("2026-11-21T03:17:01", "2026-11-22T03:16:45", True),
        # It was missed.
        ("2026-11-20T03:17:01", "2026-11-22T12:00:00", True),
        ("2026-11-22T03:30:00", "2026-11-22T12:00:00", False),
    ],
)
def test_a_job_is_due_once_for_each_of_its_times(last: str, now: str, *, due: bool) -> None:
    """However many messages come, from however many Beats."""
    last_at, now_at = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (last, now))
    assert is_due(NIGHTLY, last_at, now_at) is due


def test_every_minute_is_possible() -> None:
    """The tolerance for clocks is half of that."""
    schedule = ZonedCrontab("* * * * *", "UTC")
    minutes = [SUNDAY + timedelta(minutes=n, seconds=1) for n in range(5)]
    assert all(is_due(schedule, last, now) for last, now in pairwise(minutes))
