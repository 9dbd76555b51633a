"""Create the table of the entries, unless the host has one, and that of the dead letters."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

from execution_logger.store.schema import dead_letter_table, identifier, schema_and_name
from execution_logger.store.table import MARK

revision = "0001"
down_revision = None

# What PostgreSQL takes and Python's datetime cannot hold would make a whole run unreadable.
_READABLE = "created_at BETWEEN '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00'"


def upgrade() -> None:
    """Leave alone what is there: it is the host's."""
    settings = context.config.attributes["settings"]
    schema, name = schema_and_name(settings.table)
    dead_letters = dead_letter_table(settings).name
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table(name, schema):
        _create_entries(name, schema)
    if not inspector.has_table(dead_letters, schema):
        _create_dead_letters(dead_letters, schema)


def _create_entries(name: str, schema: str | None) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Uuid().with_variant(sa.CHAR(36), "sqlite"), primary_key=True),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("roadmap_id", sa.Text()),
        sa.Column("concept_id", sa.Text()),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("step", sa.Text()),
        sa.Column("agent_name", sa.Text()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON().with_variant(JSONB(), "postgresql")),
        sa.Column("duration_ms", sa.Integer()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint(_READABLE, name=MARK),
        schema=schema,
    )
    # A run's timeline, in its order.
    op.create_index(identifier(f"ix_{name}_timeline"), name, ["task_id", "created_at", "id"], schema=schema)
    # The newest, the oldest, and those that are old enough to be deleted.
    op.create_index(identifier(f"ix_{name}_created_at"), name, ["created_at"], schema=schema)


def _create_dead_letters(name: str, schema: str | None) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema=schema,
    )
