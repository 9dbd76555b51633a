"""The job runs: one row for each scheduled job, which says what became of it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.engine import transaction
from execution_logger.store.schema import job_run_table, storable

JOB_NAMES = ("health", "statistics", "retention")
"""Of the jobs that there are; an earlier version has left rows of others."""

SUCCEEDED = "succeeded"
FAILED = "failed"

_MOST_PAST_RUNS = 20
_MAX_ERROR_CHARS = 2000

NOTHING: Mapping[str, Any] = {"summary": {}, "slices": 0, "interruptions": 0, "past_runs": []}
"""What a row says before the first run."""

_LOCK = text(
    "SELECT pg_try_advisory_xact_lock(hashtextextended("
    "concat_ws('.', 'execution_logger', coalesce(CAST(:schema AS text), current_schema()), "
    "CAST(:table AS text), CAST(:job AS text)), 0))"
)

State = Literal["never", "running", "unfinished", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class JobRun:
    """The last run of a job, or the one that is under way. All times are in UTC.

    Attributes:
        name: of the job.
        known_since: when this row was made.
        held_until: when the last tick ended, or the latest time at which the present one does.
        started_at: None when it has never run.
        finished_at: None while something is left to do.
        succeeded_at: when it last did what it is for.
        outcome: `succeeded` or `failed`; None while something is left to do.
        summary: what it did, so far.
        error: why it failed.
        past_runs: the last twenty, newest first.
    """

    name: str
    known_since: datetime
    held_until: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    succeeded_at: datetime | None
    outcome: str | None
    summary: Mapping[str, Any]
    error: str | None
    past_runs: Sequence[Mapping[str, Any]]

    @classmethod
    def never(cls, name: str, known_since: datetime) -> Self:
        """The one of a job that has not run yet."""
        unknown: dict[str, Any] = dict.fromkeys(each.name for each in fields(cls))
        return cls(**unknown | {"name": name, "known_since": known_since, "summary": {}, "past_runs": []})

    def state(self, now: datetime) -> State:
        """What it does at this time; the next tick goes on with an `unfinished` one."""
        if self.started_at is None:
            return "never"
        if self.finished_at is None:
            return "running" if self.held_until is not None and self.held_until > now else "unfinished"
        return "succeeded" if self.outcome == SUCCEEDED else "failed"

    @property
    def last_at(self) -> datetime:
        """When something was last done for it: the schedule goes on from there."""
        began_at = self.started_at or self.known_since
        return began_at if self.finished_at is not None else max(began_at, self.held_until or began_at)

    @property
    def duration_seconds(self) -> float | None:
        """From the start to the end, None before that."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class JobRuns:
    """Reads and writes the rows, in the transaction of the connection.

    Raises:
        sqlalchemy.exc.DBAPIError: from every method. `attempt` of `store.faults` explains it.
    """

    def __init__(self, settings: Settings) -> None:
        self.table = job_run_table(settings)
        self._columns = [self.table.c[each.name] for each in fields(JobRun)]

    @asynccontextmanager
    async def lock(self, engine: AsyncEngine, name: str, seconds: float) -> AsyncIterator[bool]:
        """Let nobody else work on this job meanwhile; it yields whether that was possible.

        The lock belongs to a transaction on a connection of its own, so it also holds by way of a PgBouncer
        that lends connections for a transaction only, and it is gone with a worker that is killed. A row
        lock would hold back VACUUM for as long. A machine that loses its power says nothing: the server
        ends an idle transaction by itself after `seconds`.

        SQLite has no such lock; there only what is noted in the row keeps others away.
        """
        if engine.dialect.name == "sqlite":
            yield True
            return
        async with transaction(engine) as connection:
            milliseconds = int(seconds * 1000)
            await connection.exec_driver_sql(
                f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}"
            )
            key = {"schema": self.table.schema, "table": self.table.name, "job": name}
            yield bool((await connection.execute(_LOCK, key)).scalar_one())

    async def now(self, connection: AsyncConnection) -> datetime:
        """The time by the clock that all workers share: the database server's."""
        if connection.dialect.name == "postgresql":
            found: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
            return found.astimezone(UTC)
        return datetime.now(UTC)

    async def all(self, connection: AsyncConnection) -> Sequence[JobRun]:
        """The rows that there are, by name."""
        rows = await connection.execute(select(*self._columns).order_by("name"))
        return [JobRun(**row._asdict()) for row in rows]

    async def get(self, connection: AsyncConnection, name: str) -> JobRun:
        """The row of a job, which is made when it is missing."""
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        row = {"name": name, "known_since": await self.now(connection), **NOTHING}
        await connection.execute(insert(self.table).values(row).on_conflict_do_nothing())
        found = await connection.execute(select(*self._columns).where(self.table.c.name == name))
        return JobRun(**found.one()._asdict())

    async def begin(self, connection: AsyncConnection, run: JobRun, seconds: float) -> JobRun:
        """Note that a tick begins, of a new run when the last one is finished. It takes `seconds` at most."""
        now = await self.now(connection)
        values: dict[str, Any] = {"owner": None, "held_until": now + timedelta(seconds=seconds)}
        if run.started_at is not None and run.finished_at is None:
            values["slices"] = self.table.c.slices + 1
        else:
            values |= {"started_at": now, "finished_at": None, "outcome": None, "error": None}
            values |= {"summary": {}, "slices": 1, "interruptions": 0}
        return await self._update(connection, run, values)

    async def pause(self, connection: AsyncConnection, run: JobRun, summary: Mapping[str, Any]) -> JobRun:
        """Note what was done so far, and that more is left."""
        values = {"summary": dict(summary), "held_until": await self.now(connection)}
        return await self._update(connection, run, values)

    async def finish(
        self, connection: AsyncConnection, run: JobRun, summary: Mapping[str, Any], error: str | None = None
    ) -> JobRun:
        """Note the end of a run, which has succeeded when there is no error."""
        now = await self.now(connection)
        values: dict[str, Any] = {"finished_at": now, "held_until": None, "summary": dict(summary)}
        values["outcome"] = SUCCEEDED if error is None else FAILED
        values["error"] = None if error is None else storable(error)[:_MAX_ERROR_CHARS]
        if error is None:
            values["succeeded_at"] = now
        past = {
            "started_at": run.started_at and run.started_at.isoformat(),
            "finished_at": now.isoformat(),
            **{name: values[name] for name in ("outcome", "summary", "error")},
        }
        values["past_runs"] = [past, *run.past_runs][:_MOST_PAST_RUNS]
        return await self._update(connection, run, values)

    async def _update(self, connection: AsyncConnection, run: JobRun, values: Mapping[str, Any]) -> JobRun:
        statement = update(self.table).where(self.table.c.name == run.name).values(values)
        row = (await connection.execute(statement.returning(*self._columns))).one()
        return JobRun(**row._asdict())
