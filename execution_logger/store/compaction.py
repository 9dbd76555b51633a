"""Compaction: consecutive batches in the ledger become one row; it stays small however much is stored."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, delete, insert, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.engine import be_patient, transaction
from execution_logger.store.faults import attempt
from execution_logger.store.ledger import ledger_table
from execution_logger.store.moment import Moment

AT_REST_AFTER = timedelta(minutes=10)
"""A batch that is delivered again comes sooner, nearly always."""

CHUNK = 10_000
"""Rows that are looked at, and locked, in a transaction."""

_LATENESS_SECONDS = (10.0, 60.0, 600.0, 3_600.0, 86_400.0)
"""What came in time and what came late stay apart; an audit asks for one of these, or is a little coarser."""

_MOST_ENTRIES = 2**31 - 1  # of a column

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
    place = (since or _BEGINNING, "")
    while True:
        async with attempt(engine, timeout_seconds), transaction(engine) as connection:
            await be_patient(connection, timeout_seconds)
            rows = await _next_rows(connection, settings, place, until)
            await _merge(connection, settings, list(_neighbours(rows)))
        if len(rows) < CHUNK:
            yield until
            return
        place = (rows[-1].stored_at, rows[-1].batch_id)
        yield place[0]


async def _next_rows(
    connection: AsyncConnection, settings: Settings, place: tuple[datetime, str], until: datetime
) -> Sequence[Row[Any]]:
    """Locked: a batch that is delivered again meanwhile is counted before, or noted afterwards."""
    table = ledger_table(settings)
    columns = table.c
    is_next = tuple_(columns.stored_at, columns.batch_id) > tuple_(literal(place[0], Moment), place[1])
    is_old = columns.stored_at < literal(until, Moment)
    order = (columns.stored_at, columns.batch_id)
    # The first condition is in the second, and the planner estimates it better.
    query = select(table).where(columns.stored_at >= literal(place[0], Moment), is_next, is_old)
    return (await connection.execute(query.order_by(*order).limit(CHUNK).with_for_update())).all()


async def _merge(connection: AsyncConnection, settings: Settings, groups: Sequence[list[Row[Any]]]) -> None:
    table = ledger_table(settings)
    gone = [row.batch_id for group in groups for row in group]
    if gone:
        await connection.execute(delete(table).where(table.c.batch_id.in_(gone)))
        await connection.execute(insert(table), [_merged(group) for group in groups])


def _neighbours(rows: Iterable[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """The rows that are to be merged, as one list for each row that becomes of them."""
    kinds = defaultdict(list)
    for row in rows:
        kinds[_kind(row)].append(row)
    for alike in kinds.values():
        groups: list[list[Row[Any]]] = []
        for row in sorted(alike, key=attrgetter("first")):
            if groups and _follows(row, groups[-1]):
                groups[-1].append(row)
            else:
                groups.append([row])
        yield from (group for group in groups if len(group) > 1)


def _kind(row: Row[Any]) -> tuple[Any, ...]:
    """What is the same in all rows that become one."""
    is_timed = row.oldest_at is not None and row.newest_at is not None
    late_seconds = (row.stored_at - row.newest_at).total_seconds() if is_timed else 0.0
    lateness = bisect_right(_LATENESS_SECONDS, late_seconds)
    alone = row.batch_id if row.dead_lettered else ""
    return row.process, row.stored_at.date(), row.deliveries, is_timed, lateness, alone


def _follows(row: Row[Any], group: Sequence[Row[Any]]) -> bool:
    end: int = row.first + row.entries
    is_next: bool = group[-1].first + group[-1].entries == row.first
    return is_next and end - group[0].first <= _MOST_ENTRIES


def _merged(group: Sequence[Row[Any]]) -> dict[str, Any]:
    """One row instead of these; as late as they were, because both times are the last ones."""
    values = group[0]._asdict()
    # A new id: the batch whose id it was may come again, and is not all of this.
    values |= {"batch_id": str(uuid4()), "entries": sum(row.entries for row in group)}
    for name, choose in (("oldest_at", min), ("newest_at", max), ("stored_at", max)):
        moments = [moment for row in group if (moment := getattr(row, name)) is not None]
        values[name] = choose(moments, default=None)
    return values
