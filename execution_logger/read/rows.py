"""Rows as entries: what a table holds, brought back into one form."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CHAR, Enum, Row, Select, select

from execution_logger.entry.entry import LogEntry, known_level
from execution_logger.store.details import kept_field
from execution_logger.store.table import TEXTS, LogTable

_EPOCH = datetime.fromtimestamp(0, UTC)


def select_entries(table: LogTable) -> Select[Any]:
    """The columns of all entries, newest first; `to_entry` reads the rows."""
    columns: list[Any] = list(table.columns.values())
    return select(*columns).order_by(table.columns["created_at"].desc(), table.columns["id"].desc())


def to_entry(table: LogTable, row: Row[Any]) -> LogEntry:
    """The entry that a row holds, in whichever types the host's table has."""
    values = dict(zip(table.columns, row, strict=True))
    details = _to_details(values["details"])
    values["id"] = _to_id(table, str(values["id"]))
    values["details"] = details
    values["created_at"] = to_utc(table, values["created_at"]) or _EPOCH
    for field in TEXTS:
        if field in values:
            values[field] = to_text(table, field, values[field])
    values |= {field: kept_field(details or {}, field) for field in table.missing}
    return LogEntry(**values)


def to_text(table: LogTable, field: str, value: object) -> str | None:
    """A text field as it was written, though a host may keep it as an enum, a UUID, or padded with blanks."""
    if value is None:
        return None
    kind, text = table.value(field).type, str(value)
    if isinstance(kind, Enum):
        text = text.lower()
    if isinstance(kind, CHAR):
        text = text.rstrip(" ")
    return known_level(text) if field == "level" else text


def to_utc(table: LogTable, moment: datetime | None) -> datetime | None:
    """A moment of the table's `created_at`, aware and in UTC."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=table.zone)
    return aware.astimezone(UTC)


def _to_id(table: LogTable, text: str) -> str:
    return str(UUID(hex=text)) if table.has_hex_ids else text


def _to_details(value: Any) -> dict[str, Any] | None:
    """The object; other JSON, which only a host itself can have stored, is wrapped into one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {"value": value}
    return value if isinstance(value, dict) or value is None else {"value": value}
