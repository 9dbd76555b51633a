"""Making the tables, and bringing them up to date."""

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.dead_letters import dead_letter_table
from execution_logger.store.engine import transaction
from execution_logger.store.faults import attempt
from execution_logger.store.job_runs import job_run_table
from execution_logger.store.ledger import ledger_table
from execution_logger.store.statistics import statistics_table
from execution_logger.store.table import schema_and_name

# Two upgrades at the same time would both find that there is no table.
_LOCKS = {
    "postgresql": "SELECT pg_advisory_xact_lock(hashtext('execution_logger upgrade'))",
    "sqlite": "BEGIN IMMEDIATE",
}


async def upgrade(engine: AsyncEngine, settings: Settings) -> str:
    """Create the tables that are missing; any number of processes may do so at the same time.

    A table that the host made is left as it is.

    Returns:
        One line that says what was done.

    Raises:
        StoreUnavailableError: the database cannot be used now, or its user may not create tables.
    """
    timeout_seconds = settings.database_timeout_seconds
    async with attempt(engine, timeout_seconds), transaction(engine) as connection:
        await connection.execute(text(_LOCKS[connection.dialect.name]))
        return await connection.run_sync(_upgrade, settings)


def _upgrade(connection: Connection, settings: Settings) -> str:
    # Takes 0.1 s to import, and few processes upgrade.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    own = (dead_letter_table, ledger_table, job_run_table, statistics_table)
    names = (settings.table, *(table(settings).fullname for table in own))
    missing = [name for name in names if not _exists(connection, name)]
    config = Config()
    config.set_main_option("script_location", "execution_logger.store:migrations")
    config.attributes |= {"connection": connection, "settings": settings}
    if missing:
        # The version speaks of tables that were dropped since, or had another name.
        command.stamp(config, "base")
    command.upgrade(config, "head")
    done = [f"{name} {'created' if name in missing else 'is there already'}" for name in names]
    return ", ".join(done)


def _exists(connection: Connection, table: str) -> bool:
    schema, name = schema_and_name(table)
    return inspect(connection).has_table(name, schema)
