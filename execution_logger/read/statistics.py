"""The statistics: what was logged in each hour, a few rows that are read instead of millions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.entry.entry import ERRORS
from execution_logger.read.place import MICROSECOND
from execution_logger.settings import Settings
from execution_logger.store.schema import statistics_table
from execution_logger.store.table import LogTable

HOUR = timedelta(hours=1)

_Counts = Counter[tuple[str, str, bool]]

ALL = "all"
MOST_COUNTED_NOW = 50_000
"""Entries of hours that nobody has counted yet, which are counted when somebody asks."""
MOST_HOURS_NOW = 48
"""Such hours."""

MOST_NAMES = 100
"""Of the steps and of the agents of an hour, those with the most entries."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """What was logged in an hour, in all or by one name.

    Attributes:
        hour: its beginning, in UTC.
        dimension: `all`, `level`, `category`, `step` or `agent`.
        name: of the level, the step and so on; empty for `all`.
        entries: how many.
        errors: those of the levels `error` and `critical`.
        runs: how many runs began in it (their first entry is of this hour); only for `all`.
        timed: entries with a duration; counted for steps and agents.
        p50_ms: the median of these, None without any.
        p95_ms: what 95 % of these do not exceed.
    """

    hour: datetime
    dimension: str
    name: str
    entries: int
    errors: int
    runs: int | None = None
    timed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None


async def count_hour(connection: AsyncConnection, table: LogTable, hour: datetime) -> list[Statistic]:
    """Count what the table has of the hour that begins then (in UTC)."""
    is_in = sa.and_(*table.made(hour, hour + HOUR))
    counts = await _count(connection, table, is_in)
    if not counts:  # as those before the first entry, which are many when it was imported
        return list(_sums(hour, counts, runs=0))
    runs = (await connection.execute(_runs_begun(table, hour, is_in))).scalar_one()
    statistics = list(_sums(hour, counts, runs))
    for dimension, field in (("step", "step"), ("agent", "agent_name")):
        statistics += await _durations(connection, table, hour, is_in, dimension, field)
    return statistics


async def replace_hour(
    connection: AsyncConnection, settings: Settings, hour: datetime, statistics: Sequence[Statistic]
) -> None:
    """Store the statistics of an hour instead of those that there are, in the connection's transaction."""
    table = statistics_table(settings)
    await connection.execute(sa.delete(table).where(table.c.hour == hour))
    await connection.execute(sa.insert(table), [asdict(each) for each in statistics])


async def read_statistics(
    connection: AsyncConnection, settings: Settings, since: datetime, until: datetime
) -> list[Statistic]:
    """Those of the hours from `since` up to `until`, without that one."""
    table = statistics_table(settings)
    query = sa.select(table).where(table.c.hour >= since, table.c.hour < until).order_by(*table.primary_key)
    return [Statistic(*row) for row in await connection.execute(query)]


async def count_latest(
    connection: AsyncConnection, table: LogTable, after: datetime | None, since: datetime, until: datetime
) -> tuple[list[Statistic], datetime]:
    """Count the latest hours, which no job has counted yet, as far as they are quickly counted.

    Args:
        connection: to the database; nothing is stored.
        table: of the entries.
        after: the last hour that was counted; None where none was.
        since: (aware) no hour before this time.
        until: (aware) no hour from this time on.

    Returns:
        The statistics in the order of their hours, and until when all is counted if `after` goes on there.
    """
    hour, found, left = _hour_of(until - MICROSECOND), list[Statistic](), MOST_COUNTED_NOW
    begins_at = max(_hour_of(since), hour - MOST_HOURS_NOW * HOUR)
    if after is not None:
        begins_at = max(begins_at, after + HOUR)
    counted_from = hour + HOUR
    while hour >= begins_at:
        entries = sa.select(sa.literal(1)).select_from(table.table).where(*table.made(hour, hour + HOUR))
        some = sa.select(sa.func.count()).select_from(entries.limit(left + 1).subquery())
        left -= (await connection.execute(some)).scalar_one()
        if left < 0:
            break
        found = [each for each in await count_hour(connection, table, hour) if each.entries] + found
        counted_from = hour
        hour -= HOUR
    return found, counted_from


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


async def last_hour(connection: AsyncConnection, settings: Settings) -> datetime | None:
    """The last one that was counted."""
    table = statistics_table(settings)
    found: datetime | None = (await connection.execute(sa.select(sa.func.max(table.c.hour)))).scalar_one()
    return found


