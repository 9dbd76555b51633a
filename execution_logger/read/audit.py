"""The audit: what the ledger says is missing, came late, or came more than once."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.faults import attempt
from execution_logger.store.schema import Moment, ledger_table
from execution_logger.store.sql import statement

_R = TypeVar("_R", "Delay", "Repeat")


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive entries of one process.

    Attributes:
        process: the name of the pipeline that made them.
        first: the first one's number; those of a process begin at 1.
        last: the last one's number.
    """

    process: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Gap(Range):
    """Entries of which nothing is known, though later ones of the process are stored.

    Attributes:
        made_after: `created_at` of an entry before them, None when there is none.
        made_before: that of the entry after them.
        noticed_at: when the entry after them was stored.
    """

    made_after: datetime | None
    made_before: datetime | None
    noticed_at: datetime


@dataclass(frozen=True, slots=True)
class Delay(Range):
    """Entries that were stored late.

    Attributes:
        seconds: the longest time from the last call of one of the batches to its rows.
        stored_at: when the last one of the batches was stored.
    """

    seconds: float
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class Repeat(Range):
    """Entries that were delivered more than once; they are stored once all the same.

    Attributes:
        deliveries: how often that one was which came most often.
    """

    deliveries: int


def _gap(row: Row[Any]) -> Gap:
    """The gap before a batch."""
    return Gap(
        process=row.process,
        first=row.first - row.gap,
        last=row.first - 1,
        made_after=row.newest_before,
        made_before=row.oldest_at,
        noticed_at=row.stored_at,
    )


def _delays(rows: Iterable[Row[Any]], late_after_seconds: float) -> Iterator[Delay]:
    """What came late of the batches, without entries that another one had brought before."""
    for row in rows:
        is_late = row.delay_seconds is not None and row.delay_seconds > late_after_seconds
        if is_late and row.overlap < row.entries:
            yield Delay(row.process, row.first + row.overlap, row.last, row.delay_seconds, row.stored_at)


def _repeats(rows: Iterable[Row[Any]]) -> Iterator[Repeat]:
    """The batches that came more than once, and what of the others came in another batch as well."""
    for row in rows:
        if row.overlap:
            yield Repeat(row.process, row.first, row.first + row.overlap - 1, row.deliveries + 1)
        if row.deliveries > 1:
            yield Repeat(row.process, row.first, row.last, row.deliveries)


def _joined(ranges: Iterable[_R]) -> list[_R]:
    """The ranges, which are in order; those that follow upon each other are one, with the larger figures."""
    found: list[_R] = []
    for one in ranges:
        before = found[-1] if found else None
        if before is None or before.process != one.process or one.first > before.last + 1:
            found.append(one)
        else:
            figures = (each.name for each in fields(one) if each.name not in ("process", "first"))
            larger = {name: max(getattr(before, name), getattr(one, name)) for name in figures}
            found[-1] = replace(before, **larger)
    return found


MOST_FINDINGS = 10_000
"""How many batches are looked at one by one; the sums are of all of them."""


@dataclass(frozen=True, slots=True)
class Account:
    """The sums of a process.

    Attributes:
        process: the name of the pipeline.
        first: the lowest number of an entry that is noted.
        last: the highest one.
        batches: how many the ledger has; older ones that follow upon each other are one by now.
        entries: how many entries they hold; one that came in two batches counts once.
        dead_lettered: how many of these the database has refused; all others are rows.
        missing: entries in gaps.
        pending: entries in gaps that are too young to be called missing.
        late: entries that were stored late, the first time.
        repeated: deliveries of an entry beyond its first one.
        oldest_at: `created_at` of the first entry in UTC, None when it cannot be read.
        newest_at: that of the last one.
        stored_at: when the last batch was stored.
    """

    process: str
    first: int
    last: int
    batches: int
    entries: int
    dead_lettered: int
    missing: int
    pending: int
    late: int
    repeated: int
    oldest_at: datetime | None
    newest_at: datetime | None
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit has found.

    Attributes:
        accounts: the sums, by process.
        missing: what should be stored and is not.
        pending: what may only be on its way.
        late: what was stored late.
        repeated: what was delivered more than once.
        is_cut: there is more to be listed than `MOST_FINDINGS`; only the accounts are whole.
    """

    accounts: Sequence[Account]
    missing: Sequence[Gap]
    pending: Sequence[Gap]
    late: Sequence[Delay]
    repeated: Sequence[Repeat]
    is_cut: bool

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not any(account.missing for account in self.accounts)


async def audit(
    engine: AsyncEngine,
    settings: Settings,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    process: str | None = None,
    late_after_seconds: float = 60.0,
) -> Audit:
    """Judge the batches that were stored in a time range, by the numbers of their entries.

    What comes after the last stored entry of a process cannot be seen from here: it may be in a
    journal, in the queue, or not have been made at all.

    Args:
        engine: of `create_engine`.
        settings: name the tables, and bound the time it may take.
        since: (aware) only batches stored from then on; what was before a process's first batch in
            the ledger is no gap then. Batches that were merged count as stored when the last of them was,
            on the same day.
        until: (aware) only batches stored before then.
        process: only this one's.
        late_after_seconds: from an entry's call to its row; a gap that was noticed less than that
            ago is pending.

    Raises:
        StoreUnavailableError: the database cannot be used now, or has no ledger.
    """
    values = {"since": since, "until": until, "process": process, "late_after_seconds": late_after_seconds}
    async with attempt(engine, settings.database_timeout_seconds), _snapshot(engine) as connection:
        accounts = await _rows(connection, settings, "audit_accounts", values)
        values["limit"] = MOST_FINDINGS + 1
        found = await _rows(connection, settings, "audit_findings", values)
    rows = sorted(found[:MOST_FINDINGS], key=attrgetter("process", "first"))
    return Audit(
        accounts=[Account(**row._asdict()) for row in accounts],
        missing=[_gap(row) for row in rows if row.gap and row.is_due],
        pending=[_gap(row) for row in rows if row.gap and not row.is_due],
        late=_joined(_delays(rows, late_after_seconds)),
        repeated=_joined(_repeats(rows)),
        is_cut=len(found) > MOST_FINDINGS,
    )


@asynccontextmanager
async def _snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection on which all statements see the same."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            await connection.exec_driver_sql("BEGIN")
        else:
            # What was merged has left pages without rows behind, which only an index passes over. The
            # planner counts them, here as there, and would even compile the statement for that.
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            await connection.exec_driver_sql("SET LOCAL jit = off")
        yield connection


async def _rows(
    connection: AsyncConnection, settings: Settings, name: str, values: dict[str, Any]
) -> Sequence[Row[Any]]:
    dialect = connection.dialect
    batches = statement("audit_batches", dialect, ledger=ledger_table(settings))
    moments = dict.fromkeys(("oldest_at", "newest_at", "stored_at", "newest_before"), Moment)
    query = text(statement(name, dialect, batches=batches))
    query = query.bindparams(*(bindparam(moment, type_=Moment) for moment in ("since", "until")))
    return (await connection.execute(query.columns(**moments), values)).all()
