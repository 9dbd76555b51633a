"""Add the ids of the tree of operations to the table of entries that is ours; a host alters its own."""

import sqlalchemy as sa
from alembic import context, op

from execution_logger.store.schema import schema_and_name
from execution_logger.store.table import MARK

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Leave alone what is there. A column without default takes no time, however large the table is.

    It waits for those who use the table, and all others wait behind it: so it gives up after 2 s, with
    nothing done.
    """
    schema, name = schema_and_name(context.config.attributes["settings"].table)
    inspector = sa.inspect(op.get_bind())
    if MARK not in {check["name"] for check in inspector.get_check_constraints(name, schema)}:
        return
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '2s'")
    held = {column["name"] for column in inspector.get_columns(name, schema)}
    for column in _columns():
        if column.name not in held:
            op.add_column(name, column, schema=schema)


def _columns() -> list[sa.Column[object]]:
    identity = sa.Uuid().with_variant(sa.CHAR(36), "sqlite")
    return [
        sa.Column("operation_id", identity),
        sa.Column("parent_id", identity),
        sa.Column("trace_id", sa.Text()),
        sa.Column("span_id", sa.Text()),
    ]
