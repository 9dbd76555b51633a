"""A database with runs in it, and the command on it."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from batches import encoded
from execution_logger.cli import main
from sqlite_site import SqliteSite, make_tables


class StoredRuns:
    """A SQLite file with the library's tables; entries are stored as a worker does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {"DATABASE_URL": f"sqlite:///{path}"}
        make_tables(path)

    def run(self, *arguments: str, **environment: str) -> Result:
        """The outcome of a command."""
        return CliRunner().invoke(main, list(arguments), env={**self.environment, **environment})

    def store(self, *entries: str) -> None:
        """Write these in one batch."""

        async def write() -> None:
            async with SqliteSite(self.path) as site:
                await site.write(*entries)

        # A thread of its own, because the caller may be inside an event loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, write()).result()

    def store_run(self, task_id: str, *levels: str, age_seconds: float = 60.0, **changed: Any) -> None:
        """A run with an entry a second, the first one that old; each message is its number."""
        start = datetime.now(UTC) - timedelta(seconds=age_seconds)
        self.store(
            *(
                encoded(
                    task_id=task_id,
                    level=level,
                    message=str(number),
                    created_at=(start + timedelta(seconds=number)).isoformat(),
                    **changed,
                )
                for number, level in enumerate(levels)
            )
        )

    def execute(self, script: str) -> None:
        """Change the file without the library."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(script)
