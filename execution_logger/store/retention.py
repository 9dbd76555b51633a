"""The expiry: which rows of the library's tables are too old to be kept."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.dead_letters import dead_letter_table
from execution_logger.store.deletion import Deletion
from execution_logger.store.engine import be_patient, transaction
from execution_logger.store.faults import attempt
from execution_logger.store.hourly import statistics_table
from execution_logger.store.ledger import Ledger
from execution_logger.store.table import LogTable, from_utc, look_up_table

_USUAL_DAYS = 90


class Expiry:
    """Deletes what is older than a moment, of one kind of rows after the other.

    Args:
        engine: of `create_engine`.
        settings: name the tables.
        before: (aware) rows of before then are deleted.
        timeout_seconds: longest wait for a statement.
    """

    def __init__(
        self, engine: AsyncEngine, settings: Settings, before: datetime, *, timeout_seconds: float = 10.0
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._before = before
        self._timeout_seconds = timeout_seconds

    async def entries(self, place: datetime | None = None) -> Deletion:
        """That of the entries; from the `place` of an earlier one on, and once more from the beginning."""
        table = await self._log_table()
        created_at = table.columns["created_at"]
        is_indexed = has_time_index(table)
        return self._deletion(
            [table.columns[name] for name in table.key],
            created_at < from_utc(table, self._before),
            created_at if is_indexed else None,
            is_indexed=is_indexed,
            place=place,
        )

    async def of_run(self, task_id: str) -> Deletion:
        """That of all entries of a run, whatever their age."""
        table = await self._log_table()
        key = [table.columns[name] for name in table.key]
        return self._deletion(key, table.equals("task_id", task_id), None)

    def dead_letters(self) -> Deletion:
        """That of the dead letters: who has not looked at one until now will not."""
        columns = dead_letter_table(self._settings).c
        is_old = columns.created_at < self._before
        return self._deletion([columns.id], is_old, columns.created_at, is_indexed=False)

    def statistics(self) -> Deletion:
        """That of the statistics."""
        columns = statistics_table(self._settings).c
        key = [columns.hour, columns.dimension, columns.name]
        return self._deletion(key, columns.hour < self._before, columns.hour)

    async def ledger(self) -> AsyncIterator[int]:
        """Delete the batches of processes that have stored nothing since; yields how many, again and again.

        `compact` makes few of them, so that one statement deletes those of some processes.
        """
        ledger = Ledger(self._settings)
        while True:
            async with attempt(self._engine, self._timeout_seconds), transaction(self._engine) as connection:
                await be_patient(connection, self._timeout_seconds)
                deleted = await ledger.delete_before(connection, self._before)
            if not deleted:
                return
            yield deleted

    async def _log_table(self) -> LogTable:
        async with self._connection() as connection:
            return await look_up_table(connection, self._settings)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        async with attempt(self._engine, self._timeout_seconds), self._engine.connect() as connection:
            yield connection

    def _deletion(
        self,
        key: Sequence[Column[Any]],
        condition: ColumnElement[bool],
        order: Column[Any] | None,
        **how: Any,
    ) -> Deletion:
        timeout_seconds = self._timeout_seconds
        return Deletion(self._engine, key, condition, order, timeout_seconds=timeout_seconds, **how)


def days_kept(settings: Settings, table: LogTable) -> int:
    """How many days entries are kept; 0 for ever, as in a table of the host's that was never asked for."""
    if settings.retention_days is not None:
        return settings.retention_days
    return _USUAL_DAYS if table.is_own else 0


def has_time_index(table: LogTable) -> bool:
    """Whether the database finds the oldest entries without reading the whole table."""
    created_at = table.columns["created_at"].name
    indexed = [[column.name for column in index.columns] for index in table.table.indexes]
    indexed.append([column.name for column in table.table.primary_key.columns])
    return any(names and names[0] == created_at for names in indexed)
