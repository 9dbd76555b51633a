"""Create the ledger of the stored batches."""

import sqlalchemy as sa
from alembic import context, op

from execution_logger.store.schema import ledger_table

revision = "0002"
down_revision = "0001"

# SQLite's CURRENT_TIMESTAMP has no fraction of a second.
_SQLITE_NOW = sa.text("(strftime('%Y-%m-%d %H:%M:%f000', 'now'))")


def upgrade() -> None:
    """Leave it alone when it is there."""
    table = ledger_table(context.config.attributes["settings"])
    bind = op.get_bind()
    if sa.inspect(bind).has_table(table.name, table.schema):
        return
    op.create_table(
        table.name,
        sa.Column("batch_id", sa.Text(), primary_key=True),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("dead_lettered", sa.Integer(), nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("oldest_at", sa.DateTime(timezone=True)),
        sa.Column("newest_at", sa.DateTime(timezone=True)),
        sa.Column(
            "stored_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=_SQLITE_NOW if bind.dialect.name == "sqlite" else sa.func.now(),
        ),
        schema=table.schema,
    )
    for index in table.indexes:
        columns = [column.name for column in index.columns]
        op.create_index(index.name, table.name, columns, schema=table.schema)
