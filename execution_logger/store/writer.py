"""The writer: once `Writer.write` has returned, each entry of the batch is one row, or one dead letter.

They are committed then. When it raises, some of them may be, and the same batch is to be written again:
however often that happens, an entry is stored once. The batch's row in the ledger is committed with its rows
or after them.
"""

import time
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.diagnostics import logger
from execution_logger.errors import BatchHeldError, StoreUnavailableError
from execution_logger.settings import Settings
from execution_logger.store.bisection import Bisection, Pace, good_entry
from execution_logger.store.dead_letters import DeadLetters
from execution_logger.store.engine import in_transactions
from execution_logger.store.faults import attempt, is_refusal, summary_of
from execution_logger.store.insert import EntryArray, UnreadRowsError, insert_entries, join
from execution_logger.store.ledger import Ledger, Span
from execution_logger.store.table import LogTable, forget_tables, look_up_table

_ANSWER_SECONDS = 1.0
_ANSWER_SHARE = 0.25


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
        now: a clock in seconds.
    """

    def __init__(
        self, engine: AsyncEngine, settings: Settings, now: Callable[[], float] = time.monotonic
    ) -> None:
        limit_seconds = settings.database_timeout_seconds
        self._engine = engine
        self._settings = settings
        self._now = now
        self._dead_letters = DeadLetters(settings, now)
        self._ledger = Ledger(settings)
        self._checked: LogTable | None = None
        self._pace = Pace(limit_seconds, now)
        self._bisection = Bisection(self._dead_letters, self._store_some, self._pace, limit_seconds, now)

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

        When the database refuses the batch, or takes too long, it is stored in pieces. An entry that
        stays refused alone becomes a dead letter, some after a time in which it is tried again. The same
        batch may be written any number of times.

        Args:
            batch_id: kept with the dead letters; in the ledger it recognises the batch.
            entries: a JSON array of encoded entries.
            process: the name of the pipeline that made the entries, at most 100 of `A-Za-z0-9._-`.
            first: the number of the first entry among those of the process, which begin at 1. A batch
                without these two, or with others, is stored and left out of the ledger.
            one_by_one: store each entry by itself, and not all at once.

        Raises:
            BatchHeldError: the database works, but must be given this batch again, or the rest of it.
            StoreUnavailableError: the database cannot take any rows now, or did not answer within
                `database_timeout_seconds`, nor then another question within a second. The batch is to be
                written again, with the same id.
        """
        try:
            async with self._attempt() as connection:
                return await self._write(connection, batch_id, entries, process, first, one_by_one=one_by_one)
        except StoreUnavailableError as error:
            held = _slowness(error)
            if held is None or not await self._is_answered():
                raise
            raise BatchHeldError(str(held)) from error

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
            except BatchHeldError:
                self._forget()  # the host may change its tables meanwhile
                raise
            except (Exception, CancelledError) as error:
                # The next attempt starts afresh: the host may have changed its tables, or this
                # connection may lead to a server that is a standby now, or hangs.
                self._forget()
                await connection.invalidate(error)
                raise
            finally:
                await connection.close()

    async def _is_answered(self) -> bool:
        """Whether the server answers somebody else: what it has not finished is slow, and no outage."""
        timeout_seconds = min(_ANSWER_SECONDS, _ANSWER_SHARE * self._settings.database_timeout_seconds)
        try:
            async with attempt(self._engine, timeout_seconds), self._engine.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
        except StoreUnavailableError:
            return False
        return True

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
        span = await self._span(connection, Span.of(batch_id, process, first, letters))
        return await self._note(connection, span, WriteResult(dead_lettered=len(letters)))

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
            await self._dead_letters.add(connection, batch_id, text, f"Not a batch: {error}")
            logger.warning("what came as batch %s is none, and is a dead letter now: %s", batch_id, error)
            return WriteResult(dead_lettered=1)
        count = len(array.entries)
        if not count:
            return WriteResult()
        table = await look_up_table(connection, self._settings)
        if table.triggers:
            await connection.rollback()  # what was only looked up
            await in_transactions(connection)
            if table is not self._checked:
                await self._check_triggers(connection, table)
        span = await self._span(connection, Span.of(batch_id, process, first, array.entries))
        refusal: Exception | None = None
        if not one_by_one and self._pace.takes(count):
            try:
                stored = await self._store(connection, table, array.text, count, span)
            except Exception as error:
                if not await self._bisection.has_refused(connection, table, error):
                    raise
                refusal = error
                await connection.rollback()
                self._forget()
                table = await look_up_table(connection, self._settings)
            else:
                self._bisection.accepted = array.entries[-1]
                return WriteResult(stored=stored, duplicates=count - stored)
        await connection.rollback()  # what was only looked up
        stored, dead_lettered = await self._bisection.run(
            connection, table, batch_id, array.texts(), refusal, one_by_one=one_by_one
        )
        result = WriteResult(stored, count - stored - dead_lettered, dead_lettered)
        return await self._note(connection, span, result)

    async def _check_triggers(self, connection: AsyncConnection, table: LogTable) -> None:
        """Find out whether an entry that comes twice at the same time is one row, whatever triggers do."""
        entry = good_entry(self._bisection.accepted)
        try:
            await insert_entries(connection, table, join([entry, entry]))
        except DBAPIError as error:
            if isinstance(error.orig, UnreadRowsError):
                raise StoreUnavailableError(f'Table "{self._settings.table}": {error.orig}') from error
            if not is_refusal(error):
                raise
            # No such entry is a row, and the batch itself will tell why.
        await connection.rollback()
        self._checked = table

    async def _store_some(self, connection: AsyncConnection, table: LogTable, entries: Sequence[str]) -> int:
        return await self._store(connection, table, join(entries), len(entries))

    async def _store(
        self, connection: AsyncConnection, table: LogTable, entries: str, count: int, span: Span | None = None
    ) -> int:
        """Store all of these or none, and the batch's row in the ledger with them."""
        began_at = self._now()
        try:
            if span is None:
                stored = await insert_entries(connection, table, entries)
            else:
                stored = await self._ledger.store(connection, table, entries, span)
            await connection.commit()
        except (Exception, CancelledError) as error:
            self._pace.failed(count, error)
            raise
        self._pace.stored(count, self._now() - began_at)
        return stored

    async def _span(self, connection: AsyncConnection, span: Span | None) -> Span | None:
        """The span, where the ledger can be used."""
        return span if span is not None and await self._ledger.is_usable(connection) else None

    async def _note(self, connection: AsyncConnection, span: Span | None, result: WriteResult) -> WriteResult:
        """Note a batch whose entries are stored; what the ledger refuses must not bring it back."""
        if span is None:
            return result
        try:
            await self._ledger.add(connection, span, dead_lettered=result.dead_lettered)
            await connection.commit()
        except DBAPIError as error:
            if not is_refusal(error):
                raise
            await connection.rollback()
            self._ledger.distrust(summary_of(error))
        return result

    def _forget(self) -> None:
        forget_tables(self._engine.pool)
        self._ledger.forget()


def _slowness(error: BaseException) -> BatchHeldError | None:
    """What `Pace.failed` has put among the causes of an attempt that was cut off."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, BatchHeldError):
        cause = cause.__cause__
    return cause
