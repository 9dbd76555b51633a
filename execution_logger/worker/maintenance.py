"""What keeps the tables small and quick to ask: the retention, and the statistics of each hour."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from execution_logger.read.overview import oldest_entry_at
from execution_logger.read.statistics import HOUR, count_hour, last_hour, replace_hour
from execution_logger.store.compaction import AT_REST_AFTER, compact
from execution_logger.store.deletion import Deletion, Expiry, days_kept, has_time_index
from execution_logger.store.engine import patient_transaction
from execution_logger.store.table import LogTable, look_up_table

if TYPE_CHECKING:  # the jobs know what each does
    from execution_logger.worker.jobs import Tick

STATISTICS_DAYS = 400
"""Statistics outlive their entries: a year and a month, to compare with."""

LEDGER_DAYS = 400
"""Where entries are kept for ever: a process leaves a row a day, and short ones are many."""

HOURS_AGAIN = 3
"""Of the hours that were counted, the last ones are counted once more: entries come late."""

FIRST_DAYS = 15
"""How far it goes back the first time: for a week and the one before, to compare."""

_OFF = "EXECUTION_LOGGER_RETENTION_DAYS=0 keeps everything"
_OFF_UNTIL_SET = (
    "the table is the host's own: nothing is deleted until EXECUTION_LOGGER_RETENTION_DAYS is set"
)


async def delete_expired(tick: "Tick") -> bool:
    """Delete what is older than `retention_days`, as much as there is time for; merge the ledger's batches.

    A run is finished when nothing is left that is too old.

    Raises:
        StoreUnavailableError: the database cannot be used now, or refuses to delete.
        StubbornRowsError: it does not delete what it should, and says nothing.
    """
    async with tick.connection() as connection:
        table = await look_up_table(connection, tick.settings)
    days = days_kept(tick.settings, table)
    if not days:
        tick.summary["off"] = _OFF if tick.settings.retention_days == 0 else _OFF_UNTIL_SET
        return await _compact(tick) and await _delete_batches(tick, _expiry(tick, LEDGER_DAYS))
    if "before" not in tick.summary:
        _begin(tick, table, days)
    expiry = _expiry(tick, days)
    old_statistics = _expiry(tick, max(days, STATISTICS_DAYS)).statistics()
    return (
        await _delete_entries(tick, expiry)
        and await _compact(tick)
        and await _delete_batches(tick, expiry)
        and await _delete(tick, "dead_letters", expiry.dead_letters())
        and await _delete(tick, "statistics", old_statistics)
    )


async def _compact(tick: "Tick") -> bool:
    """Whether all of the ledger is merged that can be; the health check does so with the last days'."""
    reached = tick.summary.get("compacted_until")
    since = datetime.fromisoformat(reached) if reached else None
    until = tick.started_at - AT_REST_AFTER
    async for at in compact(tick.engine, tick.settings, until, since, timeout_seconds=tick.limit_seconds):
        tick.summary["compacted_until"] = at.isoformat(timespec="microseconds")
        if at < until and not tick.has_time():
            return False
    return True


async def _delete_batches(tick: "Tick", expiry: Expiry) -> bool:
    async for deleted in expiry.ledger():
        tick.summary["batches"] = tick.summary.get("batches", 0) + deleted
        if not tick.has_time():
            return False
    return True


def _expiry(tick: "Tick", days: int) -> Expiry:
    """The same in all ticks, or the run would chase what becomes too old meanwhile."""
    before = tick.started_at - timedelta(days=days)
    return Expiry(tick.engine, tick.settings, before, timeout_seconds=tick.limit_seconds)


def _begin(tick: "Tick", table: LogTable, days: int) -> None:
    before = tick.started_at - timedelta(days=days)
    tick.summary |= {"before": before.isoformat(timespec="seconds"), "entries": 0}
    if not has_time_index(table):
        tick.summary["advice"] = (
            f'"{tick.settings.table}" has no index that begins with created_at, so every chunk reads '
            f"the table: CREATE INDEX CONCURRENTLY ON {tick.settings.table} (created_at)"
        )


async def _delete_entries(tick: "Tick", expiry: Expiry) -> bool:
    reached = tick.summary.get("reached")
    deletion = await expiry.entries(datetime.fromisoformat(reached) if reached else None)
    is_finished = await _delete(tick, "entries", deletion)
    if deletion.place is not None:
        tick.summary["reached"] = deletion.place.isoformat(timespec="microseconds")
    return is_finished


async def _delete(tick: "Tick", kind: str, deletion: Deletion) -> bool:
    """Whether all of it is deleted."""
    async for deleted in deletion.chunks():
        tick.summary[kind] = tick.summary.get(kind, 0) + deleted
        if not tick.has_time():
            return False
    return True


async def roll_up_statistics(tick: "Tick") -> bool:
    """Count hour by hour, up to the last one that is over.

    Raises:
        StoreUnavailableError: the database cannot be used now, or takes too long for an hour.
    """
    end = _hour_of(tick.started_at)
    hour = await _first_hour(tick, end)
    tick.summary.setdefault("hours", 0)
    while hour < end:
        await _roll_up(tick, hour)
        hour += HOUR
        tick.summary["hours"] += 1
        tick.summary["until"] = hour.isoformat(timespec="minutes")
        if hour < end and not tick.has_time():
            return False
    return True


async def _first_hour(tick: "Tick", end: datetime) -> datetime:
    if done := tick.summary.get("until"):
        return datetime.fromisoformat(done)
    async with tick.connection() as connection:
        last = await last_hour(connection, tick.settings)
        if last is not None:
            return last - (HOURS_AGAIN - 1) * HOUR
        oldest = await oldest_entry_at(connection, tick.settings)
    return max(_hour_of(oldest), end - timedelta(days=FIRST_DAYS)) if oldest else end - HOUR


async def _roll_up(tick: "Tick", hour: datetime) -> None:
    async with patient_transaction(tick.engine, tick.limit_seconds) as connection:
        table = await look_up_table(connection, tick.settings)
        statistics = await count_hour(connection, table, hour)
        await replace_hour(connection, tick.settings, hour, statistics)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
