"""The ways to store a batch that are compared: the library's, and those that others would take.

Each is given the JSON array that a message carries, and has it committed in the library's table, over
one connection. Whoever needs rows as Python values parses the array first, into typed structs of
msgspec, the fastest way there is; where a name says "rows at hand", that was done beforehand.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import aiosqlite
import asyncpg
import msgspec
from sqlalchemy import CHAR, JSON, DateTime, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from entries import PROCESS, EncodedBatch
from execution_logger import Settings
from execution_logger.store import Writer
from execution_logger.store.insert import entries_statement, insert_entries
from execution_logger.store.table import FIELDS, look_up_table

OURS = "`Writer.write`, with the ledger"
STATEMENT = "its statement alone"
COPY_AT_HAND = "asyncpg COPY, rows at hand"
COPY = "asyncpg COPY"
STAGED = "asyncpg COPY, then INSERT from there"
UNNEST = "INSERT from `unnest`"
EXECUTEMANY = "`executemany`"
ORM = "SQLAlchemy ORM `add_all`"

TABLE = "execution_logs"

_TYPES = ("uuid", *["text"] * 8, "jsonb", "integer", "timestamptz")
_ARRAYS = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_TYPES, start=1))
_PLACES = ", ".join(f"${number}" for number, _ in enumerate(_TYPES, start=1))
_MARKS = ", ".join("?" for _ in _TYPES)
_INTO = f"INSERT INTO {TABLE} ({', '.join(FIELDS)})"
_ONCE = "ON CONFLICT (id) DO NOTHING"
_INSERT_VALUES = f"{_INTO} VALUES ({_PLACES}) {_ONCE}"
_INSERT_MARKS = f"{_INTO} VALUES ({_MARKS}) {_ONCE}"
_INSERT_ARRAYS = f"{_INTO} SELECT * FROM unnest({_ARRAYS}) {_ONCE}"  # noqa: S608 - all of it is from here
_INSERT_STAGED = f"{_INTO} SELECT * FROM staged {_ONCE}"  # noqa: S608


@dataclass(frozen=True)
class Way:
    """A way to store a batch: what `prepare` makes of it beforehand, `store` is given."""

    store: Callable[[Any], Awaitable[object]]
    prepare: Callable[[EncodedBatch], Any] = lambda batch: batch


Ways = Mapping[str, Way]


class Row(msgspec.Struct, kw_only=True):
    """An entry as asyncpg takes it, in the order of the columns."""

    id: str
    task_id: str
    roadmap_id: str | None = None
    concept_id: str | None = None
    level: str
    category: str
    step: str | None = None
    agent_name: str | None = None
    message: str
    details: msgspec.Raw
    duration_ms: int | None = None
    created_at: datetime


class _Base(DeclarativeBase):
    pass


class Entry(_Base):
    """The table as a host maps it."""

    __tablename__ = TABLE

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False).with_variant(CHAR(36), "sqlite"), primary_key=True)
    task_id: Mapped[str] = mapped_column(Text)
    roadmap_id: Mapped[str | None] = mapped_column(Text)
    concept_id: Mapped[str | None] = mapped_column(Text)
    level: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    step: Mapped[str | None] = mapped_column(Text)
    agent_name: Mapped[str | None] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, Any] | None] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))
    duration_ms: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


_decode_rows = msgspec.json.Decoder(list[Row]).decode


def rows_of(batch: EncodedBatch) -> list[tuple[Any, ...]]:
    """The rows of a batch in the order of the columns, the details as text."""
    return [
        (*values[:9], bytes(values[9]).decode(), *values[10:])
        for values in map(msgspec.structs.astuple, _decode_rows(batch.entries))
    ]


@asynccontextmanager
async def postgresql_ways(engine: AsyncEngine, settings: Settings) -> AsyncIterator[Ways]:
    """All of them; asyncpg and the ORM have a connection of their own."""
    url = engine.url.set(drivername="postgresql")
    driver = await asyncpg.connect(url.render_as_string(hide_password=False))
    async with engine.connect() as connection:
        statement = entries_statement(await look_up_table(connection, settings), connection.dialect)
    await driver.execute(f"CREATE TEMPORARY TABLE staged (LIKE {TABLE})")
    bare = statement.replace(":entries", "$1")
    yield {
        OURS: Way(partial(_write, Writer(engine, settings))),
        STATEMENT: Way(lambda batch: driver.execute(bare, batch.entries)),
        COPY_AT_HAND: Way(partial(_copy, driver), rows_of),
        COPY: Way(lambda batch: _copy(driver, rows_of(batch))),
        STAGED: Way(partial(_copy_and_insert, driver)),
        UNNEST: Way(partial(_unnest, driver)),
        EXECUTEMANY: Way(lambda batch: driver.executemany(_INSERT_VALUES, rows_of(batch))),
        ORM: Way(partial(_add_all, host := create_async_engine(engine.url))),
    }
    await driver.close()
    await host.dispose()


@asynccontextmanager
async def sqlite_ways(engine: AsyncEngine, settings: Settings) -> AsyncIterator[Ways]:
    """Those that SQLite has, with the driver aiosqlite."""
    host = create_async_engine(engine.url)
    async with aiosqlite.connect(str(engine.url.database)) as driver:
        yield {
            OURS: Way(partial(_write, Writer(engine, settings))),
            STATEMENT: Way(partial(_insert, engine, settings)),
            EXECUTEMANY: Way(partial(_executemany, driver)),
            ORM: Way(partial(_add_all, host)),
        }
    await host.dispose()


async def _write(writer: Writer, batch: EncodedBatch) -> None:
    await writer.write(batch.id, batch.entries, process=PROCESS, first=batch.first)


async def _insert(engine: AsyncEngine, settings: Settings, batch: EncodedBatch) -> None:
    async with engine.connect() as connection:
        await insert_entries(connection, await look_up_table(connection, settings), batch.entries)


async def _copy(driver: asyncpg.Connection, rows: list[tuple[Any, ...]]) -> None:
    await driver.copy_records_to_table(TABLE, records=rows, columns=FIELDS)


async def _copy_and_insert(driver: asyncpg.Connection, batch: EncodedBatch) -> None:
    """What it takes to COPY a batch that may come again."""
    async with driver.transaction():
        await driver.copy_records_to_table("staged", records=rows_of(batch), columns=FIELDS)
        await driver.execute(_INSERT_STAGED)
        await driver.execute("TRUNCATE staged")


async def _unnest(driver: asyncpg.Connection, batch: EncodedBatch) -> None:
    columns = zip(*rows_of(batch), strict=True)
    await driver.execute(_INSERT_ARRAYS, *columns)


async def _executemany(driver: aiosqlite.Connection, batch: EncodedBatch) -> None:
    rows = [
        (*values[:-1], values[-1].replace(tzinfo=None).isoformat(" ", "microseconds"))
        for values in rows_of(batch)
    ]
    await driver.executemany(_INSERT_MARKS, rows)
    await driver.commit()


async def _add_all(host: AsyncEngine, batch: EncodedBatch) -> None:
    entries = [
        Entry(**{**fields, "created_at": datetime.fromisoformat(fields["created_at"])})
        for fields in msgspec.json.decode(batch.entries)
    ]
    async with AsyncSession(host) as session:
        session.add_all(entries)
        await session.commit()
