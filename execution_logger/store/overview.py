"""The overview: what there is in the tables, for those who operate them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.dead_letters import dead_letter_table
from execution_logger.store.faults import attempt
from execution_logger.store.rows import to_utc
from execution_logger.store.sql import read_sql
from execution_logger.store.table import look_up_table

_EXACT_BELOW = 100_000


@dataclass(frozen=True)
class Overview:
    """What there is in the tables.

    Attributes:
        oldest: `created_at` of the first entry in UTC, None without entries.
        newest: that of the last one.
        rows: how many entries; PostgreSQL's own estimate of a large table.
        dead_letters: how many entries the database has refused.
    """

    oldest: datetime | None
    newest: datetime | None
    rows: int
    dead_letters: int


async def overview(engine: AsyncEngine, settings: Settings) -> Overview:
    """Look at both tables.

    Raises:
        StoreUnavailableError: the database cannot be used now, or one of the tables is missing.
    """
    async with attempt(engine, settings.database_timeout_seconds), engine.connect() as connection:
        table = await look_up_table(connection, settings)
        created_at = table.columns["created_at"]
        row = (await connection.execute(select(func.min(created_at), func.max(created_at)))).one()
        oldest, newest = (to_utc(table, moment) for moment in row)
        return Overview(
            oldest=oldest,
            newest=newest,
            rows=await _rows(connection, table.table),
            dead_letters=await _count(connection, dead_letter_table(settings)),
        )


async def oldest_entry_at(connection: AsyncConnection, settings: Settings) -> datetime | None:
    """`created_at` of the first entry in UTC, None without entries."""
    table = await look_up_table(connection, settings)
    query = select(func.min(table.columns["created_at"]))
    found: datetime | None = (await connection.execute(query)).scalar_one()  # type: ignore[assignment]
    return to_utc(table, found)


async def _rows(connection: AsyncConnection, table: Table) -> int:
    if connection.dialect.name == "postgresql":
        name = connection.dialect.identifier_preparer.format_table(table)
        result = await connection.execute(text(read_sql("estimate_rows.postgresql.sql")), {"name": name})
        estimate = int(result.scalar_one())
        if estimate >= _EXACT_BELOW:
            return estimate
    return await _count(connection, table)


async def _count(connection: AsyncConnection, table: Table) -> int:
    return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def table_size(connection: AsyncConnection, settings: Settings) -> int:
    """Bytes of the table of the entries with its indexes; of all that is in a SQLite file."""
    if connection.dialect.name == "sqlite":
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        return int(pages * (await connection.exec_driver_sql("PRAGMA page_size")).scalar_one())
    table = await look_up_table(connection, settings)
    name = connection.dialect.identifier_preparer.format_table(table.table)
    result = await connection.execute(text(read_sql("table_size.postgresql.sql")), {"name": name})
    return int(result.scalar_one())
