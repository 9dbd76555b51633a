"""A SQLite database that batches are written to."""

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from batches import batch
from execution_logger.settings import Settings
from execution_logger.store import Writer, WriteResult, create_engine
from rows import upgrade_database


def make_tables(path: Path) -> None:
    """Have a new file hold what `execution-logger db upgrade` makes: run once a process, and copied."""
    with path.open("xb") as file:
        file.write(_file_with_tables())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("UPDATE execution_log_job_runs SET known_since = datetime('now')")


@cache
def _file_with_tables() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "logs.db"
        upgrade_database(f"sqlite:///{path}")
        return path.read_bytes()


class SqliteSite:
    """A SQLite file, a writer on it, and a look at it from outside."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        self.settings = Settings(database_url=f"sqlite:///{path}", **settings)
        self.engine = create_engine(self.settings, pool_size=4)
        self.writer = Writer(self.engine, self.settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.dispose()

    async def write(self, *entries: str, batch_id: str = "b") -> WriteResult:
        """Write a batch of these."""
        return await self.writer.write(batch_id, batch(*entries))

    def rows(self, statement: str = "SELECT * FROM execution_logs ORDER BY rowid") -> list[dict[str, Any]]:
        """What is in the file, read without the library."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]

    def dead(self) -> list[dict[str, Any]]:
        """The dead letters."""
        return self.rows("SELECT * FROM execution_log_dead_letters ORDER BY rowid")

    def execute(self, script: str) -> None:
        """Change the file without the library."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(script)
