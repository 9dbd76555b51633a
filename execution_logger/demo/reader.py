"""Reads back what has arrived in the database."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from execution_logger.entry.entry import LogEntry
from execution_logger.settings import Settings
from execution_logger.store import ExecutionLogRepository, create_engine
from execution_logger.store.faults import attempt

_EVERYTHING = 1_000_000


class StoredEntries:
    """The entries of some runs, over a connection of its own.

    Args:
        settings: name the database and the table.
        task_ids: the runs.

    Raises:
        StoreUnavailableError: from every method: the database cannot be used now.
    """

    def __init__(self, settings: Settings, task_ids: Sequence[str]) -> None:
        self.engine = create_engine(settings, pool_size=1)
        self._settings = settings
        self._task_ids = task_ids

    async def count(self) -> int:
        """How many rows there are."""
        async with self._repository() as repository:
            summaries = [await repository.get_logs_summary(task_id) for task_id in self._task_ids]
        return sum(summary["total_logs"] for summary in summaries)

    async def ids(self) -> list[str]:
        """The ids of all rows."""
        return [entry.id for task_id in self._task_ids for entry in await self.of(task_id)]

    async def of(self, task_id: str) -> list[LogEntry]:
        """The entries of a run in their order."""
        async with self._repository() as repository:
            return (await repository.list_by_trace(task_id, limit=_EVERYTHING))[::-1]

    async def delete(self) -> None:
        """Delete all of them."""
        async with self._repository() as repository:
            for task_id in self._task_ids:
                await repository.delete_logs_by_trace(task_id)

    async def close(self) -> None:
        """Close the connection."""
        await self.engine.dispose()

    @asynccontextmanager
    async def _repository(self) -> AsyncIterator[ExecutionLogRepository]:
        timeout_seconds = self._settings.database_timeout_seconds
        async with (
            attempt(self.engine, timeout_seconds),
            AsyncSession(self.engine) as session,
            session.begin(),
        ):
            yield ExecutionLogRepository(session, self._settings)
