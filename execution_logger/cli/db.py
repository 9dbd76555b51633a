"""`execution-logger db`: the tables; and the database as the commands use it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.settings import DATABASE, Settings
from execution_logger.store import create_engine, upgrade
from execution_logger.text import printable


@click.group()
def command() -> None:
    """Look after the tables."""


@command.command("upgrade")
def upgrade_command() -> None:
    """Create the tables that are missing, and bring the library's own up to date.

    A table of that name which the application made itself is used as it is.
    """
    settings = Settings.from_environment(uses=DATABASE)
    settings.require_database("db upgrade")
    click.echo(printable(asyncio.run(upgrade_database(settings))))
    click.echo("Nothing else in the database was touched.")


async def upgrade_database(settings: Settings) -> str:
    """Run the migration over a connection of its own; return its report.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    engine = create_engine(settings, pool_size=1)
    try:
        return await upgrade(engine, settings)
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_database(
    who: str, timeout_seconds: float | None = None
) -> AsyncIterator[tuple[AsyncEngine, Settings]]:
    """An engine with one connection, and the settings; the engine is disposed of in the end.

    Args:
        who: the command, for the error where no database is set.
        timeout_seconds: bounds each attempt; what the settings say by default.

    Raises:
        SettingsError: a setting cannot be used, or there is no database.
    """
    settings = Settings.from_environment(uses=DATABASE)
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
