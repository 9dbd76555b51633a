"""The vital signs of the tables: few, cheap to tell however large the tables are, and asked for often."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.dead_letters import dead_letter_table
from execution_logger.store.faults import attempt
from execution_logger.store.job_runs import job_run_table


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is worth an alert.

    Attributes:
        dead_letters: how many entries the database has refused.
        jobs_succeeded_at: when each scheduled job has last succeeded, in seconds since 1970; 0 for never.
            Empty where the table of the job runs is missing.
    """

    dead_letters: int
    jobs_succeeded_at: Mapping[str, float]


async def vitals(engine: AsyncEngine, settings: Settings) -> Vitals:
    """Read them.

    Raises:
        StoreUnavailableError: the database cannot be used now, or the table of dead letters is missing.
    """
    async with attempt(engine, settings.database_timeout_seconds), engine.connect() as connection:
        count = select(func.count()).select_from(dead_letter_table(settings))
        return Vitals(
            dead_letters=int((await connection.execute(count)).scalar_one()),
            jobs_succeeded_at=await _jobs_succeeded_at(connection, settings),
        )


async def _jobs_succeeded_at(connection: AsyncConnection, settings: Settings) -> dict[str, float]:
    runs = job_run_table(settings)
    has_table = await connection.run_sync(lambda sync: inspect(sync).has_table(runs.name, runs.schema))
    if not has_table:
        return {}
    rows = await connection.execute(select(runs.c.name, runs.c.succeeded_at))
    return {name: 0.0 if moment is None else moment.timestamp() for name, moment in rows}
