"""Where rows are deleted: what is too old, or of a run, in small transactions with pauses in between."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.errors import ExecutionLoggerError
from execution_logger.settings import Settings
from execution_logger.store.engine import patient_transaction
from execution_logger.store.faults import attempt
from execution_logger.store.ledger import Ledger
from execution_logger.store.schema import dead_letter_table, statistics_table
from execution_logger.store.table import LogTable, look_up_table

FIRST_ROWS = 500
MOST_ROWS = 5000
FEWEST_ROWS = 200

_CHUNK_SECONDS = 0.03
"""What a chunk should take: its rows are locked, and the disk is busy, for so long."""

_PAUSE_SHARE = 1.0
_MOST_PAUSE_SECONDS = 1.0
_DOUBLE = 2

_USUAL_DAYS = 90


class StubbornRowsError(ExecutionLoggerError):
    """Rows that should be deleted are still there."""

    exit_code = 1


@dataclass
class Deletion:
    """Deletes the rows of a table that meet a condition, in chunks.

    Each chunk is a transaction of its own and takes about a thirtieth of a second: there are as many
    rows in it as that lets it have, at most 5,000. After it comes a pause as long as the chunk itself,
    so that others get at least half of what the database can do.

    Attributes:
        engine: of `create_engine`.
        key: what makes a row of the table unique.
        condition: on the rows.
        order: the column by which rows are taken; None for any order.
        is_indexed: whether the database finds the first rows of that order without reading the table.
            Otherwise a chunk has 5,000 rows however long that takes: fewer would read as much.
        timeout_seconds: longest wait for a chunk.
        place: where in that order an earlier deletion of the same rows was left.
        sleep: waits so many seconds.
        deleted: how many rows are gone so far.
    """

    engine: AsyncEngine
    key: Sequence[Column[Any]]
    condition: ColumnElement[bool]
    order: Column[Any] | None = None
    _: KW_ONLY
    is_indexed: bool = True
    timeout_seconds: float
    # Rows before it are gone. Their places in the index are not, until a VACUUM: a chunk that began
    # with the first row of the table would walk over all of them, each time more.
    place: Any = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    deleted: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._table: Table = self.key[0].table
        self._rows = FIRST_ROWS if self.is_indexed else MOST_ROWS

    async def chunks(self) -> AsyncIterator[int]:
        """Delete chunk by chunk; yields how many rows each one had. It can be left at any time.

        Raises:
            StoreUnavailableError: the database cannot be used now; what was deleted stays deleted.
            StubbornRowsError: the database leaves rows where they are and raises no error, as a trigger or a
                policy can make it.
        """
        was_stubborn = False
        while True:
            began = time.monotonic()
            deleted = await self._delete_chunk()
            seconds = time.monotonic() - began
            if deleted:
                was_stubborn = False
                self.deleted += deleted
                yield deleted
                self._adapt(seconds)
                await self.sleep(min(seconds * _PAUSE_SHARE, _MOST_PAUSE_SECONDS))
            elif self.place is not None:
                # From the beginning once more, for rows that came while the others were deleted.
                self.place = None
            elif not (left := await self.count()):
                return
            elif was_stubborn:
                raise StubbornRowsError(
                    f'{left:,} rows of "{self._table.name}" should be deleted, and the database leaves them '
                    "there without an error: look for a trigger or a row security policy that keeps them"
                )
            else:
                was_stubborn = True

    async def count(self) -> int:
        """How many rows meet the condition."""
        query = select(func.count()).select_from(self._table).where(self.condition)
        async with patient_transaction(self.engine, self.timeout_seconds) as connection:
            return int((await connection.execute(query)).scalar_one())

    async def _delete_chunk(self) -> int:
        condition, order = self.condition, self.order
        if order is not None and self.place is not None:
            condition = and_(condition, order >= self.place)
        chosen = select(*self.key).where(condition).limit(self._rows)
        if order is not None:
            chosen = chosen.order_by(order)
        found = self.key[0] if order is None else order
        statement = delete(self._table).where(tuple_(*self.key).in_(chosen)).returning(found)
        # Usually over in no time; what walks over the places of many deleted rows takes its time.
        async with patient_transaction(self.engine, self.timeout_seconds) as connection:
            places = (await connection.execute(statement)).scalars().all()
        if places and order is not None:
            self.place = max(places)
        return len(places)

    def _adapt(self, seconds: float) -> None:
        if not self.is_indexed:
            return
        if seconds > _CHUNK_SECONDS * _DOUBLE:
            self._rows = max(FEWEST_ROWS, self._rows // _DOUBLE)
        elif seconds < _CHUNK_SECONDS:
            self._rows = min(MOST_ROWS, self._rows * _DOUBLE)


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
        return Deletion(
            self._engine,
            [table.columns[name] for name in table.key],
            and_(*table.made(until=self._before)),
            created_at if is_indexed else None,
            is_indexed=is_indexed,
            timeout_seconds=self._timeout_seconds,
            place=place,
        )

    async def of_run(self, task_id: str) -> Deletion:
        """That of all entries of a run, whatever their age."""
        table = await self._log_table()
        key = [table.columns[name] for name in table.key]
        return Deletion(
            self._engine, key, table.equals("task_id", task_id), timeout_seconds=self._timeout_seconds
        )

    def dead_letters(self) -> Deletion:
        """That of the dead letters: who has not looked at one until now will not."""
        columns = dead_letter_table(self._settings).c
        is_old = columns.created_at < self._before
        return Deletion(
            self._engine, [columns.id], is_old, columns.created_at,
            is_indexed=False, timeout_seconds=self._timeout_seconds,
        )  # fmt: skip

    def statistics(self) -> Deletion:
        """That of the statistics."""
        columns = statistics_table(self._settings).c
        key = [columns.hour, columns.dimension, columns.name]
        is_old = columns.hour < self._before
        return Deletion(self._engine, key, is_old, columns.hour, timeout_seconds=self._timeout_seconds)

    async def ledger(self) -> AsyncIterator[int]:
        """Delete the batches of processes that have stored nothing since; yields how many, again and again.

        `compact` makes few of them, so that one statement deletes those of some processes.
        """
        ledger = Ledger(self._settings)
        while True:
            async with patient_transaction(self._engine, self._timeout_seconds) as connection:
                deleted = await ledger.delete_before(connection, self._before)
            if not deleted:
                return
            yield deleted

    async def _log_table(self) -> LogTable:
        async with attempt(self._engine, self._timeout_seconds), self._engine.connect() as connection:
            return await look_up_table(connection, self._settings)


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
