"""The entries of a run a page at a time: from a place in both directions, by their ids, or what is found."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from execution_logger.entry.entry import LogEntry
from execution_logger.read.place import Place
from execution_logger.read.timeline import (
    ALL,
    Only,
    Timeline,
    is_of_run,
    newest_first,
    oldest_first,
    select_entries,
    to_entry,
)
from execution_logger.store.table import LogTable


class Found(NamedTuple):
    """What a search has found.

    Attributes:
        ids: of the first entries, in the order of time.
        total: how many there are; with `is_complete`, as many as there are ids.
        is_complete: all of them are named.
    """

    ids: list[str]
    total: int
    is_complete: bool


class Pages:
    """Reads pages of the entries of one run.

    New entries change no page: each begins right at a place, which is an entry's own.

    Raises:
        StoreUnavailableError: from every method: the database cannot be used now.
        UnknownPlaceError: the place is none of this table.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._task_id = timeline.task_id

    async def after(self, place: Place | None, limit: int, only: Only = ALL) -> list[LogEntry]:
        """Those that come next after a place, or from the first one on."""
        async with self._timeline.reading() as (connection, table):
            query = oldest_first(table, self._select(table, only), self._timeline.place).limit(limit)
            if place is not None:
                query = query.where(place.after(table, self._task_id))
            return [to_entry(table, row) for row in await connection.execute(query)]

    async def before(self, place: Place | None, limit: int, only: Only = ALL) -> list[LogEntry]:
        """Those that come right before a place, or the last ones; in the order of time."""
        async with self._timeline.reading() as (connection, table):
            query = newest_first(table, self._select(table, only), self._timeline.place).limit(limit)
            if place is not None:
                query = query.where(place.before(table, self._task_id))
            return [to_entry(table, row) for row in await connection.execute(query)][::-1]

    async def by_id(self, ids: Sequence[str]) -> list[LogEntry]:
        """Those with these ids, in the order of time; what is not there is left out."""
        async with self._timeline.reading() as (connection, table):
            wanted = table.columns["id"].in_(_id_values(table, ids))
            query = oldest_first(table, self._select(table, ALL).where(wanted), self._timeline.place)
            return [to_entry(table, row) for row in await connection.execute(query)]

    async def search(self, only: Only, most: int) -> Found:
        """Where those are that are wanted."""
        async with self._timeline.reading() as (connection, table):
            ids = self._select(table, only).with_only_columns(table.columns["id"])
            query = oldest_first(table, ids, self._timeline.place).limit(most + 1)
            found = [table.id_text(id_) for id_ in (await connection.execute(query)).scalars()]
            if len(found) <= most:
                return Found(found, len(found), is_complete=True)
            number = sa.select(sa.func.count()).select_from(ids.order_by(None).subquery())
            return Found(found[:most], (await connection.execute(number)).scalar_one(), is_complete=False)

    def _select(self, table: LogTable, only: Only) -> sa.Select[Any]:
        return select_entries(table).where(is_of_run(table, self._task_id), *only.conditions(table))


def _id_values(table: LogTable, ids: Sequence[str]) -> list[Any]:
    values = []
    for id_ in ids:
        try:
            values.append(table.id_value(id_))
        except ValueError:
            continue  # no entry of this table has it
    return values
