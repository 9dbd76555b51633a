"""The retention: deletes what is older than `retention_days`, entries first; merges the ledger's batches."""

from datetime import datetime, timedelta

from execution_logger.store.compaction import AT_REST_AFTER, compact
from execution_logger.store.deletion import Deletion
from execution_logger.store.faults import attempt
from execution_logger.store.retention import Expiry, days_kept, has_time_index
from execution_logger.store.table import LogTable, look_up_table
from execution_logger.worker.jobs.job import Slice

STATISTICS_DAYS = 400
"""Statistics outlive their entries: a year and a month, to compare with."""

_OFF = "EXECUTION_LOGGER_RETENTION_DAYS=0 keeps everything"
_OFF_UNTIL_SET = (
    "the table is the host's own: nothing is deleted until EXECUTION_LOGGER_RETENTION_DAYS is set"
)


async def delete_expired(piece: Slice) -> bool:
    """Delete as much as there is time for; a run is finished when nothing is left that is too old.

    Raises:
        StoreUnavailableError: the database cannot be used now, or refuses to delete.
        StubbornRowsError: it does not delete what it should, and says nothing.
    """
    timeout_seconds = piece.settings.database_timeout_seconds
    async with attempt(piece.engine, timeout_seconds), piece.engine.connect() as connection:
        table = await look_up_table(connection, piece.settings)
    days = days_kept(piece.settings, table)
    if not days:
        piece.summary["off"] = _OFF if piece.settings.retention_days == 0 else _OFF_UNTIL_SET
        return await _compact(piece)
    if "before" not in piece.summary:
        _begin(piece, table, days)
    expiry = _expiry(piece, days)
    if not (await _delete_entries(piece, expiry) and await _compact(piece)):
        return False
    async for deleted in expiry.ledger():
        piece.summary["batches"] = piece.summary.get("batches", 0) + deleted
        if not piece.has_time():
            return False
    old_statistics = _expiry(piece, max(days, STATISTICS_DAYS)).statistics()
    return await _delete(piece, "dead_letters", expiry.dead_letters()) and await _delete(
        piece, "statistics", old_statistics
    )


async def _compact(piece: Slice) -> bool:
    """Whether all of the ledger is merged that can be; the health check does so with the last days'."""
    reached = piece.summary.get("compacted_until")
    since = datetime.fromisoformat(reached) if reached else None
    until = piece.started_at - AT_REST_AFTER
    async for at in compact(piece.engine, piece.settings, until, since, timeout_seconds=piece.limit_seconds):
        piece.summary["compacted_until"] = at.isoformat(timespec="microseconds")
        if at < until and not piece.has_time():
            return False
    return True


def _expiry(piece: Slice, days: int) -> Expiry:
    """The same in all slices, or the run would chase what becomes too old meanwhile."""
    before = piece.started_at - timedelta(days=days)
    return Expiry(piece.engine, piece.settings, before, timeout_seconds=piece.limit_seconds)


def _begin(piece: Slice, table: LogTable, days: int) -> None:
    before = piece.started_at - timedelta(days=days)
    piece.summary |= {"before": before.isoformat(timespec="seconds"), "entries": 0}
    if not has_time_index(table):
        piece.summary["advice"] = (
            f'"{piece.settings.table}" has no index that begins with created_at, so every chunk reads '
            f"the table: CREATE INDEX CONCURRENTLY ON {piece.settings.table} (created_at)"
        )


async def _delete_entries(piece: Slice, expiry: Expiry) -> bool:
    reached = piece.summary.get("reached")
    deletion = await expiry.entries(datetime.fromisoformat(reached) if reached else None)
    is_finished = await _delete(piece, "entries", deletion)
    if deletion.place is not None:
        piece.summary["reached"] = deletion.place.isoformat(timespec="microseconds")
    return is_finished


async def _delete(piece: Slice, kind: str, deletion: Deletion) -> bool:
    """Whether all of it is deleted."""
    async for deleted in deletion.chunks():
        piece.summary[kind] = piece.summary.get(kind, 0) + deleted
        if not piece.has_time():
            return False
    return True
