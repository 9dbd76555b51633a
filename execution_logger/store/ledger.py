"""The ledger: one small row for each stored batch, by which an audit finds what is missing."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from execution_logger.diagnostics import logger
from execution_logger.settings import Settings
from execution_logger.store import engine as driver
from execution_logger.store.faults import UPGRADE
from execution_logger.store.insert import entries_statement, insert_entries
from execution_logger.store.schema import Moment, batch_key, ledger_table
from execution_logger.store.sql import quoted, statement
from execution_logger.store.table import LogTable, missing_rights

_PROCESS = re.compile(r"[A-Za-z0-9._-]{1,100}")
_MAX_SEQUENCE = 2**48  # a million entries a second for nine years; sums of it stay within 64 bits
_YEARS = range(1970, 9999)


class _Moment(msgspec.Struct):
    created_at: datetime


_decode = msgspec.json.Decoder(_Moment).decode


@dataclass(frozen=True, slots=True)
class Span:
    """Which entries a batch holds: `count` consecutive ones of a process, from number `first` on.

    Attributes:
        batch_id: also recognises the batch when it is delivered again.
        process: the name of the pipeline that made them.
        first: the first one's number; those of a process begin at 1.
        count: how many there are.
        oldest_at: `created_at` of the first one in UTC, None when it cannot be read.
        newest_at: that of the last one.
    """

    batch_id: str
    process: str
    first: int
    count: int
    oldest_at: datetime | None
    newest_at: datetime | None

    @classmethod
    def of(
        cls, batch_id: str, process: object, first: object, entries: Sequence[msgspec.Raw | str]
    ) -> Self | None:
        """The span of a batch, None when it has none: it comes from elsewhere, or is forged.

        The entries are in the order of their calls, so that the first and the last one tell the time.
        """
        if not isinstance(process, str) or not _PROCESS.fullmatch(process):
            return None
        # A bool is an int.
        if type(first) is not int or not 1 <= first <= _MAX_SEQUENCE:
            return None
        ends = (entries[0], entries[-1]) if entries else ()
        moments = [moment for moment in map(_created_at, ends) if moment is not None]
        oldest_at, newest_at = min(moments, default=None), max(moments, default=None)
        return cls(batch_key(batch_id), process, first, len(entries), oldest_at, newest_at)

    def values(self) -> dict[str, Any]:
        """The attributes by their names, as the statements have them."""
        return {name: getattr(self, name) for name in self.__slots__}


def _created_at(entry: msgspec.Raw | str) -> datetime | None:
    try:
        moment = _decode(entry).created_at.astimezone(UTC)
    except (msgspec.DecodeError, ValueError, OverflowError):
        return None
    return moment if moment.year in _YEARS else None


_RIGHTS = ("SELECT", "INSERT", "UPDATE")
_ASK_AGAIN_AFTER_SECONDS = 60.0
_MOST_PROCESSES = 500
_MOMENTS = tuple(sa.bindparam(name, type_=Moment) for name in ("oldest_at", "newest_at"))


def missing_indexes(connection: sa.Connection, settings: Settings) -> list[sa.Index]:
    """The indexes of the ledger that the database has not, or not whole; batches can be noted meanwhile."""
    table = ledger_table(settings).to_metadata(sa.MetaData())
    for index in table.indexes:
        index.dialect_options["postgresql"]["concurrently"] = True
    if connection.dialect.name == "postgresql":
        query = sa.text(statement("valid_indexes.postgresql", connection.dialect))
        found = set(connection.execute(query, {"name": quoted(table, connection.dialect)}).scalars())
    else:
        found = {index["name"] for index in sa.inspect(connection).get_indexes(table.name, table.schema)}
    return sorted((each for each in table.indexes if each.name not in found), key=attrgetter("name"))


class Ledger:
    """Notes batches, where the database has the table for it and lets us write there.

    Entries come first: without the table they are stored all the same.

    Args:
        settings: names the schema.
        now: a clock in seconds.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self.table = ledger_table(settings)
        self._now = now
        self._is_usable: bool | None = None
        self._ask_again_at = 0.0
        self._has_warned = False

    async def is_usable(self, connection: AsyncConnection) -> bool:
        """Whether batches can be noted; what is amiss is logged once, and asked again after a minute."""
        if self._is_usable is None or (not self._is_usable and self._now() >= self._ask_again_at):
            problem = await self.problem(connection)
            self._is_usable = True
            if problem is not None:
                self.distrust(problem)
        return self._is_usable

    async def problem(self, connection: AsyncConnection, *rights: str) -> str | None:
        """Why batches cannot be noted, and what to do about it; None when they can.

        Args:
            connection: whose user is asked about.
            rights: what the user must be allowed to do; by default what it takes to note a batch.
        """
        return await connection.run_sync(self._problem, rights or _RIGHTS)

    def forget(self) -> None:
        """Ask the database again the next time: somebody may have changed its tables."""
        self._is_usable = None

    def distrust(self, reason: str) -> None:
        """Do without the ledger for a minute, as when the database refuses a row that is all right."""
        self._is_usable = False
        self._ask_again_at = self._now() + _ASK_AGAIN_AFTER_SECONDS
        if not self._has_warned:
            self._has_warned = True
            logger.warning("entries are stored, but an audit cannot account for them: %s", reason)

    async def store(self, connection: AsyncConnection, table: LogTable, entries: str, span: Span) -> int:
        """Store a batch and note it, both or neither, in the connection's transaction.

        PostgreSQL does both in one statement, unless the table has triggers. Otherwise the caller's commit
        ends the transaction.

        Args:
            connection: to PostgreSQL or SQLite; in a transaction where the table has triggers.
            table: what `look_up_table` says of the table.
            entries: a JSON array of encoded entries.
            span: what the array holds.

        Returns:
            How many rows are new; the others had been stored before.

        Raises:
            asyncpg.PostgresError, sqlalchemy.exc.DBAPIError: and nothing is stored.
        """
        if connection.dialect.name == "postgresql" and not table.triggers:
            both, names = _batch_statement(table, self.table, connection.dialect)
            values = {"entries": entries, "dead_lettered": 0, **span.values()}
            return await driver.execute(connection, both, [values[name] for name in names])
        if connection.dialect.name == "sqlite":
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        stored = await insert_entries(connection, table, entries)
        await self.add(connection, span)
        return stored

    async def add(self, connection: AsyncConnection, span: Span, *, dead_lettered: int = 0) -> None:
        """Note a batch, in the connection's transaction; a known one was delivered once more."""
        note = sa.text(_note_statement(self.table, connection.dialect)).bindparams(*_MOMENTS)
        await connection.execute(note, span.values() | {"dead_lettered": dead_lettered})

    async def forgive(self, connection: AsyncConnection, batch_id: str, number: int) -> None:
        """Note that so many dead letters of this batch became rows, in the connection's transaction."""
        update = sa.text(statement("forgive_entry", connection.dialect, ledger=self.table))
        await connection.execute(update, {"batch_id": batch_id, "number": number})

    async def delete_before(self, connection: AsyncConnection, moment: datetime) -> int:
        """Delete the batches of processes that have stored nothing since `moment` (aware), of some of them.

        Those of a process go all at once: half a sequence would look like one with a gap.

        Returns:
            How many there were; 0 when no such process is left.
        """
        batches, process = self.table, self.table.c.process
        last_at = sa.func.max(batches.c.stored_at)
        ended = sa.select(process).group_by(process).having(last_at < sa.literal(moment, Moment))
        condition = process.in_(ended.limit(_MOST_PROCESSES))
        return (await connection.execute(sa.delete(batches).where(condition))).rowcount

    def _problem(self, connection: sa.Connection, rights: tuple[str, ...]) -> str | None:
        name = self.table.fullname
        try:
            columns = sa.inspect(connection).get_columns(self.table.name, self.table.schema)
        except NoSuchTableError:
            return f'table "{name}" does not exist. {UPGRADE}'
        found = {column["name"]: _python_type(column["type"]) for column in columns}
        for column in self.table.columns:
            if found.get(column.name) is not _python_type(column.type):
                return f'table "{name}" is another one: see its column "{column.name}". Rename it. {UPGRADE}'
        if missing_rights(connection, self.table, rights):
            return f'permission denied for table "{name}". It takes {" and ".join(rights)}'
        return None


def _python_type(kind: TypeEngine[Any]) -> type | None:
    try:
        return kind.python_type
    except NotImplementedError:
        return None


@lru_cache(maxsize=16)
def _batch_statement(table: LogTable, ledger: sa.Table, dialect: sa.Dialect) -> tuple[str, Sequence[str]]:
    """The statement as the driver takes it, and its parameters in their order.

    Compiled here, once: SQLAlchemy would look at a `text()` and its parameters with every batch.
    """
    note, insert = _note_statement(ledger, dialect), entries_statement(table, dialect)
    both = statement("insert_and_note.postgresql", dialect, note=note, insert=insert)
    compiled: Any = sa.text(both).bindparams(*_MOMENTS).compile(dialect=dialect)
    return str(compiled), compiled.positiontup


def _note_statement(ledger: sa.Table, dialect: sa.Dialect) -> str:
    return statement("note_batch", dialect, ledger=ledger)
