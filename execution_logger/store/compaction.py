"""Compaction: consecutive batches in the ledger become one row; it stays small however much is stored."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import and_, bindparam, delete, insert, literal, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.engine import patient_transaction
from execution_logger.store.schema import Moment, ledger_table
from execution_logger.store.sql import statement

AT_REST_AFTER = timedelta(minutes=10)
"""A batch that is delivered again comes sooner, nearly always."""

CHUNK = 10_000
"""Rows that are looked at, and locked, in a transaction."""

_Place = tuple[datetime, str]

_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


async def compact(
    engine: AsyncEngine,
    settings: Settings,
    until: datetime,
    since: datetime | None = None,
    *,
    timeout_seconds: float,
) -> AsyncGenerator[datetime, None]:
    """Merge the batches that were stored in a time range, chunk by chunk; it can be left at any time.

    Merged are batches of one process whose numbers follow upon each other, which were stored on the same
    day (in UTC), came as often and about as late. Batches with dead letters stay as they are: these may
    become rows. A batch that is delivered again after that is noted once more; an audit sees that its
    numbers are known.

    Args:
        engine: of `create_engine`.
        settings: name the ledger.
        until: (aware) younger batches stay as they are: they may be delivered again.
        since: (aware) older ones are not looked at.
        timeout_seconds: longest wait for a chunk.

    Yields:
        Up to when it is done.

    Raises:
        StoreUnavailableError: the database cannot be used now, or does not let us delete there.
    """
    begin = (since or _BEGINNING, "")
    while True:
        async with patient_transaction(engine, timeout_seconds) as connection:
            if connection.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            end = await _end_of_chunk(connection, settings, begin, until)
            await _merge(connection, settings, begin, end)
        yield end[0]
        if end == (until, ""):
            return
        begin = end


async def _end_of_chunk(
    connection: AsyncConnection, settings: Settings, begin: _Place, until: datetime
) -> _Place:
    """The first row of the next chunk."""
    table = ledger_table(settings)
    order = (table.c.stored_at, table.c.batch_id)
    begin_at = literal(begin[0], Moment)
    is_next = and_(order[0] >= begin_at, tuple_(*order) >= tuple_(begin_at, begin[1]))
    query = select(*order).where(is_next, order[0] < literal(until, Moment)).order_by(*order)
    row = (await connection.execute(query.offset(CHUNK).limit(1))).first()
    return (until, "") if row is None else (row.stored_at, row.batch_id)


async def _merge(connection: AsyncConnection, settings: Settings, begin: _Place, end: _Place) -> None:
    """Merge the rows from `begin` up to `end`, without that one."""
    values = {"begin_at": begin[0], "begin_id": begin[1], "end_at": end[0], "end_id": end[1]}
    table = ledger_table(settings)
    dialect = connection.dialect
    groups = statement("compact_groups", dialect, ledger=table)
    merge = text(statement(f"compact.{dialect.name}", dialect, ledger=table, groups=groups))
    merge = merge.bindparams(*(bindparam(name, type_=Moment) for name in ("begin_at", "end_at")))
    if dialect.name == "postgresql":
        await connection.execute(merge, values)
        return
    moments = dict.fromkeys(("oldest_at", "newest_at", "stored_at"), Moment)
    for row in (await connection.execute(merge.columns(**moments), values)).mappings().all():
        merged = {**row, "batch_id": str(uuid4()), "dead_lettered": 0}
        ids = json.loads(merged.pop("ids"))
        await connection.execute(delete(table).where(table.c.batch_id.in_(ids)))
        await connection.execute(insert(table), merged)
