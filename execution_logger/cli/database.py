"""The database as the commands use it: a connection for as long as one runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.settings import DATABASE, Settings
from execution_logger.store import create_engine


@asynccontextmanager
async def open_database(
    who: str, timeout_seconds: float | None = None, *, settings: Settings | None = None
) -> AsyncIterator[tuple[AsyncEngine, Settings]]:
    """An engine with one connection, and the settings; the engine is disposed of in the end.

    Args:
        who: the command, for the error where no database is set.
        timeout_seconds: bounds each attempt; what the settings say by default.
        settings: those of the environment by default.

    Raises:
        SettingsError: a setting cannot be used, or there is no database.
    """
    settings = settings or Settings.from_environment(uses=DATABASE)
    settings.require_database(who)
    if timeout_seconds is not None:
        settings = replace(
            settings,
            database_timeout_seconds=timeout_seconds,
            visibility_timeout_seconds=max(settings.visibility_timeout_seconds, int(2 * timeout_seconds) + 1),
        )
    engine = create_engine(settings, pool_size=1)
    try:
        yield engine, settings
    finally:
        await engine.dispose()
