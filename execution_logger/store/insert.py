"""The one statement that stores a batch, made to fit the table."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Self

import msgspec
from sqlalchemy import Column, DateTime, Dialect, Enum, TextClause, Uuid, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.entry.changes import CHANGED
from execution_logger.levels import LEVEL_NAMES, LEVELS
from execution_logger.settings import time_zone
from execution_logger.store.schema import storable
from execution_logger.store.sql import statement
from execution_logger.store.table import LogTable

_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class EntryArray:
    """The entries of a batch, together and one by one.

    Attributes:
        text: the whole array, as every database takes it.
        entries: each entry, not yet copied out of the text.
    """

    text: str
    entries: Sequence[msgspec.Raw | str]

    @classmethod
    def read(cls, batch: object) -> Self:
        """Take a batch apart.

        Raises:
            TypeError, ValueError, RecursionError: it is no JSON array.
        """
        if not isinstance(batch, str):
            raise TypeError(f"{type(batch).__name__} instead of a text")
        try:
            # The decoder takes neither NUL nor lone surrogates: the text can be passed on as it is.
            return cls(batch, _decode(batch))
        except (msgspec.DecodeError, UnicodeEncodeError):
            return cls._read_leniently(storable(batch))

    @classmethod
    def _read_leniently(cls, text: str) -> Self:
        try:
            return cls(text, _decode(text))
        except msgspec.DecodeError:
            # Python's decoder takes NaN and lone surrogates too: such an entry goes alone then.
            items = json.loads(text, strict=False)
        if not isinstance(items, list):
            raise TypeError(f"{type(items).__name__} instead of an array")
        entries = [json.dumps(item) for item in items]
        return cls(join(entries), entries)

    def texts(self) -> list[str]:
        """Each entry, byte for byte."""
        return [entry if isinstance(entry, str) else bytes(entry).decode() for entry in self.entries]


def join(entries: Iterable[str]) -> str:
    """Encoded entries as one array."""
    return f"[{','.join(entries)}]"


_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
_LOCAL_TIME = "execution_logger_local_time"
_EMPTY = {
    **dict.fromkeys(("roadmap_id", "concept_id", "step", "agent_name"), "''"),
    "details": "'{}'",
    "duration_ms": "0",
}
"""What is stored for an absent field where a host's column allows no NULL."""


class UnreadRowsError(Exception):
    """Entries are no rows of the table, or several: a trigger has it so."""

    sqlstate = "23000"  # refused as by a constraint

    def __init__(self, triggers: Sequence[str]) -> None:
        super().__init__(
            f"the trigger {', '.join(triggers)} takes entries elsewhere, or stores them twice: "
            "let that leave one row of each in the table, "
            "or name the one that it fills in EXECUTION_LOGGER_TABLE"
        )


async def insert_entries(connection: AsyncConnection, table: LogTable, entries: str) -> int:
    """Store a batch, in the connection's transaction.

    Where the table has triggers, each entry has to be one row after that.

    Args:
        connection: to PostgreSQL or SQLite; a host's own one will do. With triggers it has to be in a
            transaction, which is then rolled back after an error.
        table: what `look_up_table` says of the table.
        entries: a JSON array of encoded entries.

    Returns:
        How many rows are new; the others had been stored before.

    Raises:
        sqlalchemy.exc.DBAPIError: and nothing is stored; of an UnreadRowsError, once it is rolled back.
    """
    if connection.dialect.name == "sqlite" and _LOCAL_TIME not in connection.info:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.create_function(_LOCAL_TIME, 2, _local_time, deterministic=True)
        connection.info[_LOCAL_TIME] = True
    insert, values = _statement(table, connection.dialect), {"entries": entries}
    if not table.triggers:
        return (await connection.execute(insert, values)).rowcount
    # Of what a trigger has put into another table the database says nothing.
    count = _unread_statement(table, connection.dialect)
    new: int = (await connection.execute(count, values)).scalar_one()
    if new:
        await connection.execute(insert, values)
        if (await connection.execute(count, values)).scalar_one():
            raise IntegrityError(None, None, UnreadRowsError(table.triggers))
    return new


@lru_cache(maxsize=16)
def _statement(table: LogTable, dialect: Dialect) -> TextClause:
    return text(entries_statement(table, dialect))


@lru_cache(maxsize=16)
def _unread_statement(table: LogTable, dialect: Dialect) -> TextClause:
    return text(f"SELECT count(*) FROM ({_unread(table, dialect)}) AS unread")  # noqa: S608


def entries_statement(table: LogTable, dialect: Dialect) -> str:
    """The statement as text; its one parameter is the JSON array `:entries`."""
    return statement(
        "insert_entries",
        dialect,
        table=table.table,
        columns=", ".join(table.columns),
        # A trigger is not to see once more what it may have taken elsewhere.
        entries=_unread(table, dialect) if table.triggers else _entries(table, dialect),
        key=", ".join(table.key),
    )


def _entries(table: LogTable, dialect: Dialect) -> str:
    value = _postgresql_value if dialect.name == "postgresql" else _sqlite_value
    values = (
        f"{_not_null(column, value(column, table))} AS {field}" for field, column in table.columns.items()
    )
    return statement(f"entries.{dialect.name}", dialect, json=_json(table), values=",\n    ".join(values))


def _unread(table: LogTable, dialect: Dialect) -> str:
    return statement(
        "unread_entries",
        dialect,
        table=table.table,
        columns=", ".join(table.columns),
        entries=_entries(table, dialect),
        same=" AND ".join(f"known.{field} = entry.{field}" for field in table.key),
    )


