"""The audit: what the ledger says is missing, came late, or came more than once."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.columns import Moment
from execution_logger.store.faults import attempt
from execution_logger.store.findings import Delay, Gap, Repeat, joined, to_delays, to_gap, to_repeats
from execution_logger.store.ledger import ledger_table
from execution_logger.store.sql import read_sql

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
    values = {
        "since": since,
        "until": until,
        "process": process,
        "late_after_seconds": late_after_seconds,
    }
    async with attempt(engine, settings.database_timeout_seconds), _snapshot(engine) as connection:
        accounts = await _rows(connection, settings, "audit_accounts.sql", values)
        limited = {**values, "limit": MOST_FINDINGS + 1}
        found = await _rows(connection, settings, "audit_findings.sql", limited)
    rows = sorted(found[:MOST_FINDINGS], key=attrgetter("process", "first"))
    return Audit(
        accounts=[_account(row) for row in accounts],
        missing=[to_gap(row) for row in rows if row.gap and row.is_due],
        pending=[to_gap(row) for row in rows if row.gap and not row.is_due],
        late=list(joined(to_delays(rows, late_after_seconds))),
        repeated=list(joined(to_repeats(rows))),
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
    ledger = dialect.identifier_preparer.format_table(ledger_table(settings))
    batches = read_sql(f"audit_batches.{dialect.name}.sql").format(ledger=ledger)
    moments = dict.fromkeys(("oldest_at", "newest_at", "stored_at", "newest_before"), Moment)
    statement = text(read_sql(name).format(batches=batches))
    statement = statement.bindparams(*(bindparam(moment, type_=Moment) for moment in ("since", "until")))
    return (await connection.execute(statement.columns(**moments), values)).all()


def _account(row: Row[Any]) -> Account:
    values = row._asdict()
    for name, value in values.items():
        if isinstance(value, Decimal):  # PostgreSQL's type of a sum
            values[name] = int(value)
    return Account(**values)
