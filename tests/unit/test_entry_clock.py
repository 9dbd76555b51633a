"""Entries are in the order of their calls, whatever the wall clock does."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from children import run_script
from execution_logger.entry.encoder import entry_clock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def showing(*seconds: float) -> Callable[[], datetime]:
    """A wall clock that shows these seconds after noon, one at each look."""
    times = iter(seconds)
    return lambda: NOON + timedelta(seconds=next(times))


def test_it_shows_the_wall_clock() -> None:
    """As long as that goes forward, nothing is added."""
    clock = entry_clock(showing(0, 1, 2.5))
    assert [clock(), clock()] == [NOON + timedelta(seconds=1), NOON + timedelta(seconds=2.5)]


def test_it_is_utc() -> None:
    """The time of an entry is the same moment on every machine."""
    before = datetime.now(UTC)
    now = entry_clock()()
    assert now.tzinfo is UTC
    assert before <= now <= datetime.now(UTC) + MICROSECOND


def test_a_clock_that_stands_still_gives_every_entry_its_own_microsecond() -> None:
    """Two calls within one microsecond stay in their order."""
    clock = entry_clock(showing(0, 0, 0, 0))
    assert [clock() - NOON for _ in range(3)] == [MICROSECOND, 2 * MICROSECOND, 3 * MICROSECOND]


def test_a_clock_that_is_set_back_changes_no_order() -> None:
    """Time goes on in microseconds until the wall clock has caught up."""
    clock = entry_clock(showing(0, 10, -3600, -3599, 11))
    ten = NOON + timedelta(seconds=10)
    assert [clock() for _ in range(4)] == [
        ten,
        ten + MICROSECOND,
        ten + 2 * MICROSECOND,
        NOON + timedelta(seconds=11),
    ]


@given(st.lists(st.integers(-5, 5), min_size=2))
def test_it_never_stands_still_and_never_goes_back(microseconds: list[int]) -> None:
    """Whatever the wall clock shows."""
    times = iter([0, *microseconds])
    clock = entry_clock(lambda: NOON + next(times) * MICROSECOND)
    assert all(earlier < later for earlier, later in pairwise(clock() for _ in microseconds))


def test_utc_needs_no_time_zone_database() -> None:
    """Small images and frozen programs have none; zones with another name are refused there."""
    output = run_script(
        """
        import sys, zoneinfo
        sys.modules["tzdata"] = None
        zoneinfo.reset_tzpath([])
        from datetime import UTC, datetime, timedelta
        from execution_logger import Settings, SettingsError
        from execution_logger.settings import time_zone
        from execution_logger.worker.schedule import ZonedCrontab
        Settings.from_environment({})
        zone = time_zone("UTC")
        noon = datetime(2026, 7, 1, 12, tzinfo=zone)
        print(zone.key, noon.utcoffset() == timedelta(0), noon.astimezone(UTC).hour, noon.tzname())
        print(ZonedCrontab("0 13 * * *", "UTC").next_after(noon))
        try:
            Settings(time_zone="Asia/Shanghai")
        except SettingsError as error:
            print(error)
        """
    )
    *said, refused = output.splitlines()
    assert said == ["UTC True 12 UTC", "2026-07-01 13:00:00+00:00"]
    assert refused == (
        "EXECUTION_LOGGER_TIME_ZONE='Asia/Shanghai': must be a time zone's name such as Asia/Shanghai; "
        "Python without a time zone database needs tzdata"
    )
