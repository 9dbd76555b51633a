"""The table that entries are in, as it really is: the library's own, or one that the host made."""

import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import DOMAIN, JSONB
from sqlalchemy.exc import NoSuchTableError, SAWarning
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import Pool
from sqlalchemy.types import TypeEngine

from execution_logger.entry.changes import CHANGED
from execution_logger.entry.entry import MAX_DURATION_MS, TREE
from execution_logger.errors import StoreUnavailableError
from execution_logger.levels import LEVEL_NAMES, known_level
from execution_logger.settings import Settings, time_zone
from execution_logger.store.faults import UPGRADE
from execution_logger.store.schema import schema_and_name
from execution_logger.store.sql import quoted, statement

TEXTS = ("task_id", "roadmap_id", "concept_id", "level", "category", "step", "agent_name", "message")
FIELDS = ("id", *TEXTS, "details", "duration_ms", "created_at", *TREE)
REQUIRED = ("id", "task_id", "level", "category", "message", "details", "created_at")
"""Fields that a table must have a column for. The others go to `details` where it has none."""

MARK = "created_at_is_readable"
"""A constraint of the table that `db upgrade` makes."""

_UUID_CHARS = 36
_HEX_UUID_CHARS = 32  # without dashes, as SQLAlchemy's `Uuid` has it on SQLite
_USABLE: Mapping[str, tuple[type[TypeEngine[Any]], ...]] = {
    **dict.fromkeys(("id", *TEXTS, "operation_id", "parent_id"), (sa.String, sa.Uuid)),
    **dict.fromkeys(("trace_id", "span_id"), (sa.String,)),
    "details": (sa.JSON, sa.String),
    "duration_ms": (sa.Integer, sa.Numeric, sa.Float),
    "created_at": (sa.DateTime,),
}
_PAIRS = (TREE[:2], TREE[2:])
_ID_CHARS = dict(zip(TREE, (_UUID_CHARS, _UUID_CHARS, 32, 16), strict=True))

