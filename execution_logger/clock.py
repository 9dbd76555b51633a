"""The time of entries: UTC, never standing still and never going back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

_MICROSECOND = timedelta(microseconds=1)
_utc_now = partial(datetime.now, UTC)


class EntryClock:
    """Gives every call its own microsecond, in the order of the calls.

    Rows are read back in the order of `created_at`. Two calls within one microsecond, or a wall
    clock that NTP sets back, would swap them: such a call gets the time of the one before plus
    one microsecond.
    """

    __slots__ = ("_last", "_now")

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._last = now()

    def __call__(self) -> datetime:
        """The time of the next entry: aware, UTC, later than the one given before."""
        # No lock: calls that race have no order to keep, and a lock would cost as much as the
        # rest, could be held at a fork, and could meet a signal handler that logs.
        now = self._now()
        if now <= self._last:
            now = self._last + _MICROSECOND
        self._last = now
        return now