def _json(table: LogTable) -> str:
    """PostgreSQL's type to read the array as: with `jsonb` details are not parsed once more."""
    return "jsonb" if isinstance(table.columns["details"].type, postgresql.JSONB) else "json"


def _not_null(column: Column[object], value: str) -> str:
    if column.nullable or column.name not in _EMPTY or isinstance(column.type, Enum | Uuid):
        return value
    return f"coalesce({value}, {_EMPTY[column.name]})"


def _postgresql_value(column: Column[object], table: LogTable) -> str:
    """The field as the column's type; a cast to VARCHAR(n) cuts the text to fit."""
    field, kind = column.name, column.type.compile(_POSTGRESQL)
    if isinstance(column.type, DateTime) and not column.type.timezone:
        return f"{field} AT TIME ZONE '{table.zone.key}'"
    if field == "level":
        field = _level(column, table)
    if isinstance(column.type, Enum):
        # Labels are often the names of a Python enum's members: 'INFO' for 'info'.
        labels = f"unnest(enum_range(CAST(NULL AS {kind}))) AS label"
        same = f"lower(CAST(label AS text)) = lower({field})"
        best = f"{same} ORDER BY CAST(label AS text) = {field} DESC LIMIT 1"
        return f"coalesce((SELECT label FROM {labels} WHERE {best}), CAST({field} AS {kind}))"  # noqa: S608
    if field == "details" and (table.limits or table.missing):
        return _postgresql_details(table, kind)
    if field == "id" and table.has_hex_ids:
        return f"replace(CAST({field} AS text), '-', '')"
    return f"CAST({field} AS {kind})"


def _level(column: Column[object], table: LogTable) -> str:
    """The level, by the name that the column has for it; a critical one may have that of the gravest."""
    if isinstance(column.type, Enum):
        held = {label.lower() for label in column.type.enums}
    else:
        held = {name for name in LEVEL_NAMES if len(name) <= table.limits.get("level", len(name))}
    names = {name: _level_name(level, held) for name, level in LEVEL_NAMES.items() if name not in held}
    whens = " ".join(f"WHEN '{name}' THEN '{other}'" for name, other in names.items() if other)
    return f"(CASE lower(level) {whens} ELSE level END)" if whens else "level"


def _level_name(level: str, held: set[str]) -> str | None:
    levels = LEVELS[::-1] if level == LEVELS[-1] else (level,)
    names = (name for each in levels for name, known in LEVEL_NAMES.items() if known == each)
    return next((name for name in names if name in held), None)


def _postgresql_details(table: LogTable, kind: str) -> str:
    """The details with what the other columns have no room for.

    A text that is cut is kept whole among the changes. A field without a column is added under
    its name, or among the changes where the details have such a key already.
    """
    cut = {field: f"length({field}) > {limit}" for field, limit in table.limits.items()}
    taken = {field: f"details -> '{field}' IS NOT NULL" for field in table.missing}
    changes = f"jsonb_strip_nulls(jsonb_build_object({_pairs(cut | taken)}))"
    changes = f"nullif(coalesce(CAST(details -> '{CHANGED}' AS jsonb), '{{}}') || {changes}, '{{}}')"
    added = f"jsonb_build_object({_pairs(_unless(taken))}) || jsonb_build_object('{CHANGED}', {changes})"
    needed = " OR ".join([*cut.values(), *(f"{field} IS NOT NULL" for field in table.missing)])
    whole = f"coalesce(CAST(details AS jsonb), '{{}}') || jsonb_strip_nulls({added})"
    return f"CASE WHEN {needed} THEN CAST({whole} AS {kind}) ELSE CAST(details AS {kind}) END"


def _sqlite_value(column: Column[object], table: LogTable) -> str:
    """The field as SQLAlchemy stores it: SQLite has no type for times, and no limit on texts."""
    if column.name == "created_at":
        return f"{_LOCAL_TIME}(created_at, '{table.zone.key}')"
    if column.name == "details" and table.missing:
        return _sqlite_details(table)
    return "replace(id, '-', '')" if column.name == "id" and table.has_hex_ids else column.name


def _sqlite_details(table: LogTable) -> str:
    """As `_postgresql_details`; a patch to an empty object leaves the nulls out."""
    taken = {field: f"json_type(details, '$.{field}') IS NOT NULL" for field in table.missing}
    changes = f"nullif(json_patch('{{}}', json_object({_pairs(taken)})), '{{}}')"
    added = f"json_patch('{{}}', json_object({_pairs(_unless(taken))}, '{CHANGED}', json({changes})))"
    needed = " OR ".join(f"{field} IS NOT NULL" for field in table.missing)
    return f"CASE WHEN {needed} THEN json_patch(coalesce(details, '{{}}'), {added}) ELSE details END"


def _pairs(conditions: Mapping[str, str]) -> str:
    """Names and values for a JSON object: a field whose condition is not met is null."""
    return ", ".join(f"'{field}', CASE WHEN {met} THEN {field} END" for field, met in conditions.items())


def _unless(conditions: Mapping[str, str]) -> dict[str, str]:
    return {field: f"NOT ({met})" for field, met in conditions.items()}


def _local_time(moment: object, zone: str) -> str | None:
    """The text that SQLAlchemy stores for `moment`; None for what is no moment, and that is refused."""
    try:
        aware = datetime.fromisoformat(str(moment)).astimezone(time_zone(zone))
    except (ValueError, OverflowError):
        return None
    return aware.replace(tzinfo=None).isoformat(" ", "microseconds")
