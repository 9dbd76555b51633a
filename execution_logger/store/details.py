"""The details of a row: they hold the fields for which a host's table has no column."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, String, Text, case, literal_column

from execution_logger.entry.changes import CHANGED
from execution_logger.entry.entry import MAX_DURATION_MS

_NUMBER = "duration_ms"


def kept_field(details: Mapping[str, Any], field: str) -> Any:
    """What the writer has put there for a field; among the changes where the caller had such a key."""
    if field not in details:
        return None
    changes = details.get(CHANGED)
    values = (changes.get(field) if isinstance(changes, dict) else None, details[field])
    return next((value for value in values if _is_of(field, value)), None)


def kept_value(column: Column[Any], dialect: str, field: str) -> ColumnElement[Any]:
    """The same in SQL, whatever else the host may have in the column."""
    select = _postgresql if dialect == "postgresql" else _sqlite
    if field != _NUMBER:
        return literal_column(select(column, field, is_number=False), Text())
    number: ColumnElement[Any] = literal_column(select(column, field, is_number=True), BigInteger())
    return case((number.between(0, MAX_DURATION_MS), number))


def _is_of(field: str, value: object) -> bool:
    if field != _NUMBER:
        return isinstance(value, str)
    return type(value) is int and 0 <= value <= MAX_DURATION_MS


def _postgresql(column: Column[Any], field: str, *, is_number: bool) -> str:
    name = column.name
    if isinstance(column.type, String):
        # A text that is no JSON would end the query.
        name = f"""CAST(CASE WHEN {name} LIKE '{{%"{field}"%}}' THEN {name} END AS json)"""
    value = _postgresql_number if is_number else _postgresql_text
    own, changed = f"({name} -> '{field}')", f"({name} -> '{CHANGED}' -> '{field}')"
    return f"CASE WHEN {own} IS NOT NULL THEN coalesce({value(changed)}, {value(own)}) END"


def _postgresql_number(value: str) -> str:
    text = f"CAST({value} AS text)"
    return f"CASE WHEN {text} ~ '^[0-9]{{1,10}}$' THEN CAST({text} AS bigint) END"


def _postgresql_text(value: str) -> str:
    return f"""CASE WHEN CAST({value} AS text) LIKE '"%' THEN {value} #>> '{{}}' END"""


def _sqlite(column: Column[Any], field: str, *, is_number: bool) -> str:
    name, kind = column.name, "integer" if is_number else "text"
    values = (
        f"CASE json_type({name}, '{path}') WHEN '{kind}' THEN json_extract({name}, '{path}') END"
        for path in (f"$.{CHANGED}.{field}", f"$.{field}")
    )
    # A text that is no JSON would end the query.
    conditions = f"WHEN NOT json_valid({name}) THEN NULL WHEN json_type({name}, '$.{field}') IS NOT NULL"
    return f"CASE {conditions} THEN coalesce({', '.join(values)}) END"
