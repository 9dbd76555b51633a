"""The time of entries: UTC, never standing still and never going back. And the zones of others."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# A file of the time zone database (RFC 9636): no transitions, one type of local time, offset 0.
_UTC_FILE = b"TZif" + bytes(35) + b"\x01" + bytes(3) + b"\x04" + bytes(6) + b"UTC\0"
_MICROSECOND = timedelta(microseconds=1)
_utc_now = partial(datetime.now, UTC)


def entry_clock(now: Callable[[], datetime] = _utc_now) -> Callable[[], datetime]:
    """Make a clock that gives every call its own microsecond, in the order of the calls.

    Rows are read back in the order of `created_at`. Two calls within one microsecond, or a wall
    clock that NTP sets back, would swap them: such a call gets the time of the one before plus
    one microsecond.

    Returns:
        Tells the time of the next entry: aware, UTC, later than the one told before. A function and
        no object, because calling it is a tenth of what making an entry takes.
    """
    last = now()

    def tell() -> datetime:
        # No lock: calls that race have no order to keep, and a lock would cost as much as the
        # rest, could be held at a fork, and could meet a signal handler that logs.
        nonlocal last
        moment = now()
        if moment <= last:
            moment = last + _MICROSECOND
        last = moment
        return moment

    return tell


def time_zone(name: str) -> ZoneInfo:
    """The time zone of that name; UTC also where there is no time zone database.

    Small images, Windows and frozen programs have none.

    Raises:
        KeyError, ValueError, OSError: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        if name != "UTC":
            raise
        return ZoneInfo.from_file(BytesIO(_UTC_FILE), key="UTC")
