"""`execution-logger db`: the tables."""

import asyncio

import click

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
