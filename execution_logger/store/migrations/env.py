"""Run by Alembic: applies the scripts of `versions` on the connection that `store.migrate` hands over."""

from alembic import context

from execution_logger.store.migrate import VERSION_TABLE
from execution_logger.store.schema import schema_and_name

attributes = context.config.attributes
schema, _ = schema_and_name(attributes["settings"].table)

context.configure(
    connection=attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=schema,
)
context.run_migrations()