_looked_up: "WeakKeyDictionary[Pool, dict[tuple[str, str], LogTable]]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class LogTable:
    """The table, and what is special about it.

    Attributes:
        table: as the database describes it, with columns that the library does not know.
        columns: the column of each field that has one.
        kept: the value of each field that has none, in the details.
        limits: most characters of a field that the database would refuse to store longer.
        key: the columns by which an entry that was stored already is recognised.
        triggers: those that see rows stored, and may take them elsewhere.
        zone: the time zone of a `created_at` without time zone.
        dialect: the database's: `postgresql` or `sqlite`.
    """

    table: sa.Table
    columns: Mapping[str, sa.Column[object]]
    kept: Mapping[str, sa.ColumnElement[Any]]
    limits: Mapping[str, int]
    key: tuple[str, ...]
    triggers: tuple[str, ...]
    zone: ZoneInfo
    dialect: str

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields that have no column."""
        return tuple(self.kept)

    def value(self, field: str) -> sa.ColumnElement[Any]:
        """A field, wherever it is kept."""
        return self.columns[field] if field in self.columns else self.kept[field]

    @property
    def has_hex_ids(self) -> bool:
        """Whether the ids are UUIDs without dashes."""
        return _length(self.columns["id"]) == _HEX_UUID_CHARS

    def id_value(self, id_: UUID | str) -> UUID | str:
        """An id as the column has it.

        Raises:
            ValueError: the column has UUIDs, and this text is none.
        """
        if isinstance(self.columns["id"].type, sa.Uuid):
            return id_ if isinstance(id_, UUID) else UUID(id_)
        return str(id_).replace("-", "") if self.has_hex_ids else str(id_)

    def id_text(self, value: object) -> str:
        """An id as the entry has it."""
        return str(UUID(hex=str(value))) if self.has_hex_ids else str(value)

    def run_value(self, task_id: Any) -> Any:
        """The name of a run as the column has it.

        Raises:
            ValueError: the column has UUIDs, and this text is none.
        """
        if not isinstance(task_id, str):
            return task_id
        if isinstance(self.columns["task_id"].type, sa.Uuid):
            return UUID(task_id)
        return task_id[: self.limits.get("task_id")]

    @property
    def is_own(self) -> bool:
        """Whether `db upgrade` has made it; it marks what it makes."""
        return any(each.name == MARK for each in self.table.constraints)

    def equals(self, field: str, value: str) -> sa.ColumnElement[bool]:
        """The condition that a text field was written as `value`, wherever it is kept."""
        if field not in self.columns:
            return self.kept[field] == value
        column = self.columns[field]
        if isinstance(column.type, sa.Enum):
            return sa.func.lower(sa.cast(column, sa.Text)) == value.lower()
        if isinstance(column.type, sa.Uuid):
            try:
                return column == UUID(value)
            except ValueError:
                return sa.false()
        return column == value[: self.limits.get(field)]

    def is_one_of(self, field: str, ids: Collection[str]) -> sa.ColumnElement[bool]:
        """The condition that an id of the tree is among these, however many: they are one parameter."""
        return sa.cast(self.value(field), sa.Text).in_(sa.select(self._items(sorted(ids))))

    def listed(self, field: str, values: Sequence[Any]) -> sa.Select[Any]:
        """The rows of a column `value` that hold these, in the field's type: they are one parameter."""
        value = self._items(list(map(str, values)))
        return sa.select(sa.cast(value, self.columns[field].type).label("value"))

    def _items(self, texts: Sequence[str]) -> sa.ColumnElement[Any]:
        items = sa.literal(json.dumps(texts), sa.Text)
        if self.dialect == "postgresql":
            each = sa.func.jsonb_array_elements_text(sa.cast(items, JSONB))
        else:
            each = sa.func.json_each(items)
        return each.table_valued("value").c.value

    def is_level(self, *levels: str, column: Any = None) -> sa.ColumnElement[bool]:
        """The condition that the level is one of these, by whichever name and in any case.

        Args:
            levels: the usual ones.
            column: where the level stands, if not in the table itself.
        """
        column = self.columns["level"] if column is None else column
        names = [name for name, level in LEVEL_NAMES.items() if level in levels]
        return sa.func.lower(sa.cast(column, sa.Text) if isinstance(column.type, sa.Enum) else column).in_(
            names
        )

    def made(
        self, since: datetime | None = None, until: datetime | None = None
    ) -> list[sa.ColumnElement[bool]]:
        """The conditions that an entry was made since a time, and before another one (both aware)."""
        created_at: sa.ColumnElement[Any] = self.columns["created_at"]
        conditions = [] if since is None else [created_at >= self.from_utc(since)]
        return conditions if until is None else [*conditions, created_at < self.from_utc(until)]

    def from_utc(self, moment: datetime) -> datetime:
        """A moment as the table's `created_at` is compared with."""
        if getattr(self.columns["created_at"].type, "timezone", False):
            return moment
        return moment.astimezone(self.zone).replace(tzinfo=None)

    def to_utc(self, moment: datetime | None) -> datetime | None:
        """A moment of the table's `created_at`, aware and in UTC."""
        if moment is None:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone)).astimezone(UTC)

    def to_text(self, field: str, value: object) -> str | None:
        """A text field as it was written; a host may keep it as an enum, a UUID, or padded with blanks."""
        if value is None:
            return None
        kind, text = self.value(field).type, str(value)
        if isinstance(kind, sa.Enum):
            text = text.lower()
        if isinstance(kind, sa.CHAR):
            text = text.rstrip(" ")
        return known_level(text) if field == "level" else text


async def look_up_table(connection: AsyncConnection, settings: Settings) -> LogTable:
    """Describe the table `settings.table`; the database is asked once per engine and process.

    Raises:
        StoreUnavailableError: it does not exist, or one of its columns cannot hold its field.
    """
    known = _looked_up.setdefault(connection.engine.pool, {})
    key = (settings.table, settings.time_zone)
    if key not in known:
        known[key] = await connection.run_sync(_describe, settings)
    return known[key]


def forget_tables(pool: Pool) -> None:
    """Ask the database again the next time: somebody may have changed its tables."""
    _looked_up.pop(pool, None)


def missing_rights(
    connection: sa.Connection, table: sa.FromClause, rights: Sequence[str], columns: Collection[str] = ()
) -> Sequence[str]:
    """Those of these rights that the connection's user has not on the table; SQLite has none.

    Args:
        connection: whose user is asked about.
        table: which one.
        rights: `SELECT` and so on.
        columns: on which of its columns; by default on all.
    """
    if connection.dialect.name != "postgresql":
        return ()
    name = connection.dialect.identifier_preparer.format_table(table)
    values = {"name": name, "rights": list(rights), "columns": list(columns or table.columns.keys())}
    question = text(statement("missing_rights.postgresql", connection.dialect))
    return connection.execute(question, values).scalars().all()


