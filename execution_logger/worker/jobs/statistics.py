"""The roll-up: counts the hours that are over, those that nobody has counted yet included."""

from datetime import datetime, timedelta

from execution_logger.read.overview import oldest_entry_at
from execution_logger.read.statistics import HOUR, count_hour, last_hour, replace_hour
from execution_logger.store.engine import be_patient, transaction
from execution_logger.store.faults import attempt
from execution_logger.store.table import look_up_table
from execution_logger.worker.jobs.job import Slice

HOURS_AGAIN = 3
"""Of the hours that were counted, the last ones are counted once more: entries come late."""

FIRST_DAYS = 15
"""How far it goes back the first time: for a report on a week and the one before."""


async def roll_up_statistics(piece: Slice) -> bool:
    """Count hour by hour, up to the last one that is over.

    Raises:
        StoreUnavailableError: the database cannot be used now, or takes too long for an hour.
    """
    end = _hour_of(piece.started_at)
    hour = await _first_hour(piece, end)
    piece.summary.setdefault("hours", 0)
    while hour < end:
        await _roll_up(piece, hour)
        hour += HOUR
        piece.summary["hours"] += 1
        piece.summary["until"] = hour.isoformat(timespec="minutes")
        if hour < end and not piece.has_time():
            return False
    return True


async def _first_hour(piece: Slice, end: datetime) -> datetime:
    if done := piece.summary.get("until"):
        return datetime.fromisoformat(done)
    timeout_seconds = piece.settings.database_timeout_seconds
    async with attempt(piece.engine, timeout_seconds), piece.engine.connect() as connection:
        last = await last_hour(connection, piece.settings)
        if last is not None:
            return last - (HOURS_AGAIN - 1) * HOUR
        oldest = await oldest_entry_at(connection, piece.settings)
    return max(_hour_of(oldest), end - timedelta(days=FIRST_DAYS)) if oldest else end - HOUR


async def _roll_up(piece: Slice, hour: datetime) -> None:
    async with attempt(piece.engine, piece.limit_seconds), transaction(piece.engine) as connection:
        await be_patient(connection, piece.limit_seconds)
        table = await look_up_table(connection, piece.settings)
        statistics = await count_hour(connection, table, hour)
        await replace_hour(connection, piece.settings, hour, statistics)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
