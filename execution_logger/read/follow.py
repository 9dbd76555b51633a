"""The follower: what has come to a run, or to all, since one has looked."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.entry.entry import LogEntry
from execution_logger.read.timeline import (
    Timeline,
    is_of_run,
    newest_first,
    oldest_first,
    select_entries,
    to_entry,
)
from execution_logger.settings import Settings
from execution_logger.store.table import LogTable, forget_tables

_PAGE = 200
_MOST_KNOWN = 50_000
_EVER = datetime.min.replace(tzinfo=UTC)

_Place = tuple[Any, ...]
"""Of a run `task_id`, and then `created_at` and `id` as the table has them: where an entry is."""


class Follower:
    """Tells each entry of a run, or of all without one, once, however late it is stored.

    The entries of several processes are not stored in the order of their times: one that had no
    connection for an hour brings its entries after those of the others. So `news` looks behind the
    last entry that is known, which costs next to nothing, and `late` counts those before it, and
    looks for what is new among them where there are more than are known.

    At least the newest 25,000 entries are known by their ids; one that is older than these and comes
    now is not told.

    Raises:
        StoreUnavailableError: from every method; it can be called again.
    """

    def __init__(self, engine: AsyncEngine, settings: Settings, task_id: str | None) -> None:
        self._engine = engine
        self._timeline = Timeline(engine, settings, task_id)
        self._known: dict[str, _Place] = {}
        self._oldest: _Place | None = None
        """Nothing before this place is looked at; None: all of the run is known."""
        self._begins_at = _EVER
        self._newest: _Place | None = None

    async def begin(self) -> None:
        """Know what is stored already: it is told no more."""
        async with self._reading() as (connection, table):
            places = await self._list(connection, table, limit=_MOST_KNOWN // 2)
        self._know(places)
        self._newest = places[0] if places else None
        if len(places) == _MOST_KNOWN // 2:
            self._oldest = places[-1]
            self._begins_at = table.to_utc(self._oldest[-2]) or _EVER

    @property
    def is_waiting(self) -> bool:
        """Whether no entry of the run is known yet."""
        return self._newest is None

    def will_tell(self, entry: LogEntry) -> bool:
        """Whether it was not there in the beginning, and will be told as new."""
        return entry.created_at >= self._begins_at and _key(entry.id) not in self._known

    async def news(self) -> list[LogEntry]:
        """Some of those behind the last one that is known, oldest first; none when there are no more."""
        async with self._reading() as (connection, table):
            query = oldest_first(table, select_entries(table), self._timeline.place)
            query = query.where(self._is_of_run(table)).limit(_PAGE)
            if self._newest is not None:
                query = query.where(self._place(table) > self._literal(table, self._newest))
            rows = (await connection.execute(query)).all()
        if rows:
            # The last one by the database's order: that of texts need not be Python's.
            self._newest = self._place_of(table, rows[-1])
        return self._told(table, rows)

    async def late(self) -> list[LogEntry]:
        """Those that were stored before the last one that is known, and after one has looked there."""
        if self._newest is None:
            return []
        async with self._reading() as (connection, table):
            count = select(func.count()).select_from(table.table).where(*self._between(table))
            if (await connection.execute(count)).scalar_one() == len(self._known):
                return []
            listed = await self._list(connection, table, *self._between(table))
            missed = [place for place in listed if _key(place[-1]) not in self._known]
            rows = await self._read(connection, table, missed)
        # What is there no more was deleted.
        self._known = {_key(place[-1]): place for place in listed}
        return self._told(table, rows)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[tuple[AsyncConnection, LogTable]]:
        try:
            async with self._timeline.reading() as found:
                yield found
        except BaseException:
            forget_tables(self._engine.pool)  # it may have been changed
            raise

    async def _read(
        self, connection: AsyncConnection, table: LogTable, places: Sequence[_Place]
    ) -> list[Row[Any]]:
        rows: list[Row[Any]] = []
        for start in range(0, len(places), _PAGE):
            ids = [id_ for *_, id_ in places[start : start + _PAGE]]
            query = select_entries(table).where(self._is_of_run(table), table.columns["id"].in_(ids))
            rows += (await connection.execute(query)).all()
        return sorted(rows, key=lambda row: _sorted_by(self._place_of(table, row)))

    async def _list(
        self, connection: AsyncConnection, table: LogTable, *conditions: Any, limit: int | None = None
    ) -> list[_Place]:
        """Where the entries are, newest first."""
        columns: list[Any] = [table.columns[name] for name in self._timeline.place]
        query = select(*columns).where(self._is_of_run(table), *conditions).limit(limit)
        query = newest_first(table, query, self._timeline.place)
        return [tuple(row) for row in await connection.execute(query)]

    def _told(self, table: LogTable, rows: Sequence[Row[Any]]) -> list[LogEntry]:
        self._know(self._place_of(table, row) for row in rows)
        return [to_entry(table, row) for row in rows]

    def _know(self, places: Iterable[_Place]) -> None:
        self._known |= {_key(place[-1]): place for place in places}
        if len(self._known) > _MOST_KNOWN:
            kept = sorted(self._known.values(), key=_sorted_by)[-_MOST_KNOWN // 2 :]
            self._known = {_key(place[-1]): place for place in kept}
            self._oldest = kept[0]

    def _is_of_run(self, table: LogTable) -> ColumnElement[bool]:
        return is_of_run(table, self._timeline.task_id)

    def _between(self, table: LogTable) -> list[ColumnElement[bool]]:
        """All whose entries are known, and late ones."""
        conditions = [self._is_of_run(table)]
        if self._newest is not None:
            conditions.append(self._place(table) <= self._literal(table, self._newest))
        if self._oldest is not None:
            conditions.append(self._place(table) >= self._literal(table, self._oldest))
        return conditions

    def _place(self, table: LogTable) -> Any:
        return tuple_(*(table.columns[name] for name in self._timeline.place))

    def _literal(self, table: LogTable, place: _Place) -> Any:
        named = zip(self._timeline.place, place, strict=True)
        return tuple_(*(literal(value, table.columns[name].type) for name, value in named))

    def _place_of(self, table: LogTable, row: Row[Any]) -> _Place:
        """The place of a row of `select_entries`."""
        names = list(table.columns)
        return tuple(row[names.index(name)] for name in self._timeline.place)


def _sorted_by(place: _Place) -> tuple[Any, str]:
    *_, created_at, id_ = place
    return created_at, str(id_)


def _key(id_: object) -> str:
    return str(id_).replace("-", "")
