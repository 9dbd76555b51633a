"""The database: whether it answers, takes rows, and has what the library expects of it."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from execution_logger.delivery.database import ThreadLoop
from execution_logger.errors import StoreUnavailableError
from execution_logger.operate.doctor.finding import (
    Finding,
    Level,
    Subject,
    advice_on,
    compare_clocks,
    error,
    ok,
    warning,
    worst,
)
from execution_logger.operate.doctor.tables import (
    examine_dead_letters,
    examine_entries,
    examine_insert,
    examine_job_rights,
    examine_ledger,
    may,
)
from execution_logger.read.repository import ExecutionLogRepository
from execution_logger.settings import PREFIX, Settings
from execution_logger.store import create_engine
from execution_logger.store.engine import AUTOCOMMIT
from execution_logger.store.faults import UPGRADE, attempt
from execution_logger.store.migrate import version_table
from execution_logger.store.schema import job_run_table
from execution_logger.text import public_url
from execution_logger.worker.job_status import JobStatus, job_statuses

TIMEOUT_SECONDS = 3.0

_QUESTIONS_SECONDS = 5.0  # some dozens, on a machine that may be busy
_LOOK_SECONDS = 0.05
_NEARLY_ALL = 0.9
_CAUSES = {
    "password authentication|no password supplied": "correct user and password in DATABASE_URL",
    "refused|Connect call failed": "start the database, or correct host and port in DATABASE_URL",
    "no answer within|statement timeout": (
        "it hangs, a firewall drops packets, or a table is locked: see pg_stat_activity"
    ),
    'database "[^"]*" does not exist': "correct its name in DATABASE_URL, or create it: createdb NAME",
    'role "[^"]*" does not exist': "correct the user in DATABASE_URL, or create it: CREATE ROLE NAME LOGIN",
    r"pg_hba\.conf": "allow this machine and user in pg_hba.conf, or use ?sslmode=require",
    "too many clients": "raise max_connections, or lower EXECUTION_LOGGER_WORKER_CONCURRENCY",
    "permission denied": "grant it: docs/CELERY_SETUP.md lists the rights that a worker needs",
    "resolution|not known|nodename": "correct the host's name in DATABASE_URL",
    "unable to open": "make the folder of the file, or correct DATABASE_URL",
    "readonly|read-only": "let this user write the file and its folder",
    "database is locked": "another process writes for long: SQLite takes one writer at a time",
    "SSL|certificate": "see sslmode and sslrootcert in DATABASE_URL",
}
_POOLER_SIGNS = ("startup parameter", "prepared statement", "bind message supplies")
_POOLER_ADVICE = (
    "that is a PgBouncer: append ?prepared_statement_cache_size=0 to DATABASE_URL where its pool_mode is "
    "transaction; set ignore_startup_parameters = statement_timeout there where it is session"
)


def examine_database(subject: Subject) -> Iterator[Finding]:
    """Connect as a worker does, and look at the server and at the tables."""
    # Looking up a host may take longer than we wait, and the exit would wait for an executor's thread.
    with asyncio.Runner(loop_factory=ThreadLoop) as runner:
        yield from runner.run(_examine(subject))


def unreachable(problem: str) -> Finding:
    """A database that cannot be used, and what helps against this kind of failure."""
    lower = problem.lower()
    if any(sign in lower for sign in _POOLER_SIGNS):
        return error("database.pgbouncer", problem, _POOLER_ADVICE)
    return error(
        "database.connection",
        problem,
        advice_on(problem, _CAUSES, "check DATABASE_URL, and the database's log"),
    )


def take_back(settings: Settings, task_id: str, until: float, *, waits: bool) -> tuple[bool, bool]:
    """Whether a run has entries, and whether they could be deleted.

    Args:
        settings: name the table.
        task_id: of the run.
        until: monotonic; how long that may take.
        waits: look again and again.

    Raises:
        StoreUnavailableError: the database cannot be used now, or has no table for the entries.
    """

    async def look() -> tuple[bool, bool]:
        engine = create_engine(settings, pool_size=1)
        seconds = max(TIMEOUT_SECONDS, until - time.monotonic())
        try:
            async with attempt(engine, seconds), AsyncSession(engine) as session:
                rows = ExecutionLogRepository(session, settings)
                while not await rows.list_by_trace(task_id):
                    if not waits or time.monotonic() >= until:
                        return False, False
                    await session.rollback()
                    await asyncio.sleep(_LOOK_SECONDS)
                return True, await _delete(rows, session, task_id)
        finally:
            await engine.dispose()

    with asyncio.Runner(loop_factory=ThreadLoop) as runner:
        return runner.run(look())


async def _delete(rows: ExecutionLogRepository, session: AsyncSession, task_id: str) -> bool:
    try:
        await rows.delete_logs_by_trace(task_id)
        await session.commit()
    except SQLAlchemyError:  # not for this user to do
        return False
    return True


async def _examine(subject: Subject) -> list[Finding]:
    timeout_seconds = min(TIMEOUT_SECONDS, subject.settings.database_timeout_seconds)
    settings = replace(subject.settings, database_timeout_seconds=timeout_seconds)
    subject = replace(subject, settings=settings)
    engine = create_engine(settings, pool_size=2)
    found: list[Finding] = []
    try:
        async with AsyncExitStack() as stack:
            async with attempt(engine, timeout_seconds):
                connection = await stack.enter_async_context(engine.connect())
            async with attempt(engine, _QUESTIONS_SECONDS):
                await _examine_all(connection, engine, subject, found)
    except StoreUnavailableError as problem:
        found.append(unreachable(str(problem)))
    finally:
        await engine.dispose()
    return found


async def _examine_all(
    connection: AsyncConnection, engine: AsyncEngine, subject: Subject, found: list[Finding]
) -> None:
    """Add to what was found one by one: what was found before a failure is told, too."""
    settings = subject.settings
    if connection.dialect.name == "postgresql":
        found += await _pooler(connection, engine)
        found += await _postgresql(connection, subject)
    else:
        found += await _sqlite(connection, subject)
    url = public_url(engine.url.render_as_string(hide_password=True), user="***@")
    found.append(ok("database.connection", f"{url} answers"))
    found += await examine_entries(connection, subject)
    if worst(found) is not Level.ERROR:
        found += await examine_insert(connection, settings)
    found += await examine_dead_letters(connection, settings)
    found += await examine_ledger(connection, settings)
    if all(each.advice != UPGRADE for each in found):
        found += await _migrations(connection, subject)
        found += await examine_job_rights(connection, settings)
        found += await examine_jobs(connection, settings)


async def _pooler(connection: AsyncConnection, engine: AsyncEngine) -> list[Finding]:
    """A PgBouncer that gives each transaction another connection, where the URL does not say so.

    Two connections of ours that are served by one process of the server's give it away.
    """
    if not engine.get_execution_options()[AUTOCOMMIT]:
        return []
    process = select(func.pg_backend_pid())
    async with engine.connect() as other:
        if (await connection.execute(process)).scalar() != (await other.execute(process)).scalar():
            return []
    what = "two connections share one process of the server's: statements get in each other's way"
    return [error("database.pgbouncer", what, _POOLER_ADVICE)]


async def _postgresql(connection: AsyncConnection, subject: Subject) -> list[Finding]:
    asked_at = subject.now()
    now = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    found = list(compare_clocks("database", "the database's", now.timestamp(), asked_at, subject.now()))
    row = (
        await connection.execute(
            text(
                "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', "
                "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "
                "current_setting('max_connections')::int, current_setting('server_encoding')"
            )
        )
    ).one()
    is_replica, is_read_only, used, most, encoding = row
    if is_replica or is_read_only:
        why = "it is a replica" if is_replica else "default_transaction_read_only is on"
        what = f"the database takes no rows: {why}"
        found.append(error("database.writes", what, "name the primary in DATABASE_URL"))
    if used >= _NEARLY_ALL * most:
        what = f"{used} of max_connections={most} are in use; each worker needs its concurrency of them"
        advice = "raise max_connections, or see in pg_stat_activity who holds them"
        found.append(warning("database.connections", what, advice))
    if encoding != "UTF8":
        what = (
            f"the database's encoding is {encoding}: entries with characters that it has not are dead letters"
        )
        advice = "move the tables to a database of createdb --encoding UTF8 --template template0"
        found.append(warning("database.encoding", what, advice))
    return found


async def _sqlite(connection: AsyncConnection, subject: Subject) -> list[Finding]:
    await connection.exec_driver_sql("BEGIN IMMEDIATE")  # fails when it cannot be written
    await connection.exec_driver_sql("ROLLBACK")
    if not subject.settings.celery_enabled or subject.settings.worker_pool != "prefork":
        return []
    what = "SQLite takes one writer at a time, and the pool prefork has several processes"
    advice = "set EXECUTION_LOGGER_WORKER_POOL=threads, or use PostgreSQL"
    return [warning("database.writers", what, advice)]


async def _migrations(connection: AsyncConnection, subject: Subject) -> list[Finding]:
    """Whether `db upgrade` of this version was run; a role without the right to look is no finding."""
    versions = version_table(subject.settings)
    config = Config()
    config.set_main_option("script_location", "execution_logger.store:migrations")
    head = ScriptDirectory.from_config(config).get_current_head()
    exists = await connection.run_sync(lambda sync: inspect(sync).has_table(versions.name, versions.schema))
    if not exists:
        what = f"the library's migrations were never run (there is no table {versions.name})"
        return [warning("database.migrations", what, UPGRADE)]
    if not await may(connection, versions, "SELECT"):
        return []
    found: Any = (await connection.execute(select(versions.c.version_num))).scalar()
    if found == head:
        return [ok("database.migrations", f"the tables are those of this version ({head})")]
    what = f"the tables are those of migration {found}, this version's are those of {head}"
    return [error("database.migrations", what, UPGRADE)]


async def examine_jobs(connection: AsyncConnection, settings: Settings) -> list[Finding]:
    """Look at their rows, where there are any that this user may read."""
    table = job_run_table(settings)
    exists = await connection.run_sync(lambda sync: inspect(sync).has_table(table.name, table.schema))
    # Without Celery there is neither Beat nor a worker.
    if not exists or not settings.celery_enabled or not await may(connection, table, "SELECT"):
        return []
    return judge_jobs(await job_statuses(connection, settings))


def judge_jobs(jobs: Sequence[JobStatus]) -> list[Finding]:
    """Late ones have one cause, each of the failed ones its own."""
    failed = {each.job.name: each.problem for each in jobs if each.problem and not each.is_late}
    findings = [
        warning("database.jobs", f"job {name}: {problem}", f"execution-logger jobs run {name}")
        for name, problem in failed.items()
    ]
    if late := [each for each in jobs if each.is_late]:
        since = min(each.next_at for each in late if each.next_at is not None)
        names = ", ".join(each.job.name for each in late)
        what = f"jobs that are late, the first since {since:%Y-%m-%d %H:%M} UTC: {names}"
        off = f"{PREFIX}{late[0].job.setting.upper()}=off"
        advice = f"start execution-logger beat and a worker; or switch off what is not needed: {off}"
        findings.append(warning("database.jobs", what, advice))
    return findings
