"""What the tables say that no process counts."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from execution_logger.metrics import Metric, gauge, labelled_gauge
from execution_logger.read.overview import Vitals, vitals
from execution_logger.settings import Settings
from execution_logger.store import create_engine

_ATTEMPT_SECONDS = 1.5


def read_tables(settings: Settings) -> list[Metric]:
    """The dead letters, and the jobs that look after the tables; never the table of the entries itself.

    Raises:
        StoreUnavailableError: the database cannot be used now, or a table is missing.
    """
    seconds = min(_ATTEMPT_SECONDS, settings.database_timeout_seconds)
    found = asyncio.run(_read(replace(settings, database_timeout_seconds=seconds)))
    letters = gauge(
        "dead_letters", "Entries that the database has refused, and that are kept.", found.dead_letters
    )
    return [letters, *_jobs(found.jobs_succeeded_at)] if found.jobs_succeeded_at else [letters]


async def _read(settings: Settings) -> Vitals:
    engine = create_engine(settings, pool_size=1)
    try:
        return await vitals(engine, settings)
    finally:
        await engine.dispose()


def _jobs(succeeded_at: Mapping[str, float]) -> list[Metric]:
    text = "When a scheduled job has last succeeded; 0 for never."
    # Not the label `job`, which is Prometheus' own for what it scrapes.
    return [labelled_gauge("job_last_success_timestamp_seconds", text, "name", succeeded_at)]
