"""Create what is missing of the tables. What is there stays as it is: it is the host's, or holds rows."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

from execution_logger.store.job_runs import JOB_NAMES, NOTHING
from execution_logger.store.schema import OWN_TABLES, index_names, job_run_table, schema_and_name
from execution_logger.store.table import MARK

revision = "0003"  # earlier versions had a migration for each table: see `migrate`
down_revision = None

# What PostgreSQL takes and Python's datetime cannot hold would make a whole run unreadable.
_READABLE = "created_at BETWEEN '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00'"


def upgrade() -> None:
    """Create them as `schema` says; a later migration has to look what there is."""
    settings = context.config.attributes["settings"]
    bind = op.get_bind()
    schema, name = schema_and_name(settings.table)
    inspector = sa.inspect(bind)
    if not inspector.has_table(name, schema):
        _create_entries(name, schema)
    job_runs = job_run_table(settings)
    has_job_runs = inspector.has_table(job_runs.name, job_runs.schema)
    for make in OWN_TABLES.values():
        make(settings).create(bind, checkfirst=True)
    if not has_job_runs:
        # From now on they are due: one that never runs is late some day, and not just absent.
        op.bulk_insert(job_runs, [{"name": job, **NOTHING} for job in JOB_NAMES])


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
    timeline, created_at = index_names(name)
    # A run's timeline, in its order.
    op.create_index(timeline, name, ["task_id", "created_at", "id"], schema=schema)
    # The newest, the oldest, and those that are old enough to be deleted.
    op.create_index(created_at, name, ["created_at"], schema=schema)
