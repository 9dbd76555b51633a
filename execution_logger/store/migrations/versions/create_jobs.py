"""Create the table of the scheduled jobs and that of the statistics."""

import sqlalchemy as sa
from alembic import context, op

from execution_logger.store.job_runs import NAME as JOB_RUNS
from execution_logger.store.job_runs import NOTHING
from execution_logger.store.statistics import NAME as STATISTICS
from execution_logger.store.table import schema_and_name

revision = "0003"
down_revision = "0002"

_JOBS = ("health", "statistics", "retention", "report")

# SQLite's CURRENT_TIMESTAMP has no fraction of a second.
_SQLITE_NOW = sa.text("(strftime('%Y-%m-%d %H:%M:%f000', 'now'))")


def upgrade() -> None:
    """Leave alone what is there."""
    schema, _ = schema_and_name(context.config.attributes["settings"].table)
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table(JOB_RUNS, schema):
        _create_job_runs(schema)
    if not inspector.has_table(STATISTICS, schema):
        _create_statistics(schema)


def _create_job_runs(schema: str | None) -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    moment = sa.DateTime(timezone=True)
    table = op.create_table(
        JOB_RUNS,
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column(
            "known_since", moment, nullable=False, server_default=_SQLITE_NOW if is_sqlite else sa.func.now()
        ),
        sa.Column("owner", sa.Text()),
        sa.Column("handed_to", sa.Text()),
        sa.Column("held_until", moment),
        sa.Column("started_at", moment),
        sa.Column("finished_at", moment),
        sa.Column("succeeded_at", moment),
        sa.Column("outcome", sa.Text()),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("slices", sa.Integer(), nullable=False),
        sa.Column("interruptions", sa.Integer(), nullable=False),
        sa.Column("past_runs", sa.JSON(), nullable=False),
        schema=schema,
    )
    # From now on they are due: one that never runs is late some day, and not just absent.
    op.bulk_insert(table, [{"name": name, **NOTHING} for name in _JOBS])


def _create_statistics(schema: str | None) -> None:
    op.create_table(
        STATISTICS,
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("dimension", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("runs", sa.BigInteger()),
        sa.Column("timed", sa.BigInteger(), nullable=False),
        sa.Column("p50_ms", sa.Float()),
        sa.Column("p95_ms", sa.Float()),
        schema=schema,
    )
