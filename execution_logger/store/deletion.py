"""Deleting many rows of a table that is in use: in small transactions, with pauses in between."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.errors import ExecutionLoggerError
from execution_logger.store.engine import be_patient, transaction
from execution_logger.store.faults import attempt

FIRST_ROWS = 500
MOST_ROWS = 5000
FEWEST_ROWS = 200

_CHUNK_SECONDS = 0.03
"""What a chunk should take: its rows are locked, and the disk is busy, for so long."""

_PAUSE_SHARE = 1.0
_MOST_PAUSE_SECONDS = 1.0
_DOUBLE = 2


class StubbornRowsError(ExecutionLoggerError):
    """Rows that should be deleted are still there."""

    exit_code = 1


class Deletion:
    """Deletes the rows of a table that meet a condition, in chunks.

    Each chunk is a transaction of its own and takes about a thirtieth of a second: there are as many
    rows in it as that lets it have, at most 5,000. After it comes a pause as long as the chunk itself,
    so that others get at least half of what the database can do.

    Args:
        engine: of `create_engine`.
        key: what makes a row of the table unique.
        condition: on the rows.
        order: the column by which rows are taken; None for any order.
        is_indexed: whether the database finds the first rows of that order without reading the table.
            Otherwise a chunk has 5,000 rows however long that takes: fewer would read as much.
        timeout_seconds: longest wait for a chunk.
        place: where in that order an earlier deletion of the same rows was left.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        key: Sequence[Column[Any]],
        condition: ColumnElement[bool],
        order: Column[Any] | None,
        *,
        is_indexed: bool = True,
        timeout_seconds: float,
        place: Any = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.deleted = 0
        self._engine = engine
        self._table: Table = key[0].table
        self._key = key
        self._condition = condition
        self._order = order
        self._is_indexed = is_indexed
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._rows = FIRST_ROWS if is_indexed else MOST_ROWS
        # Rows before it are gone. Their places in the index are not, until a VACUUM: a chunk that began
        # with the first row of the table would walk over all of them, each time more.
        self.place = place

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
                await self._sleep(min(seconds * _PAUSE_SHARE, _MOST_PAUSE_SECONDS))
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
        query = select(func.count()).select_from(self._table).where(self._condition)
        async with self._transaction() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def _delete_chunk(self) -> int:
        condition, order = self._condition, self._order
        if order is not None and self.place is not None:
            condition = and_(condition, order >= self.place)
        chosen = select(*self._key).where(condition).limit(self._rows)
        if order is not None:
            chosen = chosen.order_by(order)
        found = self._key[0] if order is None else order
        statement = delete(self._table).where(tuple_(*self._key).in_(chosen)).returning(found)
        async with self._transaction() as connection:
            places = (await connection.execute(statement)).scalars().all()
        if places and order is not None:
            self.place = max(places)
        return len(places)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """Usually over in no time; what walks over the places of many deleted rows takes its time."""
        async with attempt(self._engine, self._timeout_seconds), transaction(self._engine) as connection:
            await be_patient(connection, self._timeout_seconds)
            yield connection

    def _adapt(self, seconds: float) -> None:
        if not self._is_indexed:
            return
        if seconds > _CHUNK_SECONDS * _DOUBLE:
            self._rows = max(FEWEST_ROWS, self._rows // _DOUBLE)
        elif seconds < _CHUNK_SECONDS:
            self._rows = min(MOST_ROWS, self._rows * _DOUBLE)
