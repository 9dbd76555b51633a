"""Moments in the library's own tables: in UTC, on databases with time zones and without."""

import json
import re
from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """An aware time. SQLite keeps it without its time zone, which is UTC then."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What it is in Python."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Bring what is written to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Bring what is read to UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


_MAX_BATCH_ID_CHARS = 255


def storable(text: str) -> str:
    """The text as every database takes it: lone surrogates and NUL become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")


def escape(text: str) -> str:
    """The text in ASCII, for a database of any encoding; JSON stays the same JSON."""
    return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)


def batch_key(batch_id: str) -> str:
    """What a batch is known by in the tables; a forged id may be any text."""
    return escape(storable(batch_id))[:_MAX_BATCH_ID_CHARS]
