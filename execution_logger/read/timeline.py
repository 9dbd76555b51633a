"""The timeline: the entries of one run, or of all, in their order."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.entry.entry import TREE, LogEntry, LogLevel
from execution_logger.read.place import EPOCH
from execution_logger.read.tree import Subtree
from execution_logger.settings import Settings
from execution_logger.store.engine import transaction
from execution_logger.store.faults import attempt
from execution_logger.store.table import TEXTS, LogTable, kept_field, look_up_table

PLACE = ("task_id", "created_at", "id")
"""What an entry is found by in the index of the timeline."""

_PAGE = 200  # an entry may have 256 KiB
_PAGE_OF_PLACES = 5000


@dataclass(frozen=True, slots=True)
class Only:
    """Which entries are wanted; all of them by default.

    Attributes:
        hidden: none of these levels.
        categories: only those of one of these categories.
        agents: only those of one of these agents.
        steps: only those of one of these steps.
        since: (aware) only those made from then on.
        until: (aware) only those made before then.
        contains: only those with this text in their message, in the same case.
        text: only those with this text in their message or their details, in any case; SQLite knows the cases
            of A to Z alone.
        operations: only those that begin or end one of these operations, or were recorded right within it;
            `Timeline.beneath` tells which others are within these.
    """

    hidden: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    contains: str = ""
    text: str = ""
    operations: Collection[str] = ()

    @classmethod
    def at_least(cls, level: str | None, categories: Sequence[str] = (), **others: Any) -> "Only":
        """Those of this level, of graver ones and of the host's own; of every level without one."""
        levels = tuple(LogLevel)
        hidden = levels[: levels.index(LogLevel(level))] if level else ()
        return cls(hidden, tuple(categories), **others)

    def takes(self, entry: LogEntry) -> bool:
        """Whether this entry is one of them."""
        return (
            entry.level not in self.hidden
            and all(not names or getattr(entry, field) in names for field, names in self._names().items())
            and (self.since is None or entry.created_at >= self.since)
            and (self.until is None or entry.created_at < self.until)
            and self.contains in (entry.message or "")
            and self._is_text_in(entry)
            and (
                not self.operations
                or entry.operation_id in self.operations
                or entry.parent_id in self.operations
            )
        )

    def conditions(self, table: LogTable) -> list[sa.ColumnElement[bool]]:
        """What a row has to meet."""
        conditions = []
        if self.hidden:
            # A host's row may have no level, and NULL is neither of them nor none of them.
            level = table.columns["level"]
            conditions.append(sa.or_(level.is_(None), sa.not_(table.is_level(*self.hidden))))
        for field, names in self._names().items():
            if names:
                conditions.append(sa.or_(*(table.equals(field, each) for each in names)))
        conditions += table.made(self.since, self.until)
        message, details = (sa.cast(table.columns[name], sa.Text) for name in ("message", "details"))
        if self.contains:
            conditions.append(_has(message, self.contains))
        if self.text:
            told = _has(sa.func.lower(message), sa.func.lower(self.text))
            detailed = _has(sa.func.lower(details), sa.func.lower(_in_json(self.text)))
            conditions.append(sa.or_(told, detailed))
        if self.operations:
            places = (table.is_one_of(field, self.operations) for field in TREE[:2])
            conditions.append(sa.or_(*places))
        return conditions

    def _is_text_in(self, entry: LogEntry) -> bool:
        if self.text.lower() in (entry.message or "").lower():
            return True
        details = "" if entry.details is None else msgspec.json.encode(entry.details).decode()
        return _in_json(self.text).lower() in details.lower()

    def _names(self) -> Mapping[str, tuple[str, ...]]:
        return {"category": self.categories, "agent_name": self.agents, "step": self.steps}


def _has(text: sa.ColumnElement[Any], part: Any) -> sa.ColumnElement[bool]:
    # Both databases have `replace`, which knows no wildcards and tells cases apart.
    return sa.func.replace(text, part, "") != text


def _in_json(text: str) -> str:
    """As it stands there, where some of its characters are escapes."""
    return msgspec.json.encode(text).decode()[1:-1]


ALL = Only()


