"""Who is connected to the database: counted, not claimed."""

import os
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

_YOUNGER_ONES = """
SELECT count(*) FROM pg_stat_activity AS other, pg_stat_activity AS own
WHERE own.pid = pg_backend_pid() AND other.datname = own.datname
AND other.application_name = own.application_name AND other.backend_start > own.backend_start
"""


class HostConnections:
    """Counts how often this process uses a database connection, other than to look at the result.

    Args:
        observer: the engine that looks.
    """

    def __init__(self, observer: AsyncEngine) -> None:
        self.count = 0
        self._observer = observer.sync_engine
        event.listen(Engine, "engine_connect", self._connected)

    def close(self) -> None:
        """Stop counting."""
        event.remove(Engine, "engine_connect", self._connected)

    def _connected(self, connection: Connection, *_: Any) -> None:
        if connection.engine.pool is not self._observer.pool:
            self.count += 1


async def worker_connections(observer: AsyncEngine, worker_pid: int) -> int | None:
    """How many connections the worker has; None where that cannot be found out.

    PostgreSQL is asked for the library's connections that are younger than the observer's. A SQLite
    file is looked for among the files that the worker's processes have open, which Linux tells.
    """
    if observer.dialect.name == "postgresql":
        async with observer.connect() as connection:
            return int((await connection.execute(text(_YOUNGER_ONES))).scalar_one())
    return _times_open(observer.url.database or "", worker_pid)


def _times_open(path: str, pid: int) -> int | None:
    process, path = Path("/proc", str(pid)), os.path.realpath(path)
    try:
        children = (process / "task" / str(pid) / "children").read_text().split()
        own = sum(os.path.realpath(link) == path for link in (process / "fd").iterdir())
    except OSError:  # no Linux, or the process has just ended
        return None
    return own + sum(_times_open(path, int(child)) or 0 for child in children)
