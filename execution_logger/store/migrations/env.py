"""Run by Alembic: applies the scripts of `versions` on the connection that `store.migrate` hands over."""

from alembic import context

from execution_logger.store.table import schema_and_name

attributes = context.config.attributes
schema, _ = schema_and_name(attributes["settings"].table)

context.configure(
    connection=attributes["connection"],
    # The host's own migrations have a table `alembic_version`.
    version_table="execution_logger_alembic_version",
    version_table_schema=schema,
)
context.run_migrations()
