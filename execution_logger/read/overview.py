"""The overview: what there is in the tables, for those who operate them."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, func, literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.errors import StoreUnavailableError
from execution_logger.settings import Settings
from execution_logger.store.faults import attempt
from execution_logger.store.ledger import Ledger
from execution_logger.store.schema import Moment, dead_letter_table, ledger_table
from execution_logger.store.sql import quoted, statement
from execution_logger.store.table import look_up_table

_EXACT_BELOW = 100_000
_RATE_SPAN = timedelta(minutes=1)


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
    facts: dict[str, Any] = {}
    await read_overview(engine, settings, facts)
    return Overview(**{field.name: facts[field.name] for field in fields(Overview)})


async def oldest_entry_at(connection: AsyncConnection, settings: Settings) -> datetime | None:
    """`created_at` of the first entry in UTC, None without entries."""
    table = await look_up_table(connection, settings)
    query = select(func.min(table.columns["created_at"]))
    found: datetime | None = (await connection.execute(query)).scalar_one()  # type: ignore[assignment]
    return table.to_utc(found)


async def read_overview(engine: AsyncEngine, settings: Settings, facts: dict[str, Any]) -> None:
    """Put the overview into `facts`, one by one: what cannot be told hides nothing else.

    Args:
        engine: to the database.
        settings: name the tables, and bound each attempt.
        facts: gets the attributes of `Overview`, None for what is not known, and `rows_per_minute`:
            how many rows were stored in the last minute, by the ledger; None without one.

    Raises:
        StoreUnavailableError: the first thing that failed, when all others were tried.
    """
    facts |= dict.fromkeys(("oldest", "newest", "rows", "rows_per_minute", "dead_letters"))
    errors = []
    for read in (_read_rows, _read_ends, _read_dead_letters, _read_rate):
        try:
            async with attempt(engine, settings.database_timeout_seconds), engine.connect() as connection:
                facts |= await read(connection, settings)
        except StoreUnavailableError as error:
            errors.append(error)
            if not isinstance(error.__cause__, DBAPIError):
                break  # it has said nothing, and will not say more
    if errors:
        raise errors[0]


async def _read_rows(connection: AsyncConnection, settings: Settings) -> dict[str, Any]:
    table = await look_up_table(connection, settings)
    return {"rows": await _rows(connection, table.table)}


async def _read_ends(connection: AsyncConnection, settings: Settings) -> dict[str, Any]:
    table = await look_up_table(connection, settings)
    created_at = table.columns["created_at"]
    row = (await connection.execute(select(func.min(created_at), func.max(created_at)))).one()
    return dict(zip(("oldest", "newest"), (table.to_utc(moment) for moment in row), strict=True))


async def _read_dead_letters(connection: AsyncConnection, settings: Settings) -> dict[str, Any]:
    return {"dead_letters": await count_dead_letters(connection, settings)}


async def count_dead_letters(connection: AsyncConnection, settings: Settings) -> int:
    """How many entries the database has refused, and keeps."""
    return await _count(connection, dead_letter_table(settings))


async def _read_rate(connection: AsyncConnection, settings: Settings) -> dict[str, Any]:
    if await Ledger(settings).problem(connection, "SELECT") is not None:
        return {}
    batches = ledger_table(settings).c
    stored = func.coalesce(func.sum(batches.entries - batches.dead_lettered), 0)
    if connection.dialect.name == "postgresql":
        since = func.now() - _RATE_SPAN  # by the clock that has written `stored_at`
    else:
        since = literal(datetime.now(UTC) - _RATE_SPAN, Moment)
    query = select(stored).where(batches.stored_at >= since)
    return {"rows_per_minute": int((await connection.execute(query)).scalar_one())}


async def _rows(connection: AsyncConnection, table: Table) -> int:
    if connection.dialect.name == "postgresql":
        estimate = await _estimate(connection, table)
        if estimate >= _EXACT_BELOW:
            return estimate
    return await _count(connection, table)


async def _estimate(connection: AsyncConnection, table: Table) -> int:
    """The planner's: counting a large table takes minutes. Of one never analysed it goes by the size."""
    query = text(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {quoted(table, connection.dialect)}")  # noqa: S608
    (plan,) = (await connection.execute(query)).scalar_one()
    return int(plan["Plan"]["Plan Rows"])


async def _count(connection: AsyncConnection, table: Table) -> int:
    return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def table_size(connection: AsyncConnection, settings: Settings) -> int:
    """Bytes of the table of the entries with its indexes; of all that is in a SQLite file."""
    if connection.dialect.name == "sqlite":
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        return int(pages * (await connection.exec_driver_sql("PRAGMA page_size")).scalar_one())
    table = await look_up_table(connection, settings)
    return await _ask(connection, "table_size.postgresql", table.table)


async def _ask(connection: AsyncConnection, question: str, table: Table) -> int:
    dialect = connection.dialect
    values = {"name": quoted(table, dialect)}
    return int((await connection.execute(text(statement(question, dialect)), values)).scalar_one())
