"""What is in the database, read by a connection of the test's own."""

import asyncio
import json
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import asyncpg

from execution_logger import Settings
from execution_logger.store import create_engine
from execution_logger.store.migrate import upgrade

_T = TypeVar("_T")


def upgrade_database(url: str) -> str:
    """Make the library's tables, as `execution-logger db upgrade` does; its report."""

    async def run() -> str:
        settings = Settings(database_url=url)
        engine = create_engine(settings, pool_size=1)
        try:
            return await upgrade(engine, settings)
        finally:
            await engine.dispose()

    return _in_thread(run())


def fetch(url: str, statement: str, *arguments: Any) -> list[dict[str, Any]]:
    """The rows of a statement."""

    async def run() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(url, timeout=60)
        try:
            await connection.set_type_codec(
                "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
            )
            return [dict(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    return _in_thread(run())


def count_rows(url: str) -> int:
    """How many entries are stored."""
    return int(fetch(url, "SELECT count(*) AS n FROM execution_logs")[0]["n"])


def messages_in_order(url: str, task_id: str) -> list[str]:
    """The messages of a run, in the order in which its rows are read back."""
    statement = "SELECT message FROM execution_logs WHERE task_id = $1 ORDER BY created_at, id"
    return [row["message"] for row in fetch(url, statement, task_id)]


def _in_thread(coroutine: Coroutine[Any, Any, _T]) -> _T:
    # A thread of its own, because the caller may be inside an event loop.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
