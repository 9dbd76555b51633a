"""The place of an entry among others: how a page of entries says where the next one begins."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from execution_logger.errors import ExecutionLoggerError
from execution_logger.store.schema import storable
from execution_logger.store.table import LogTable

EPOCH = datetime.fromtimestamp(0, UTC)
"""What stands for a time that cannot be read."""
MICROSECOND = timedelta(microseconds=1)
"""The smallest difference of two times in a database."""
_A_DAY = timedelta(days=1)  # no local time is further away from UTC


class UnknownPlaceError(ExecutionLoggerError):
    """This text is no place among the entries of this table."""


class Place(NamedTuple):
    """Where an entry is in the order of time.

    Attributes:
        created_at: the entry's, in UTC.
        id: the entry's, or of a list of runs the run's name; it decides between entries of the same time.
    """

    created_at: datetime
    id: str

    def to_token(self) -> str:
        """The place as a text that may stand in a URL."""
        return urlsafe_b64encode(f"{micros(self.created_at)} {self.id}".encode()).decode().rstrip("=")

    @classmethod
    def from_token(cls, token: str) -> Self:
        """The place that a text of `to_token` means.

        Raises:
            UnknownPlaceError: it is no such text.
        """
        try:
            number, _, id_ = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition(" ")
            moment = moment_of(int(number))
            _ = moment - _A_DAY, moment + _A_DAY  # a table may have local times
        except (ValueError, OverflowError, binascii.Error):
            raise UnknownPlaceError(f"{token[:80]!r} is no place that was given here") from None
        return cls(moment, storable(id_))

    def after(self, table: LogTable, task_id: str | None) -> sa.ColumnElement[bool]:
        """The condition that an entry of this run, or of any, comes later."""
        return _columns(table, task_id) > self._values(table, task_id)

    def before(self, table: LogTable, task_id: str | None) -> sa.ColumnElement[bool]:
        """The condition that it comes earlier."""
        return _columns(table, task_id) < self._values(table, task_id)

    def up_to(self, table: LogTable, task_id: str | None) -> sa.ColumnElement[bool]:
        """The condition that it is the one at this place, or comes earlier."""
        return _columns(table, task_id) <= self._values(table, task_id)

    def _values(self, table: LogTable, task_id: str | None) -> sa.Tuple:
        values: dict[str, Any] = {} if task_id is None else {"task_id": table.run_value(task_id)}
        try:
            values |= {"created_at": table.from_utc(self.created_at), "id": table.id_value(self.id)}
        except ValueError:
            raise UnknownPlaceError(f"{self.id!r} is no id of this table") from None
        return sa.tuple_(*(sa.literal(value, table.columns[name].type) for name, value in values.items()))


def _columns(table: LogTable, task_id: str | None) -> sa.Tuple:
    # With the run's name in front the database begins to read the index right at this place.
    names = ("created_at", "id") if task_id is None else ("task_id", "created_at", "id")
    return sa.tuple_(*(table.columns[name] for name in names))


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def moment_of(number: int) -> datetime:
    """The moment so many microseconds after 1970, in UTC."""
    return EPOCH + number * MICROSECOND