def _describe(connection: sa.Connection, settings: Settings) -> LogTable:
    schema, name = schema_and_name(settings.table)
    try:
        with warnings.catch_warnings():
            # Of columns and indexes that are no concern of ours.
            warnings.simplefilter("ignore", SAWarning)
            table = sa.Table(name, sa.MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
    except NoSuchTableError:
        raise StoreUnavailableError(f'Table "{settings.table}" does not exist. {UPGRADE}') from None
    traits = _traits(connection, table)
    columns = {field: _plain(table.c[field]) for field in FIELDS if field in table.c}
    # Nobody may write a generated column: its field goes to the details, as if there were none.
    columns = {field: column for field, column in columns.items() if column.computed is None}
    strange = [
        field for pair in _PAIRS if not all(_takes_ids(columns.get(each)) for each in pair) for field in pair
    ]
    columns = {field: column for field, column in columns.items() if field not in strange}
    keys = [names for names in traits["key"].values() if _recognises(names, columns)]
    problem = next(_problems(table, columns, traits, keys), None)
    if problem:
        raise StoreUnavailableError(f'Table "{settings.table}": {problem}')
    return LogTable(
        table=table,
        columns=columns,
        kept={
            field: kept_value(columns["details"], connection.dialect.name, field)
            for field in FIELDS
            if field not in columns
        },
        # SQLite stores a text of any length in a VARCHAR(50).
        limits=dict(_limits(columns)) if connection.dialect.name == "postgresql" else {},
        key=min(keys, key=len),
        triggers=tuple(traits["trigger"]),
        zone=time_zone(settings.time_zone),
        dialect=connection.dialect.name,
    )


def _traits(connection: sa.Connection, table: sa.Table) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """By `key`, `rule` and `trigger`: their names, and the columns of a key."""
    traits: dict[str, dict[str, tuple[str, ...]]] = {"key": {}, "rule": {}, "trigger": {}}
    if connection.dialect.name == "postgresql":
        values = {"name": quoted(table, connection.dialect)}
        for trait, name, columns in connection.execute(
            text(statement("table_traits.postgresql", connection.dialect)), values
        ):
            traits[trait][name] = tuple(columns or ())
        return traits
    for number, names in enumerate(_keys(table)):
        traits["key"][str(number)] = names
    query = text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name")
    traits["trigger"] = dict.fromkeys(connection.execute(query, {"name": table.name}).scalars(), ())
    return traits


def _takes_ids(column: sa.Column[Any] | None) -> bool:
    """Whether a column that is called like one of the ids of the tree can hold them.

    A host's own `parent_id` may be something else: only both of a pair are taken for ours.
    """
    if column is None or not column.nullable or column.foreign_keys:
        return False
    if not isinstance(column.type, _USABLE[column.name]) or isinstance(column.type, sa.Enum):
        return False
    length = _length(column)
    return length is None or length >= _ID_CHARS[column.name]


def _plain(column: sa.Column[Any]) -> sa.Column[Any]:
    """The column with the type that its domain is made of; the database checks what the domain asks for."""
    while isinstance(column.type, DOMAIN):
        column.nullable = column.nullable and not column.type.not_null
        column.type = column.type.data_type
    return column


def _recognises(key: tuple[str, ...], columns: Mapping[str, sa.Column[Any]]) -> bool:
    """Whether an entry that comes twice has the same key, and no NULL in it, which would equal nothing."""
    never_null = {field for field in columns if field in REQUIRED or not columns[field].nullable}
    return "id" in key and set(key) <= never_null - {"details"}


def _problems(
    table: sa.Table,
    columns: Mapping[str, sa.Column[Any]],
    traits: Mapping[str, Mapping[str, tuple[str, ...]]],
    keys: Sequence[tuple[str, ...]],
) -> Iterator[str]:
    for field in REQUIRED:
        if field in table.c and field not in columns:
            yield f'column "{field}" is generated, and cannot be written. Make it a plain one'
        elif field not in columns:
            yield f'column "{field}" is missing. Add it, or set EXECUTION_LOGGER_TABLE to another table'
    for field, column in columns.items():
        if not isinstance(column.type, _USABLE[field]):
            kinds = " or ".join(kind.__name__ for kind in _USABLE[field])
            yield f'column "{field}" has the type {column.type!r}; it must be {kinds} (SQLAlchemy\'s names)'
    length = _length(columns["id"])
    if length is not None and length < _UUID_CHARS and length != _HEX_UUID_CHARS:
        yield f'column "id" holds {length} characters; an id has {_UUID_CHARS}'
    for column in table.c:
        if column.name not in columns and _must_be_given(table, column):
            yield f'column "{column.name}" allows no NULL and has no default. Give it one in the database'
    yield from _key_problems(traits, keys)


def _key_problems(
    traits: Mapping[str, Mapping[str, tuple[str, ...]]], keys: Sequence[tuple[str, ...]]
) -> Iterator[str]:
    for rule in traits["rule"]:
        yield f'its rule "{rule}" allows no ON CONFLICT. Drop it, or make it a trigger'
    if not keys:
        yield (
            "neither a primary key nor a unique constraint, over columns that are never NULL, and neither "
            'partial nor deferrable, recognises an entry by its "id". Add one; '
            "instead of a view, name its table"
        )


def _must_be_given(table: sa.Table, column: sa.Column[object]) -> bool:
    generated = column.server_default is not None or column.identity is not None
    return not column.nullable and not generated and column is not table.autoincrement_column


def _limits(columns: Mapping[str, sa.Column[object]]) -> Iterator[tuple[str, int]]:
    for field in TEXTS:
        length = _length(columns[field]) if field in columns else None
        if length is not None:
            yield field, length


def _length(column: sa.Column[object]) -> int | None:
    """Most characters of a text; an enum has labels instead."""
    kind = column.type
    return kind.length if isinstance(kind, sa.String) and not isinstance(kind, sa.Enum) else None


def _keys(table: sa.Table) -> Iterator[tuple[str, ...]]:
    """What is unique in a table of SQLite's: its id, and perhaps more."""
    indexes = (
        index
        for index in table.indexes
        if index.unique
        and index.dialect_options["sqlite"]["where"] is None
        and len(index.columns) == len(index.expressions)
    )
    keys = (
        each for each in table.constraints if isinstance(each, sa.PrimaryKeyConstraint | sa.UniqueConstraint)
    )
    for unique in (*keys, *indexes):
        yield tuple(column.name for column in unique.columns)


_NUMBER = "duration_ms"


def kept_field(details: Mapping[str, Any], field: str) -> Any:
    """What the writer has put there for a field; among the changes where the caller had such a key."""
    if field not in details:
        return None
    changes = details.get(CHANGED)
    values = (changes.get(field) if isinstance(changes, dict) else None, details[field])
    return next((value for value in values if _is_of(field, value)), None)


def kept_value(column: sa.Column[Any], dialect: str, field: str) -> sa.ColumnElement[Any]:
    """The same in SQL, whatever else the host may have in the column; of an id, a text of any length."""
    select = _postgresql if dialect == "postgresql" else _sqlite
    if field != _NUMBER:
        return sa.literal_column(select(column, field, is_number=False), sa.Text())
    number: sa.ColumnElement[Any] = sa.literal_column(select(column, field, is_number=True), sa.BigInteger())
    return sa.case((number.between(0, MAX_DURATION_MS), number))


def _is_of(field: str, value: object) -> bool:
    if field in _ID_CHARS:
        # What a host means by such a word is another thing.
        return isinstance(value, str) and len(value) == _ID_CHARS[field]
    if field != _NUMBER:
        return isinstance(value, str)
    return type(value) is int and 0 <= value <= MAX_DURATION_MS


def _postgresql(column: sa.Column[Any], field: str, *, is_number: bool) -> str:
    name = column.name
    if isinstance(column.type, sa.String):
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


def _sqlite(column: sa.Column[Any], field: str, *, is_number: bool) -> str:
    name, kind = column.name, "integer" if is_number else "text"
    values = (
        f"CASE json_type({name}, '{path}') WHEN '{kind}' THEN json_extract({name}, '{path}') END"
        for path in (f"$.{CHANGED}.{field}", f"$.{field}")
    )
    # A text that is no JSON would end the query.
    conditions = f"WHEN NOT json_valid({name}) THEN NULL WHEN json_type({name}, '$.{field}') IS NOT NULL"
    return f"CASE {conditions} THEN coalesce({', '.join(values)}) END"
