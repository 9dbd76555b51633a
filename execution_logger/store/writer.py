"""The writer: stores batches, and sorts out the entries that the database refuses."""

from asyncio import CancelledError
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.array import EntryArray, join
from execution_logger.store.dead_letters import DeadLetters, dead_letter_id
from execution_logger.store.faults import attempt, is_data_error, reason_of
from execution_logger.store.insert import insert_entries
from execution_logger.store.ledger import Ledger
from execution_logger.store.span import Span
from execution_logger.store.table import LogTable, forget_tables, look_up_table


@dataclass(frozen=True)
class WriteResult:
    """What became of the entries of a batch.

    Attributes:
        stored: new rows.
        duplicates: entries that had been stored before.
        dead_lettered: entries that the database refuses; an unreadable batch counts as one.
    """

    stored: int = 0
    duplicates: int = 0
    dead_lettered: int = 0


class Writer:
    """Writes batches to the table `settings.table`; any number of them at a time.

    Args:
        engine: of `create_engine`; its pool bounds how many batches are written at once.
        settings: names the table, and bounds each attempt in time.
    """

    def __init__(self, engine: AsyncEngine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._dead_letters = DeadLetters(settings)
        self._ledger = Ledger(settings)

    async def write(
        self,
        batch_id: str,
        entries: str,
        *,
        process: str | None = None,
        first: int | None = None,
        one_by_one: bool = False,
    ) -> WriteResult:
        """Store a batch, all at once; an entry that is in the table already stays as it is.

        When the database refuses the batch because of its data, the entries at fault become dead
        letters and the others are stored. The same batch may be written any number of times.

        Args:
            batch_id: kept with the dead letters; in the ledger it recognises the batch.
            entries: a JSON array of encoded entries.
            process: the name of the pipeline that made the entries, at most 100 of `A-Za-z0-9._-`.
            first: the number of the first entry among those of the process, which begin at 1. A batch
                without these two, or with others, is stored and left out of the ledger.
            one_by_one: store each entry by itself, and not all at once.

        Raises:
            StoreUnavailableError: the database cannot take any rows now, or did not answer within
                `database_timeout_seconds`. The batch is to be written again, with the same id.
        """
        async with self._attempt() as connection:
            return await self._write(connection, batch_id, entries, process, first, one_by_one=one_by_one)

    async def refuse(
        self,
        batch_id: str,
        entries: str,
        reason: str,
        *,
        process: str | None = None,
        first: int | None = None,
    ) -> WriteResult:
        """Make the entries of a batch dead letters, all of them: it does harm to those who store it.

        What cannot be told apart is one dead letter. Arguments and errors are those of `write`.
        """
        async with self._attempt() as connection:
            return await self._refuse(connection, batch_id, entries, reason, process, first)

    @asynccontextmanager
    async def _attempt(self) -> AsyncIterator[AsyncConnection]:
        timeout_seconds = self._settings.database_timeout_seconds
        async with attempt(self._engine, timeout_seconds):
            # Not by `async with`, which makes a task for each closing.
            connection = await self._engine.connect()
            try:
                yield connection
            except (Exception, CancelledError) as error:
                # The next attempt starts afresh: the host may have changed its tables, or this
                # connection may lead to a server that is a standby now, or hangs.
                self._forget()
                await connection.invalidate(error)
                raise
            finally:
                await connection.close()

    async def _refuse(
        self,
        connection: AsyncConnection,
        batch_id: str,
        batch: str,
        reason: str,
        process: object,
        first: object,
    ) -> WriteResult:
        try:
            letters = EntryArray.read(batch).texts()
        except (TypeError, ValueError, RecursionError):
            letters = [batch]
        for letter in letters:
            await self._dead_letters.add(connection, batch_id, letter, reason)
            await connection.commit()
        result = WriteResult(dead_lettered=len(letters))
        span = Span.of(batch_id, process, first, letters)
        if span is not None and await self._ledger.is_usable(connection):
            await self._note(connection, span, result)
        return result

    async def _write(
        self,
        connection: AsyncConnection,
        batch_id: str,
        batch: object,
        process: object,
        first: object,
        *,
        one_by_one: bool,
    ) -> WriteResult:
        try:
            array = EntryArray.read(batch)
        except (TypeError, ValueError, RecursionError) as error:
            text = batch if isinstance(batch, str) else repr(batch)
            return await self._bury(connection, batch_id, text, f"Not a batch: {error}")
        if not array.entries:
            return WriteResult()
        table = await look_up_table(connection, self._settings)
        span = Span.of(batch_id, process, first, array.entries)
        if span is not None and not await self._ledger.is_usable(connection):
            span = None
        if not one_by_one:
            try:
                stored = await self._store(connection, table, array.text, span)
            except Exception as error:
                if not is_data_error(error):
                    raise
                await connection.rollback()
            else:
                return WriteResult(stored=stored, duplicates=len(array.entries) - stored)
        result = await self._sort_out(connection, batch_id, array.texts(), one_by_one=one_by_one)
        if span is not None:
            await self._note(connection, span, result)
        return result

    async def _store(
        self, connection: AsyncConnection, table: LogTable, entries: str, span: Span | None = None
    ) -> int:
        """Store all of these or none, and the batch's row in the ledger with them."""
        if span is None:
            stored = await insert_entries(connection, table, entries)
        else:
            stored = await self._ledger.store(connection, table, entries, span)
        await connection.commit()
        return stored

    async def _note(self, connection: AsyncConnection, span: Span, result: WriteResult) -> None:
        """Note a batch whose entries are stored; what the ledger refuses must not bring it back."""
        try:
            await self._ledger.add(connection, span, dead_lettered=result.dead_lettered)
            await connection.commit()
        except DBAPIError as error:
            if not is_data_error(error):
                raise
            await connection.rollback()
            self._ledger.distrust(reason_of(error))

    async def _sort_out(
        self, connection: AsyncConnection, batch_id: str, entries: list[str], *, one_by_one: bool
    ) -> WriteResult:
        """Halve the batch until the entries at fault are alone, or begin with each alone.

        Each half is stored, and each dead letter kept, at once: an attempt that runs out of time
        is followed by one that has less to do.
        """
        self._forget()
        table = await look_up_table(connection, self._settings)
        dead = await self._dead_letters.ids_of(connection, batch_id)
        living = [entry for entry in entries if dead_letter_id(entry) not in dead]
        pieces = [[entry] for entry in reversed(living)] if one_by_one else [living]
        dead_lettered = len(entries) - len(living)
        stored = 0
        while pieces:
            piece = pieces.pop()
            try:
                stored += await self._store(connection, table, join(piece))
            except DBAPIError as error:
                if not is_data_error(error):
                    raise
                await connection.rollback()
                if len(piece) > 1:
                    middle = len(piece) // 2
                    pieces += [piece[middle:], piece[:middle]]
                else:
                    await self._bury(connection, batch_id, piece[0], reason_of(error))
                    dead_lettered += 1
        return WriteResult(stored, len(entries) - stored - dead_lettered, dead_lettered)

    async def _bury(self, connection: AsyncConnection, batch_id: str, entry: str, reason: str) -> WriteResult:
        await self._dead_letters.add(connection, batch_id, entry, reason)
        await connection.commit()
        return WriteResult(dead_lettered=1)

    def _forget(self) -> None:
        forget_tables(self._engine.pool)
        self._ledger.forget()
