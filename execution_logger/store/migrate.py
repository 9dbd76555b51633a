"""Making the tables, and bringing them up to date."""

from collections.abc import Mapping

from sqlalchemy import Connection, Table, TableClause, column, insert, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateIndex, DropIndex

from execution_logger.settings import NOTHING, Settings
from execution_logger.store.engine import patient_transaction
from execution_logger.store.faults import attempt
from execution_logger.store.ledger import missing_indexes
from execution_logger.store.schema import (
    DEAD_LETTERS,
    OWN_TABLES,
    STATISTICS,
    USUAL_NAME,
    index_names,
    schema_and_name,
    table_beside,
)
from execution_logger.store.table import FIELDS, MARK

VERSION_TABLE = "execution_logger_alembic_version"
"""The usual name of that with the tables' version; `alembic_version` is the host's."""

_EARLIER = ("0001", "0002")
"""Versions of the tables whose migrations became one."""
_TAKEN_OVER = (DEAD_LETTERS, STATISTICS)
"""What would be missed; the ledger may be large, and the job runs begin anew."""
_UPGRADE_SECONDS = 600.0  # an earlier version may have left many dead letters
_INDEX_SECONDS = 3600  # 25 million batches take minutes
_INDEXING = "hashtext('execution_logger index')"

# Two upgrades at the same time would both find that there is no table.
_LOCKS = {
    "postgresql": "SELECT pg_advisory_xact_lock(hashtext('execution_logger upgrade'))",
    "sqlite": "BEGIN IMMEDIATE",
}


async def upgrade(engine: AsyncEngine, settings: Settings) -> str:
    """Create the tables that are missing; any number of processes may do so at the same time.

    A table that the host made is left as it is. The database has to answer within
    `settings.database_timeout_seconds`; all the work, and waiting for another upgrade, may take ten minutes.

    Returns:
        One line that says what was done.

    Raises:
        StoreUnavailableError: the database cannot be used now, or its user may not create tables.
    """
    async with attempt(engine, settings.database_timeout_seconds), engine.connect():
        pass  # it answers
    async with patient_transaction(engine, _UPGRADE_SECONDS) as connection:
        await connection.execute(text(_LOCKS[connection.dialect.name]))
        done = await connection.run_sync(_upgrade, settings)
    await _index_ledger(engine, settings)
    return done


def version_table(settings: Settings) -> TableClause:
    """Where the version of the tables beside `settings.table`, and of that one, is noted."""
    schema, name = table_beside(settings, VERSION_TABLE)
    return table(name, column("version_num"), schema=schema)


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """For `include_name` of `context.configure` in a host's Alembic: leaves our tables to `db upgrade`.

    Without it `alembic revision --autogenerate` drops them, because the host's models do not have them.
    The table of the entries (`EXECUTION_LOGGER_TABLE`) is compared when the host has a model of it; where
    `db upgrade` has made it, the columns and indexes of ours that the model does not have are left alone.

    Returns:
        Whether Alembic is to compare it with the models.
    """
    table_name = name if type_ == "table" else parent_names.get("table_name")
    if name is None or table_name is None:
        return True
    own = (VERSION_TABLE, *OWN_TABLES)
    if type_ == "table" and any(name == each or name.startswith(f"{each}_") for each in own):
        return False
    schema, entries = schema_and_name(Settings.from_environment(uses=NOTHING).table)
    if table_name != entries or (schema is not None and schema != parent_names.get("schema_name")):
        return True
    model = _model_of_host(parent_names.get("schema_qualified_table_name"))
    if type_ == "table" or model is None:
        return model is not None
    return not _is_left_alone(name, type_, model)


def _is_left_alone(name: str, type_: str, model: Table) -> bool:
    """Whether `db upgrade` has made this column or index, and the model does not have it."""
    ours = {"column": FIELDS, "index": index_names(model.name)}.get(type_, ())
    theirs = {each.name for each in (*model.columns, *model.indexes)}
    return name in ours and name not in theirs and _is_own(model)


