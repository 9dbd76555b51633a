"""The tables: columns, rights, indexes, the time zone, and what lies there that should not."""

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import PrimaryKeyConstraint, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.expression import FromClause

from execution_logger.entry.entry import LogCategory
from execution_logger.errors import StoreUnavailableError
from execution_logger.operate.doctor.finding import Finding, Subject, error, ok, warning
from execution_logger.read.overview import count_dead_letters
from execution_logger.read.timeline import select_entries, to_entry
from execution_logger.settings import Settings, is_set
from execution_logger.store.bisection import good_entry, refusal_of
from execution_logger.store.engine import in_transactions
from execution_logger.store.faults import (
    UPGRADE,
    is_foreign_key,
    is_missing_partition,
    sqlstate_of,
    summary_of,
)
from execution_logger.store.ledger import Ledger, missing_indexes
from execution_logger.store.schema import dead_letter_table, job_run_table, ledger_table, statistics_table
from execution_logger.store.table import LogTable, look_up_table, missing_rights

_AHEAD = timedelta(minutes=10)
"""Clocks differ by less, time zones by more."""
_REMEDIES = {
    "22023": "correct EXECUTION_LOGGER_TIME_ZONE, or let the server know it: see pg_timezone_names there",
    "23514": "let the constraint take what the library writes, as levels in lower case",
    "42501": "GRANT what is missing to the user of DATABASE_URL, or CREATE POLICY ... FOR INSERT for it",
}
"""By SQLSTATE."""
_PARTITION = "CREATE TABLE ... PARTITION OF it for today, or one as DEFAULT"


async def examine_entries(connection: AsyncConnection, subject: Subject) -> list[Finding]:
    """The table of the entries, the library's own or a host's."""
    settings = subject.settings
    try:
        found = await look_up_table(connection, settings)
    except StoreUnavailableError as problem:
        advice = UPGRADE if "does not exist" in str(problem) else "change the table, or name another one"
        return [error("database.table", str(problem).removesuffix(f" {UPGRADE}"), advice)]
    missing = ", ".join(found.missing)
    findings = [
        ok("database.table", f'table "{settings.table}"' + (f"; in details: {missing}" if missing else ""))
    ]
    findings += await _rights(connection, found.table, settings.table, ("SELECT", "INSERT"), found.columns)
    findings += _indexes(found, settings.table)
    if connection.dialect.name == "postgresql":
        findings += _zone(found, subject)
    if not any(finding.level != "ok" for finding in findings):
        findings += await _newest(connection, found, subject)
    return findings


async def examine_insert(connection: AsyncConnection, settings: Settings) -> list[Finding]:
    """Whether the table takes an entry, which is rolled back. The connection is in transactions after it."""
    await connection.rollback()  # what was only looked up
    await in_transactions(connection)
    table = await look_up_table(connection, settings)
    refusals = []
    async for entry in _samples(connection, table):
        refusal = await refusal_of(connection, table, entry)
        if refusal is None or is_foreign_key(refusal):  # it refers to what no sample can know
            return []
        refusals.append(refusal)
    why = refusals[0]
    usual = f"change what refuses it, a constraint or a trigger of {settings.table}"
    advice = _PARTITION if is_missing_partition(why) else _REMEDIES.get(sqlstate_of(why), usual)
    what = f'table "{settings.table}" takes no entries, they wait: {summary_of(why)}'
    return [error("database.insert", what, advice)]


async def examine_dead_letters(connection: AsyncConnection, settings: Settings) -> list[Finding]:
    """What the database has refused, if there is a place for it."""
    table = dead_letter_table(settings)
    name = table.fullname
    if not await connection.run_sync(lambda sync: inspect(sync).has_table(table.name, table.schema)):
        what = f'table "{name}" does not exist: an entry that the database refuses has nowhere to go'
        return [error("database.dead_letters", what, UPGRADE)]
    findings = await _rights(connection, table, name, ("SELECT", "INSERT"))
    if findings:
        return findings
    number = await count_dead_letters(connection, settings)
    what = f"the database has refused {number:,} entries; they are in {name}"
    advice = "see why: execution-logger dead list; then dead retry --all, or dead purge"
    return [warning("database.dead_letters", what, advice)] if number else []


