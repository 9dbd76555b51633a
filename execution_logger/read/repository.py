"""The repository: reads entries back, over a session of the host's."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from execution_logger.entry.encoder import EntryEncoder
from execution_logger.entry.entry import ERRORS, LogEntry
from execution_logger.levels import LEVEL_NAMES, known_level
from execution_logger.read.timeline import (
    Only,
    OperationPlace,
    is_of_run,
    newest_first,
    select_entries,
    select_places,
    to_entry,
    to_places,
)
from execution_logger.read.tree import Subtree
from execution_logger.settings import NOTHING, Settings
from execution_logger.store.insert import insert_entries
from execution_logger.store.ledger import Ledger
from execution_logger.store.schema import storable
from execution_logger.store.table import LogTable, look_up_table

_settings_of_environment = cache(partial(Settings.from_environment, uses=NOTHING))


class ExecutionLogRepository:
    """Reads and deletes the entries of `settings.table`, and creates single ones.

    It works in the session's transaction and never commits: that is the host's to do.

    Args:
        session: the host's; its database is the one that is read, not `settings.database_url`.
        settings: those of the environment by default.

    Raises:
        StoreUnavailableError: from every method: the table does not exist or cannot be used.
        sqlalchemy.exc.SQLAlchemyError: from every method, as from the session itself.
    """

    def __init__(self, session: AsyncSession, settings: Settings | None = None) -> None:
        self._session = session
        self._settings = settings or _settings_of_environment()

    async def list_by_trace(
        self,
        task_id: str,
        level: str | None = None,
        category: str | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        step: str | None = None,
        agent_name: str | None = None,
        operation_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        contains: str = "",
    ) -> list[LogEntry]:
        """The entries of a run, newest first; only those to which all that is given applies.

        Args:
            task_id: the run's.
            level: of this level.
            category: of this category.
            limit: no more than so many.
            offset: without the newest so many.
            step: of this step.
            agent_name: of this agent.
            operation_id: of this operation (a UUID), or of one within it, however deep. To know which those
                are, the ids of all operations of the run are read.
            since: made from then on; aware.
            until: made before then; aware.
            contains: with this text in the message, in the same case.

        Raises:
            ValueError: `operation_id` is no UUID, or a time has no time zone.
        """
        table = await self._table()
        named = (("category", category), ("step", step), ("agent_name", agent_name))
        conditions = [table.equals(field, name) for field, name in named if name is not None]
        only = Only(since=_aware(since), until=_aware(until), contains=storable(contains))
        if operation_id is not None:
            only = replace(only, operations=await self._beneath(table, task_id, str(UUID(operation_id))))
        conditions += only.conditions(table)
        if (known := known_level(level)) in LEVEL_NAMES:
            conditions.append(table.is_level(known))
        elif level is not None:
            conditions.append(table.equals("level", level))
        return await self._list(task_id, limit, offset, *conditions)

    async def get_error_logs(self, task_id: str, limit: int = 50) -> list[LogEntry]:
        """The errors of a run, critical ones included, newest first."""
        table = await self._table()
        return await self._list(task_id, limit, 0, table.is_level(*ERRORS))

    async def get_logs_summary(self, task_id: str) -> dict[str, Any]:
        """Numbers on a run: how many entries of each level and category, how long, from when to when.

        Returns:
            `task_id`, `level_stats` and `category_stats` (numbers by name), `total_duration_ms`,
            `first_log_at` and `last_log_at` (ISO 8601 in UTC, or None), `total_logs`.
        """
        table = await self._table()
        columns = table.columns
        kind, created_at = (columns["level"], columns["category"]), columns["created_at"]
        duration_ms = func.sum(table.value("duration_ms"))
        query = select(*kind, func.count(), duration_ms, func.min(created_at), func.max(created_at))
        query = query.where(table.equals("task_id", task_id)).group_by(*kind)
        groups = (await self._session.execute(query)).all()
        levels: Counter[str | None] = Counter()
        categories: Counter[str | None] = Counter()
        for level, category, number, *_ in groups:
            levels[table.to_text("level", level)] += number
            categories[table.to_text("category", category)] += number
        moments = [moment for *_, first, last in groups for moment in (first, last) if moment is not None]
        return {
            "task_id": task_id,
            "level_stats": dict(levels),
            "category_stats": dict(categories),
            "total_duration_ms": int(sum(milliseconds or 0 for _, _, _, milliseconds, *_ in groups)),
            "first_log_at": _iso(table, min(moments, default=None)),
            "last_log_at": _iso(table, max(moments, default=None)),
            "total_logs": levels.total(),
        }

    async def create_log(
        self,
        task_id: str,
        level: str,
        category: str,
        message: str,
        roadmap_id: str | None = None,
        concept_id: str | None = None,
        step: str | None = None,
        agent_name: str | None = None,
        details: dict[str, Any] | None = None,
        duration_ms: int | None = None,
    ) -> LogEntry:
        """Store one entry at once, masked and made safe like every other, and return it."""
        entry, encoded = self._encoder.make(
            task_id, known_level(level), category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms,
        )  # fmt: skip
        table = await self._table()
        await insert_entries(await self._session.connection(), table, f"[{encoded.decode()}]")
        return entry

    async def delete_logs_by_trace(self, task_id: str) -> int:
        """Delete the entries of a run, and return how many there were."""
        table = await self._table()
        return await self._delete(table, table.equals("task_id", task_id))

    async def delete_old_logs(self, days: float = 90) -> int:
        """Delete the entries that are older than `days`, and return how many there were.

        With them go the batches in the ledger of processes that ended before then.
        """
        table = await self._table()
        moment = datetime.now(UTC) - timedelta(days=days)
        connection = await self._session.connection()
        ledger = Ledger(self._settings)
        if await ledger.problem(connection, "SELECT", "DELETE") is None:
            while await ledger.delete_before(connection, moment):
                pass
        return await self._delete(table, *table.made(until=moment))

    @cached_property
    def _encoder(self) -> EntryEncoder:
        return EntryEncoder(self._settings)

    async def _table(self) -> LogTable:
        return await look_up_table(await self._session.connection(), self._settings)

    async def _beneath(self, table: LogTable, task_id: str, operation_id: str) -> set[str]:
        """The operation, and all within it."""
        subtree: Subtree[OperationPlace] = Subtree([operation_id])
        # No cursor: the host's session may be in AUTOCOMMIT, where PostgreSQL has none.
        places = await self._session.execute(select_places(table, task_id))
        subtree.take(to_places(places.all()))
        return subtree.operations

    async def _list(
        self, task_id: str, limit: int, offset: int, *conditions: ColumnElement[bool]
    ) -> list[LogEntry]:
        table = await self._table()
        query = newest_first(table, select_entries(table)).where(is_of_run(table, task_id), *conditions)
        rows = await self._session.execute(query.limit(limit).offset(offset))
        return [to_entry(table, row) for row in rows]

    async def _delete(self, table: LogTable, *conditions: ColumnElement[bool]) -> int:
        connection = await self._session.connection()
        return (await connection.execute(delete(table.table).where(*conditions))).rowcount


def _iso(table: LogTable, moment: datetime | None) -> str | None:
    utc = table.to_utc(moment)
    return None if utc is None else utc.isoformat()


def _aware(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; say which, as in datetime.now(UTC)")
    return moment
