"""The job runs: one row for each scheduled job, which says what it did and keeps it from running twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal, Self

from sqlalchemy import JSON, Column, Integer, MetaData, Table, Text, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.settings import Settings
from execution_logger.store.columns import Moment, storable
from execution_logger.store.table import table_beside

NAME = "execution_log_job_runs"

ANYBODY = "anybody"
"""Whom a run is handed to that was stopped in the middle."""

SUCCEEDED = "succeeded"
FAILED = "failed"

_MOST_PAST_RUNS = 20
_MAX_ERROR_CHARS = 2000

NOTHING: Mapping[str, Any] = {"summary": {}, "slices": 0, "interruptions": 0, "past_runs": []}
"""What a row says before the first run."""

State = Literal["never", "running", "interrupted", "succeeded", "failed"]


@cache
def job_run_table(settings: Settings) -> Table:
    """The table, which is in the same schema as that of the entries.

    One object for each settings: SQLAlchemy keeps 500 compiled statements, and each new table has its own.
    """
    schema, name = table_beside(settings, NAME)
    return Table(
        name,
        MetaData(),
        Column("name", Text, primary_key=True),
        Column("known_since", Moment, nullable=False),
        Column("owner", Text),
        Column("handed_to", Text),
        Column("held_until", Moment),
        Column("started_at", Moment),
        Column("finished_at", Moment),
        Column("succeeded_at", Moment),
        Column("outcome", Text),
        Column("summary", JSON, nullable=False),
        Column("error", Text),
        Column("slices", Integer, nullable=False),
        Column("interruptions", Integer, nullable=False),
        Column("past_runs", JSON, nullable=False),
        schema=schema,
    )


@dataclass(frozen=True, slots=True)
class JobRun:
    """The last run of a job, or the one that is under way. All times are in UTC.

    Attributes:
        name: of the job.
        known_since: when this row was made.
        owner: who works on it: the id of a message, or a command's.
        handed_to: the message that goes on with it.
        held_until: until then nobody else may.
        started_at: None when it has never run.
        finished_at: None while it runs.
        succeeded_at: when it last did what it is for.
        outcome: `succeeded` or `failed`; None while it runs.
        summary: what it did, so far.
        error: why it failed.
        slices: in how many pieces it was done, a message each.
        interruptions: how often its worker was lost.
        past_runs: the last twenty, newest first.
    """

    name: str
    known_since: datetime
    owner: str | None
    handed_to: str | None
    held_until: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    succeeded_at: datetime | None
    outcome: str | None
    summary: Mapping[str, Any]
    error: str | None
    slices: int
    interruptions: int
    past_runs: Sequence[Mapping[str, Any]]

    @classmethod
    def never(cls, name: str, known_since: datetime) -> Self:
        """The one of a job that has not run yet."""
        unknown: dict[str, Any] = dict.fromkeys(each.name for each in fields(cls))
        return cls(**unknown | {"name": name, "known_since": known_since, **NOTHING})

    def state(self, now: datetime) -> State:
        """What it does at this time; `interrupted` is a run whose worker is gone."""
        if self.started_at is None:
            return "never"
        if self.finished_at is None:
            is_held = self.held_until is not None and self.held_until > now
            return "running" if is_held else "interrupted"
        return "succeeded" if self.outcome == SUCCEEDED else "failed"

    @property
    def duration_seconds(self) -> float | None:
        """From the start to the end, None before that."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Claim:
    """What became of the attempt to take a run.

    Attributes:
        run: as it is now.
        now: by the clock of the database, in UTC.
        is_granted: whether who asked has it.
    """

    run: JobRun
    now: datetime
    is_granted: bool


