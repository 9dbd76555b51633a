"""Run by Alembic: applies the scripts of `versions` on the connection that `store.migrate` hands over."""

from alembic import context

from execution_logger.store.migrate import version_table

attributes = context.config.attributes
versions = version_table(attributes["settings"])

context.configure(
    connection=attributes["connection"],
    version_table=versions.name,
    version_table_schema=versions.schema,
)
context.run_migrations()