def _is_own(model: Table) -> bool:
    from alembic import context  # noqa: PLC0415

    checks = inspect(context.get_bind()).get_check_constraints(model.name, model.schema)
    return MARK in {check["name"] for check in checks}


def _model_of_host(name: str | None) -> Table | None:
    """The model of a table among those that Alembic compares with."""
    from alembic import context  # noqa: PLC0415

    metadata = context.get_context().opts.get("target_metadata")
    models = metadata if isinstance(metadata, list | tuple) else [metadata] if metadata is not None else []
    return next((each.tables[name] for each in models if name in each.tables), None)


async def _index_ledger(engine: AsyncEngine, settings: Settings) -> None:
    """Give the ledger of an earlier version its indexes, however large it is; it can be written meanwhile."""
    async with attempt(engine, _INDEX_SECONDS), engine.connect() as usual:
        connection = await usual.execution_options(isolation_level="AUTOCOMMIT")
        missing = await connection.run_sync(missing_indexes, settings)
        if not missing or not await _begin_indexing(connection):
            return
        try:
            for index in missing:
                # An attempt may have left half of it.
                await connection.execute(DropIndex(index, if_exists=True))
                await connection.execute(CreateIndex(index))
        finally:
            await _end_indexing(connection)


async def _begin_indexing(connection: AsyncConnection) -> bool:
    """Whether nobody else is at it: two that build indexes of one table would wait for each other."""
    if connection.dialect.name == "sqlite":
        return True
    await connection.exec_driver_sql(f"SET statement_timeout = {_INDEX_SECONDS * 1000}")
    return bool((await connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_INDEXING})")).scalar_one())


async def _end_indexing(connection: AsyncConnection) -> None:
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql("RESET statement_timeout")
        await connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_INDEXING})")


def _upgrade(connection: Connection, settings: Settings) -> str:
    # Takes 0.1 s to import, and few processes upgrade.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    own = {old: make(settings) for old, make in OWN_TABLES.items()}
    names = (settings.table, *(each.fullname for each in own.values()))
    missing = [name for name in names if not _exists(connection, name)]
    config = Config()
    config.set_main_option("script_location", "execution_logger.store:migrations")
    config.attributes |= {"connection": connection, "settings": settings}
    if missing or _version(connection, settings) in _EARLIER:
        # The version speaks of tables that were dropped since, or had another name.
        command.stamp(config, "base", purge=True)
    command.upgrade(config, "head")
    done = [f"{name} {'created' if name in missing else 'is there already'}" for name in names]
    for old, new in own.items():
        # A table of entries that is new as well has nothing of before.
        if new.fullname in missing and settings.table not in missing and new.name != old:
            done += _take_over(connection, old, new)
    return ", ".join(done)


def _version(connection: Connection, settings: Settings) -> str | None:
    versions = version_table(settings)
    if not _has(connection, versions.name, versions.schema):
        return None
    found: str | None = connection.execute(select(versions.c.version_num)).scalar()
    return found


def _take_over(connection: Connection, old: str, new: Table) -> list[str]:
    """Copy what an earlier version has in a table that had one name for all; say what was done.

    Not where the table of the usual name is, whose rows they are. The old table stays as it is: workers of
    the earlier version go on with it until they are replaced.
    """
    if _has(connection, USUAL_NAME, new.schema) or not _has(connection, old, new.schema):
        return []
    if old not in _TAKEN_OVER:
        return [f"{old} stays as it is and is not used any more"]
    columns = [each.name for each in new.columns]
    source = table(old, *map(column, columns), schema=new.schema)
    copied = connection.execute(insert(new).from_select(columns, select(source))).rowcount
    return [f"{copied:,} rows of {old} copied to {new.fullname}"]


def _exists(connection: Connection, table: str) -> bool:
    schema, name = schema_and_name(table)
    return _has(connection, name, schema)


def _has(connection: Connection, name: str, schema: str | None) -> bool:
    return inspect(connection).has_table(name, schema)