async def examine_ledger(connection: AsyncConnection, settings: Settings) -> list[Finding]:
    """The ledger, without which rows are stored, and nobody can tell what is missing."""
    problem = await Ledger(settings).problem(connection)
    if problem is None:
        missing = await connection.run_sync(missing_indexes, settings)
        what = "the ledger of the batches lacks an index, so that status and audit read all of it"
        return [warning("database.ledger", what, UPGRADE)] if missing else []
    grant = _grant(Ledger(settings).table.fullname, "SELECT, INSERT, UPDATE")
    why = problem.removesuffix(f" {UPGRADE}")
    what = f"entries are stored, and no audit can account for them: {why}"
    return [warning("database.ledger", what, UPGRADE if UPGRADE in problem else grant)]


async def examine_job_rights(connection: AsyncConnection, settings: Settings) -> list[Finding]:
    """What the jobs and `dead retry` may not do, table by table; batches are stored all the same."""
    needed = (
        ((await look_up_table(connection, settings)).table, ("DELETE",)),
        (dead_letter_table(settings), ("DELETE",)),
        (ledger_table(settings), ("DELETE",)),
        (job_run_table(settings), ("SELECT", "INSERT", "UPDATE")),
        (statistics_table(settings), ("SELECT", "INSERT", "DELETE")),
    )
    lacking = []
    for table, rights in needed:
        lacking += await _rights(connection, table, table.fullname, rights)
    because = "the jobs cannot do their work"
    return [warning("database.job_rights", f"{each.what}: {because}", each.advice) for each in lacking]


async def may(connection: AsyncConnection, table: FromClause, right: str) -> bool:
    """Whether the connection's user has a right on a table; SQLite has none."""
    return not await connection.run_sync(missing_rights, table, (right,))


async def _rights(
    connection: AsyncConnection,
    table: FromClause,
    name: str,
    rights: Sequence[str],
    columns: Collection[str] = (),
) -> list[Finding]:
    """One error for those that are missing."""
    missing = await connection.run_sync(missing_rights, table, rights, columns)
    if not missing:
        return []
    what = f'the user of DATABASE_URL has no {" and no ".join(missing)} on table "{name}"'
    return [error("database.rights", what, _grant(name, ", ".join(missing)))]


def _grant(table: str, rights: str) -> str:
    return f"GRANT {rights} ON {table} TO the user of DATABASE_URL"


async def _samples(connection: AsyncConnection, table: LogTable) -> AsyncIterator[str]:
    """Entries, one of which any table takes that works; the newest row, as new, is in use there."""
    yield good_entry()
    row = (await connection.execute(select_entries(table).limit(1))).first()
    if row is not None:
        yield good_entry(msgspec.json.encode(to_entry(table, row)).decode())
    for category in LogCategory:
        yield good_entry(category=category)


def _indexes(found: LogTable, name: str) -> Iterator[Finding]:
    """Without these two every look at a run, and every clean-up, reads the whole table."""
    first = {next(iter(index.columns)).name for index in found.table.indexes if len(index.columns)}
    first |= {
        next(iter(constraint.columns)).name
        for constraint in found.table.constraints
        if isinstance(constraint, PrimaryKeyConstraint) and len(constraint.columns)
    }
    wanted = {"task_id": "task_id, created_at, id", "created_at": "created_at"}
    for column, columns in wanted.items():
        if found.columns[column].name not in first:
            use = "a run" if column == "task_id" else "the oldest and newest entries"
            yield warning(
                "database.indexes",
                f'table "{name}" has no index that begins with {column}: reading {use} reads all of it',
                f"CREATE INDEX CONCURRENTLY ON {name} ({columns})",
            )


def _zone(found: LogTable, subject: Subject) -> Iterator[Finding]:
    naive = not getattr(found.columns["created_at"].type, "timezone", False)
    if naive and not is_set("time_zone", subject.environ):
        yield warning(
            "database.time_zone",
            "column created_at has no time zone, and EXECUTION_LOGGER_TIME_ZONE is not set: UTC is written",
            "set it for workers and readers to what the host's other code writes there, e.g. "
            "EXECUTION_LOGGER_TIME_ZONE=Asia/Shanghai (or UTC, if that is right)",
        )


async def _newest(connection: AsyncConnection, found: LogTable, subject: Subject) -> list[Finding]:
    newest: Any = (await connection.execute(select(func.max(found.columns["created_at"])))).scalar()
    moment = found.to_utc(newest)
    ahead = timedelta(0) if moment is None else moment - datetime.fromtimestamp(subject.now(), UTC)
    if ahead <= _AHEAD:
        return []
    what = f"the newest entry is {ahead.total_seconds() / 3600:.1f} h ahead: {moment:%Y-%m-%d %H:%M} UTC"
    advice = "correct EXECUTION_LOGGER_TIME_ZONE, or the clock of the host that wrote it"
    return [warning("database.time_zone", what, advice)]