class Timeline:
    """Reads the entries of a run, or of all; every attempt takes `settings.database_timeout_seconds` at most.

    Args:
        engine: to the database.
        settings: name the table.
        task_id: the run's; None for those of all runs.

    Raises:
        StoreUnavailableError: from every method: the database cannot be used now.
    """

    def __init__(self, engine: AsyncEngine, settings: Settings, task_id: str | None) -> None:
        self._engine = engine
        self._settings = settings
        self.task_id = task_id
        self.place = PLACE[1:] if task_id is None else PLACE

    async def exists(self) -> bool:
        """Whether any entry is stored."""
        async with self.reading() as (connection, table):
            query = sa.select(sa.literal(1)).select_from(table.table).where(is_of_run(table, self.task_id))
            query = newest_first(table, query, self.place).limit(1)
            return (await connection.execute(query)).first() is not None

    async def count(self) -> int:
        """How many entries are stored; of a run, by its index."""
        async with self.reading() as (connection, table):
            query = sa.select(sa.func.count()).select_from(table.table).where(is_of_run(table, self.task_id))
            number: int = (await connection.execute(query)).scalar_one()
            return number

    async def last(self, count: int, only: Only = ALL) -> list[LogEntry]:
        """The newest ones, oldest first."""
        async with self.reading() as (connection, table):
            rows = await connection.execute(self._select(table, only).limit(count))
            return [to_entry(table, row) for row in rows][::-1]

    async def beneath(self, operations: Collection[str]) -> frozenset[str]:
        """These operations, and all that are within them, however deep.

        It reads of the entries of the run, or of all, those that begin or end an operation, and of these the
        two ids alone; in memory is what may still turn out to be within: see `Subtree`.
        """
        subtree: Subtree[OperationPlace] = Subtree(operations)
        async with AsyncExitStack() as stack:
            async with self._attempt():
                connection = await stack.enter_async_context(transaction(self._engine))
                table = await look_up_table(connection, self._settings)
                result = await connection.stream(select_places(table, self.task_id))
            while True:
                async with self._attempt():
                    rows = await result.fetchmany(_PAGE_OF_PLACES)
                if not rows:
                    return frozenset(subtree.operations)
                subtree.take(to_places(rows))

    async def pages(self, only: Only = ALL) -> AsyncGenerator[list[LogEntry]]:
        """All of them, oldest first, some at a time; what is stored meanwhile is not among them.

        Only a page is in memory. Close the iterator when it is not read to its end.
        """
        async with AsyncExitStack() as stack:
            async with self._attempt():
                connection = await stack.enter_async_context(transaction(self._engine))
                table = await look_up_table(connection, self._settings)
                query = oldest_first(table, self._select(table, only), self.place)
                result = await connection.stream(query)
            while True:
                async with self._attempt():
                    rows = await result.fetchmany(_PAGE)
                if not rows:
                    return
                yield [to_entry(table, row) for row in rows]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[tuple[AsyncConnection, LogTable]]:
        """A connection and the table, for one look."""
        async with self._attempt(), self._engine.connect() as connection:
            yield connection, await look_up_table(connection, self._settings)

    def _attempt(self) -> AbstractAsyncContextManager[None]:
        return attempt(self._engine, self._settings.database_timeout_seconds)

    def _select(self, table: LogTable, only: Only) -> sa.Select[Any]:
        query = select_entries(table).where(is_of_run(table, self.task_id), *only.conditions(table))
        return newest_first(table, query, self.place)


def is_of_run(table: LogTable, task_id: Any) -> sa.ColumnElement[bool]:
    """The condition that an entry belongs to a run, with which its timeline is read from the index of that.

    Without a run it is always true.

    PostgreSQL takes the few newest of an equal `task_id` to be quickly found by their time alone, and
    then reads the whole table backwards for a run that ended long ago. A range of one value has it
    sort by `task_id` as well, as `newest_first` and `oldest_first` do, and that is the index's order.
    """
    if task_id is None:
        return sa.true()
    try:
        name = table.run_value(task_id)
    except ValueError:
        return sa.false()
    return table.columns["task_id"].between(name, name)


def newest_first(table: LogTable, query: sa.Select[Any], place: Sequence[str] = PLACE) -> sa.Select[Any]:
    """A query of entries, the last call first."""
    return query.order_by(None).order_by(*(table.columns[name].desc() for name in place))


def oldest_first(table: LogTable, query: sa.Select[Any], place: Sequence[str] = PLACE) -> sa.Select[Any]:
    """A query of entries, in the order of their calls."""
    return query.order_by(None).order_by(*(table.columns[name] for name in place))


def select_entries(table: LogTable) -> sa.Select[Any]:
    """The columns of all entries, newest first; `to_entry` reads the rows."""
    columns: list[Any] = list(table.columns.values())
    return sa.select(*columns).order_by(table.columns["created_at"].desc(), table.columns["id"].desc())


class OperationPlace(NamedTuple):
    """Where an operation is in the tree."""

    operation_id: str | None
    parent_id: str | None


def select_places(table: LogTable, task_id: Any) -> sa.Select[Any]:
    """The places of the operations of a run, or of all, in the order of their entries; see `to_places`."""
    ids: list[Any] = [sa.cast(table.value(field), sa.Text) for field in TREE[:2]]
    query = sa.select(*ids).select_from(table.table).where(is_of_run(table, task_id), ids[0].is_not(None))
    return oldest_first(table, query, PLACE[1:] if task_id is None else PLACE)


def to_places(rows: Sequence[Any]) -> list[OperationPlace]:
    """The places that these rows hold."""
    return [OperationPlace(row[0], row[1]) for row in rows]


def to_entry(table: LogTable, row: sa.Row[Any]) -> LogEntry:
    """The entry that a row holds, in whichever types the host's table has."""
    values = dict(zip(table.columns, row, strict=True))
    details = _to_details(values["details"])
    values["id"] = table.id_text(values["id"])
    values["details"] = details
    values["created_at"] = table.to_utc(values["created_at"]) or EPOCH
    for field in (*TEXTS, *TREE):
        if field in values:
            values[field] = table.to_text(field, values[field])
    values |= {field: kept_field(details or {}, field) for field in table.missing}
    return LogEntry(**values)


def _to_details(value: Any) -> dict[str, Any] | None:
    """The object; other JSON, which only a host itself can have stored, is wrapped into one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {"value": value}
    return value if isinstance(value, dict) or value is None else {"value": value}