async def _count(connection: AsyncConnection, table: LogTable, is_in: sa.ColumnElement[bool]) -> _Counts:
    """Entries by dimension, name, and whether they are errors."""
    level, category = table.columns["level"], table.columns["category"]
    query = sa.select(level, category, sa.func.count()).where(is_in).group_by(level, category)
    counts: _Counts = Counter()
    for level_value, category_value, number in await connection.execute(query):
        names = {
            ALL: "",
            "level": table.to_text("level", level_value) or "",
            "category": table.to_text("category", category_value) or "",
        }
        for dimension, name in names.items():
            counts[dimension, name, names["level"] in ERRORS] += number
    return counts


def _sums(hour: datetime, counts: _Counts, runs: int) -> Iterator[Statistic]:
    """An hour without entries has a row as well: it was looked at."""
    for dimension, name in dict.fromkeys([(ALL, ""), *((each[0], each[1]) for each in counts)]):
        errors = counts[dimension, name, True]
        entries = counts[dimension, name, False] + errors
        yield Statistic(hour, dimension, name, entries, errors, runs if dimension == ALL else None)


def _runs_begun(table: LogTable, hour: datetime, is_in: sa.ColumnElement[bool]) -> Any:
    """How many runs have an entry in the hour and none before it."""
    task_id, created_at = table.columns["task_id"], table.columns["created_at"]
    seen = sa.select(task_id.label("task_id")).where(is_in).distinct().subquery()
    earlier = table.table.alias("earlier")
    is_older = sa.and_(
        earlier.c[task_id.name] == seen.c.task_id, earlier.c[created_at.name] < table.from_utc(hour)
    )
    return sa.select(sa.func.count()).select_from(seen).where(~sa.exists().where(is_older))


async def _durations(
    connection: AsyncConnection,
    table: LogTable,
    hour: datetime,
    is_in: sa.ColumnElement[bool],
    dimension: str,
    field: str,
) -> list[Statistic]:
    """By step or by agent: how many entries, and how long the median and the slow ones took.

    Percentiles are interpolated between two neighbours, as `percentile_cont` of PostgreSQL does; SQLite
    has nothing of that kind, so both count along the durations in their order.
    """
    rows = _ranked(table, is_in, field)
    columns = rows.c
    query = (
        sa.select(
            columns.name,
            sa.func.count().label("entries"),
            sa.func.sum(columns.is_error),
            sa.func.count(columns.duration_ms),
            _percentile(rows, 50),
            _percentile(rows, 95),
        )
        .group_by(columns.name)
        .order_by(sa.func.count().desc(), columns.name)
        .limit(MOST_NAMES)
    )
    return [
        Statistic(
            hour,
            dimension,
            table.to_text(field, name) or "",
            entries,
            int(errors),
            timed=timed,
            p50_ms=None if p50_ms is None else float(p50_ms),
            p95_ms=None if p95_ms is None else float(p95_ms),
        )
        for name, entries, errors, timed, p50_ms, p95_ms in await connection.execute(query)
    ]


def _ranked(table: LogTable, is_in: sa.ColumnElement[bool], field: str) -> Any:
    """The hour's entries that have a name, with the rank of each duration among those of its name."""
    name, duration_ms = table.value(field), table.value("duration_ms")
    within_name = sa.and_(is_in, name.is_not(None))
    return (
        sa.select(
            name.label("name"),
            duration_ms.label("duration_ms"),
            sa.case((table.is_level(*ERRORS), 1), else_=0).label("is_error"),
            # Those without a duration come last, and are not counted.
            (sa.func.row_number().over(partition_by=name, order_by=duration_ms.asc().nulls_last()) - 1).label(
                "rank"
            ),
            sa.func.count(duration_ms).over(partition_by=name).label("number"),
        )
        .where(within_name)
        .subquery()
    )


def _percentile(rows: Any, percent: int) -> sa.ColumnElement[Any]:
    """The value at `percent` of the way from the first to the last, between the two that are next to it."""
    hundredths = (rows.c.number - 1) * percent
    below, fraction = hundredths // 100, (hundredths % 100) / 100.0
    low = sa.func.max(sa.case((rows.c.rank == below, rows.c.duration_ms)))
    high = sa.func.max(sa.case((rows.c.rank == below + 1, rows.c.duration_ms)))
    share = sa.func.max(fraction)
    return low + sa.func.coalesce(high - low, 0) * share
