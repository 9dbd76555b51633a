"""The site: the settings, and the few connections that all requests of one event loop share.

A mounted application has no lifespan of its own. So the pool is opened by the first request, and closed when
nobody has asked for anything for a while.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.operate.watch import Watch
from execution_logger.read.timeline import Timeline
from execution_logger.settings import Settings
from execution_logger.store import create_engine
from execution_logger.store.faults import attempt

READ_SECONDS = 8.0
"""The longest that one look at the database takes."""
_CONNECTIONS = 4
_IDLE_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class _Pool:
    engine: AsyncEngine
    users: int = 0
    closing: asyncio.TimerHandle | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Site:
    """What all requests share.

    Args:
        settings: name the database and the tables.

    Raises:
        SettingsError: there is no database.
    """

    def __init__(self, settings: Settings) -> None:
        settings.require_database("the page")
        seconds = min(settings.database_timeout_seconds, READ_SECONDS)
        self.settings = replace(settings, database_timeout_seconds=seconds)
        self.watch = Watch(settings)
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[AsyncEngine]:
        """The engine of this event loop, for as long as it is used."""
        pool = self._pool()
        pool.users += 1
        if pool.closing is not None:
            pool.closing.cancel()
            pool.closing = None
        try:
            yield pool.engine
        finally:
            pool.users -= 1
            if not pool.users:
                loop = asyncio.get_running_loop()
                pool.closing = loop.call_later(_IDLE_SECONDS, self._close_idle, pool)

    @asynccontextmanager
    async def timeline(self, task_id: str | None) -> AsyncIterator[Timeline]:
        """The entries of a run, or of all."""
        async with self.engine() as engine:
            yield Timeline(engine, self.settings, task_id)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection, for one look."""
        seconds = self.settings.database_timeout_seconds
        async with self.engine() as engine, attempt(engine, seconds), engine.connect() as connection:
            yield connection

    async def close(self) -> None:
        """Close the connections of this event loop; the next request opens others."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            if pool.closing is not None:
                pool.closing.cancel()
            await pool.engine.dispose()

    def _pool(self) -> _Pool:
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            self._pools[loop] = _Pool(create_engine(self.settings, pool_size=_CONNECTIONS))
        return self._pools[loop]

    def _close_idle(self, pool: _Pool) -> None:
        task = asyncio.ensure_future(pool.engine.dispose())
        pool.tasks.add(task)  # the loop itself keeps none
        task.add_done_callback(pool.tasks.discard)
