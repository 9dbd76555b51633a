"""Create the ledger of the stored batches."""

import sqlalchemy as sa
from alembic import context, op

from execution_logger.store.ledger import NAME, ledger_table
from execution_logger.store.table import schema_and_name

revision = "0002"
down_revision = "0001"

# SQLite's CURRENT_TIMESTAMP has no fraction of a second.
_SQLITE_NOW = sa.text("(strftime('%Y-%m-%d %H:%M:%f000', 'now'))")


def upgrade() -> None:
    """Leave it alone when it is there."""
    schema, _ = schema_and_name(context.config.attributes["settings"].table)
    bind = op.get_bind()
    if sa.inspect(bind).has_table(NAME, schema):
        return
    op.create_table(
        NAME,
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
        schema=schema,
    )
    for index in ledger_table(context.config.attributes["settings"]).indexes:
        op.create_index(index.name, NAME, [column.name for column in index.columns], schema=schema)