class JobRuns:
    """Reads and writes the rows, in the transaction of the connection, which the caller commits at once.

    Raises:
        sqlalchemy.exc.DBAPIError: from every method. `attempt` of `store.faults` explains it.
    """

    def __init__(self, settings: Settings) -> None:
        self.table = job_run_table(settings)

    async def now(self, connection: AsyncConnection) -> datetime:
        """The time by the clock that all workers share: the database server's."""
        if connection.dialect.name == "postgresql":
            found: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
            return found.astimezone(UTC)
        return datetime.now(UTC)

    async def add_missing(self, connection: AsyncConnection, names: Sequence[str]) -> None:
        """Make the rows of those jobs that have none."""
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        now = await self.now(connection)
        rows = [{"name": name, "known_since": now, **NOTHING} for name in names]
        await connection.execute(insert(self.table).on_conflict_do_nothing(), rows)

    async def all(self, connection: AsyncConnection) -> Sequence[JobRun]:
        """The rows that there are, by name."""
        return [
            JobRun(**row._asdict()) for row in await connection.execute(select(self.table).order_by("name"))
        ]

    async def claim(
        self,
        connection: AsyncConnection,
        name: str,
        owner: str,
        hold_seconds: float,
        may_start: Callable[[JobRun, datetime], bool],
    ) -> Claim:
        """Begin a run, or go on with one that was handed over, or whose worker is gone.

        Args:
            connection: in whose transaction nothing was done yet.
            name: of the job.
            owner: who asks.
            hold_seconds: how long nobody else gets it.
            may_start: whether a new run may begin after this one, at this time.
        """
        await self.add_missing(connection, [name])
        run, now = await self._locked(connection, name)
        values: dict[str, Any] = {"owner": owner, "handed_to": None}
        values["held_until"] = now + timedelta(seconds=hold_seconds)
        state = run.state(now)
        if state == "running" and owner not in (run.owner, run.handed_to):
            return Claim(run, now, is_granted=False)
        if state in ("running", "interrupted"):
            values["slices"] = run.slices + 1
            # A message that comes again has lost its worker.
            values["interruptions"] = run.interruptions + (run.handed_to not in (owner, ANYBODY))
        elif may_start(run, now):
            values |= {"started_at": now, "finished_at": None, "outcome": None, "error": None}
            values |= {"summary": {}, "slices": 1, "interruptions": 0}
        else:
            return Claim(run, now, is_granted=False)
        return Claim(await self._update(connection, name, values), now, is_granted=True)

    async def hand_over(
        self,
        connection: AsyncConnection,
        run: JobRun,
        summary: Mapping[str, Any],
        next_owner: str,
        hold_seconds: float,
    ) -> JobRun:
        """Note what was done so far, and who goes on; nothing when somebody else has taken the run."""
        found, now = await self._locked(connection, run.name)
        if found.owner != run.owner or found.finished_at is not None:
            return found
        held_until = now + timedelta(seconds=hold_seconds)
        values = {"summary": dict(summary), "handed_to": next_owner, "held_until": held_until}
        return await self._update(connection, run.name, values)

    async def finish(
        self,
        connection: AsyncConnection,
        run: JobRun,
        summary: Mapping[str, Any],
        error: str | None = None,
    ) -> JobRun:
        """Note the end of a run, which has succeeded when there is no error.

        Nothing is noted when somebody else has taken the run.
        """
        found, now = await self._locked(connection, run.name)
        if found.owner != run.owner or found.finished_at is not None:
            return found
        values: dict[str, Any] = {"finished_at": now, "held_until": None, "summary": dict(summary)}
        values["outcome"] = SUCCEEDED if error is None else FAILED
        values["error"] = None if error is None else storable(error)[:_MAX_ERROR_CHARS]
        if error is None:
            values["succeeded_at"] = now
        past = {
            "started_at": found.started_at and found.started_at.isoformat(),
            "finished_at": now.isoformat(),
            **{name: values[name] for name in ("outcome", "summary", "error")},
        }
        values["past_runs"] = [past, *found.past_runs][:_MOST_PAST_RUNS]
        return await self._update(connection, run.name, values)

    async def _locked(self, connection: AsyncConnection, name: str) -> tuple[JobRun, datetime]:
        """The row, which nobody else can change before the commit, and the time."""
        query = select(self.table).where(self.table.c.name == name).with_for_update()
        row = (await connection.execute(query)).one()
        return JobRun(**row._asdict()), await self.now(connection)

    async def _update(self, connection: AsyncConnection, name: str, values: Mapping[str, Any]) -> JobRun:
        statement = update(self.table).where(self.table.c.name == name).values(values)
        row = (await connection.execute(statement.returning(*self.table.columns))).one()
        return JobRun(**row._asdict())
