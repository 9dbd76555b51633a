"""Create the table of the scheduled jobs and that of the statistics."""

import sqlalchemy as sa
from alembic import context, op

from execution_logger.store.job_runs import JOB_NAMES, NOTHING
from execution_logger.store.schema import job_run_table, statistics_table

revision = "0003"
down_revision = "0002"

# SQLite's CURRENT_TIMESTAMP has no fraction of a second.
_SQLITE_NOW = sa.text("(strftime('%Y-%m-%d %H:%M:%f000', 'now'))")


def upgrade() -> None:
    """Leave alone what is there."""
    settings = context.config.attributes["settings"]
    job_runs, statistics = job_run_table(settings), statistics_table(settings)
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table(job_runs.name, job_runs.schema):
        _create_job_runs(job_runs.name, job_runs.schema)
    if not inspector.has_table(statistics.name, statistics.schema):
        _create_statistics(statistics.name, statistics.schema)


def _create_job_runs(name: str, schema: str | None) -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    moment = sa.DateTime(timezone=True)
    table = op.create_table(
        name,
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
    op.bulk_insert(table, [{"name": job, **NOTHING} for job in JOB_NAMES])


def _create_statistics(name: str, schema: str | None) -> None:
    op.create_table(
        name,
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
