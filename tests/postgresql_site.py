"""A PostgreSQL database that batches are written to."""

import asyncio
from typing import Any, Self

from batches import batch
from execution_logger.settings import Settings
from execution_logger.store import Writer, WriteResult, create_engine
from rows import fetch


class PostgresqlSite:
    """A database, a writer on it (whose URL may have a query), and a look at it from outside."""

    def __init__(self, url: str, query: str = "", *, pool_size: int = 4, **settings: Any) -> None:
        self.url = url
        self.settings = Settings(database_url=url + query, **settings)
        self.engine = create_engine(self.settings, pool_size=pool_size)
        self.writer = Writer(self.engine, self.settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.dispose()

    async def write(self, *entries: str, batch_id: str = "b") -> WriteResult:
        """Write a batch of these."""
        return await self.writer.write(batch_id, batch(*entries))

    async def rows(self, statement: str = "SELECT * FROM execution_logs ORDER BY id") -> list[dict[str, Any]]:
        """What is in the database, read without the library."""
        return await asyncio.to_thread(fetch, self.url, statement)

    async def dead(self) -> list[dict[str, Any]]:
        """The dead letters."""
        return await self.rows("SELECT * FROM execution_log_dead_letters ORDER BY created_at")
