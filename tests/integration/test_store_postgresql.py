"""The store on PostgreSQL: the library's own table, the tables of hosts, and reading back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from batches import BAD_ON_POSTGRESQL, batch, encoded, fields
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.runs import recent_runs
from execution_logger.read.timeline import Timeline
from execution_logger.store import ExecutionLogRepository, WriteResult, overview, upgrade
from ledgers import Noted, fill
from postgresql_site import PostgresqlSite
from rows import fetch
from waiting import wait_until

TABLES = (
    "execution_logs",
    "execution_log_dead_letters",
    "execution_log_batches",
    "execution_log_job_runs",
    "execution_log_statistics",
)


IDS = {
    "operation_id": "01a22505-c189-7200-be65-eeb94327379a",
    "parent_id": "01a22505-c189-7200-be65-eeb856039154",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
}


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[PostgresqlSite]:
    """The library's own tables."""
    async with PostgresqlSite(database_url) as site:
        yield site


async def execute(url: str, script: str) -> None:
    """Run statements on a connection of the test's own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


@asynccontextmanager
async def hosts_session(url: str) -> AsyncIterator[AsyncSession]:
    """A session on an engine that the host made, as hosts make theirs."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


async def test_the_table_has_native_types(site: PostgresqlSite) -> None:
    """Small and quick ones; and few indexes, because each costs every insert."""
    columns = await site.rows(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'execution_logs'"
    )
    kinds = {row["column_name"]: row["data_type"] for row in columns}
    special = {
        "id": "uuid",
        "details": "jsonb",
        "duration_ms": "integer",
        "created_at": "timestamp with time zone",
        "operation_id": "uuid",
        "parent_id": "uuid",
    }
    assert kinds.items() >= special.items()
    assert {kinds[name] for name in kinds.keys() - special} == {"text"}
    indexes = await site.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'execution_logs'")
    assert {row["indexname"] for row in indexes} == {
        "execution_logs_pkey",
        "ix_execution_logs_timeline",
        "ix_execution_logs_created_at",
    }


async def test_an_entry_is_stored_as_it_is(site: PostgresqlSite) -> None:
    """Every field has its column, in its own type."""
    entry = fields(
        roadmap_id="r",
        concept_id="c",
        step="s",
        agent_name="a",
        duration_ms=7,
        details={"z": [1, None, "学"]},
        operation_id="01a22505-c189-7200-be65-eeb94327379a",
        parent_id="01a22505-c189-7200-be65-eeb856039154",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id="b7ad6b7169203331",
    )
    assert await site.write(encoded(entry)) == WriteResult(stored=1)
    (row,) = await site.rows()
    native = {name: UUID(entry[name]) for name in ("id", "operation_id", "parent_id")}
    created_at = datetime.fromisoformat(entry["created_at"])
    assert row == {**entry, **native, "created_at": created_at}


async def write(site: PostgresqlSite, *entries: str, batch_id: str = "b", first: int = 1) -> WriteResult:
    """Write a batch of the process `p`."""
    return await site.writer.write(batch_id, batch(*entries), process="p", first=first)


NOTED = (
    "SELECT batch_id, first, entries, dead_lettered, deliveries, oldest_at, newest_at, "
    "abs(extract(epoch FROM now() - stored_at)) < 60 AS is_new FROM execution_log_batches ORDER BY first"
)


async def test_a_batch_is_noted_by_way_of_a_pgbouncer_too(database_url: str) -> None:
    """Once, and counted when it comes again, be it at the same time."""
    times = ["2026-11-22T02:13:53Z", "2026-11-22T02:13:55.123456Z"]
    entries = [encoded(created_at=time) for time in times]
    async with PostgresqlSite(database_url, "?statement_cache_size=0") as site:
        results = await asyncio.gather(*(write(site, *entries, first=51) for _ in range(4)))
        assert sorted(result.stored for result in results) == [0, 0, 0, 2]
        assert await write(site, *entries, first=51) == WriteResult(duplicates=2)
    oldest_at, newest_at = map(datetime.fromisoformat, times)
    assert await site.rows(NOTED) == [
        {
            "batch_id": "b",
            "first": 51,
            "entries": 2,
            "dead_lettered": 0,
            "deliveries": 5,
            "oldest_at": oldest_at,
            "newest_at": newest_at,
            "is_new": True,
        }
    ]


async def test_a_session_that_ends_at_a_batchs_note_leaves_no_rows_behind(site: PostgresqlSite) -> None:
    """They are one statement: a crash can come only before it or after it."""
    await execute(
        site.url,
        "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END $$;"
        "CREATE TRIGGER cut BEFORE INSERT ON execution_log_batches FOR EACH ROW EXECUTE FUNCTION cut()",
    )
    with pytest.raises(StoreUnavailableError, match=r"terminating connection|connection was closed"):
        await write(site, encoded())
    assert await site.rows() == []
    await execute(site.url, "DROP TRIGGER cut ON execution_log_batches")
    assert await write(site, encoded()) == WriteResult(stored=1)
    assert len(await site.rows(NOTED)) == 1


async def test_a_busy_table_is_not_held_up_by_its_new_columns(
    site: PostgresqlSite, database_url: str
) -> None:
    """They wait for a transaction that uses it, and all others would wait behind them."""
    drops = ", ".join(f"DROP COLUMN {name}" for name in IDS)
    back = "UPDATE execution_logger_alembic_version SET version_num = '0003'"
    await execute(database_url, f"ALTER TABLE execution_logs {drops}; {back}")
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("LOCK TABLE execution_logs IN ACCESS SHARE MODE")
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            await upgrade(site.engine, site.settings)
    await connection.close()
    await upgrade(site.engine, site.settings)
    assert await site.write(encoded(**IDS)) == WriteResult(stored=1)


async def test_an_upgrade_may_take_longer_than_a_batch(postgres_url: str) -> None:
    """Here it waits for another one."""
    blocker = await asyncpg.connect(postgres_url)
    await blocker.execute("SELECT pg_advisory_lock(hashtext('execution_logger upgrade'))")
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database() "
        "AND now() - query_start > interval '1 second'"
    )
    async with PostgresqlSite(postgres_url, database_timeout_seconds=0.5) as site:
        upgrading = asyncio.create_task(upgrade(site.engine, site.settings))
        await asyncio.to_thread(wait_until, lambda: upgrading.done() or fetch(postgres_url, waiting))
        await blocker.close()
        assert "execution_logs created" in await upgrading


async def test_the_tables_may_be_in_a_schema(postgres_url: str) -> None:
    """All of them, and the version; a schema that does not exist is named."""
    async with PostgresqlSite(postgres_url, table="logs.entries") as site:
        with pytest.raises(StoreUnavailableError, match='schema "logs" does not exist'):
            await upgrade(site.engine, site.settings)
        await execute(postgres_url, "CREATE SCHEMA logs")
        await upgrade(site.engine, site.settings)
        assert await site.write(encoded(), "5") == WriteResult(stored=1, dead_lettered=1)
        tables = await site.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'logs'")
        own = (*TABLES[1:], "execution_logger_alembic_version")
        names = {"entries", *(f"{name}_entries" for name in own)}
        assert {row["tablename"] for row in tables} == names
        assert (await overview(site.engine, site.settings)).rows == 1


HOSTS_TABLE = """
    CREATE TABLE execution_logs (
        id VARCHAR(36) PRIMARY KEY,
        task_id VARCHAR(36) NOT NULL,
        roadmap_id VARCHAR(36),
        concept_id VARCHAR(50),
        level VARCHAR(20) NOT NULL,
        category VARCHAR(50) NOT NULL,
        step VARCHAR(50),
        agent_name VARCHAR(50),
        message TEXT NOT NULL,
        details JSON,
        duration_ms INTEGER,
        created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT now(),
        tenant VARCHAR(20) NOT NULL DEFAULT 'default',
        number BIGSERIAL,
        words TSVECTOR
    );
    CREATE INDEX ix_task ON execution_logs (task_id);
    CREATE INDEX ix_task_level ON execution_logs (task_id, level);
    CREATE INDEX ix_lower ON execution_logs (lower(message));
"""


@pytest.fixture
async def host(postgres_url: str) -> AsyncIterator[PostgresqlSite]:
    """A host's table, made by its own migrations, with local times."""
    await execute(postgres_url, HOSTS_TABLE)
    async with PostgresqlSite(postgres_url, time_zone="Asia/Shanghai") as host:
        yield host


async def test_a_hosts_table_is_written_in_its_own_types(host: PostgresqlSite) -> None:
    """Ids as texts, times as local times, JSON as it came, and the host's defaults."""
    report = await upgrade(host.engine, host.settings)
    created = ", ".join(f"{name} created" for name in TABLES[1:])
    assert report == f"{TABLES[0]} is there already, {created}"
    entry = fields(step="s", details={"z": 1, "a": [None]}, duration_ms=7)
    assert await host.write(encoded(entry)) == WriteResult(stored=1)
    assert await host.write(encoded(entry)) == WriteResult(duplicates=1)
    (row,) = await host.rows()
    assert row["id"] == entry["id"]
    assert row["created_at"].isoformat() == "2026-11-22T10:13:53.123456"
    assert row["details"] == '{"z": 1, "a": [null]}'
    assert (row["step"], row["duration_ms"], row["tenant"], row["number"]) == ("s", 7, "default", 1)


@pytest.mark.parametrize(
    ("types", "in_columns"),
    [
        (("UUID", "UUID", "TEXT", "TEXT"), set(IDS)),
        (("CHAR(40)", "VARCHAR(36)", "CHAR(32)", "CHAR(16)"), set(IDS)),
        (("UUID", "CHAR(35)", "UUID", "UUID"), set()),
        (("kind", "UUID", "TEXT", "BYTEA"), set()),
        (("UUID", "VARCHAR(36) REFERENCES execution_logs", "TEXT", "kind"), set()),
    ],
    ids=["natural", "as wide as they are", "too narrow or of another kind", "an enum", "a reference"],
)
async def test_a_hosts_columns_for_the_tree_are_taken_where_they_hold_it(
    host: PostgresqlSite, postgres_url: str, types: tuple[str, ...], in_columns: set[str]
) -> None:
    """Whatever they are, the entry is stored, and read back with its ids."""
    columns = ", ".join(f"ADD COLUMN {name} {kind}" for name, kind in zip(IDS, types, strict=True))
    await execute(postgres_url, f"CREATE TYPE kind AS ENUM ('a'); ALTER TABLE execution_logs {columns}")
    await upgrade(host.engine, host.settings)
    assert await host.write(encoded(**IDS)) == WriteResult(stored=1)
    (row,) = await host.rows()
    assert {name for name in IDS if row[name] is not None} == in_columns
    assert set(json.loads(row["details"] or "{}")) == set(IDS) - in_columns
    (entry,) = await Timeline(host.engine, host.settings, "t").last(1)
    assert {name: getattr(entry, name) for name in IDS} == IDS


async def test_a_text_that_is_too_long_is_cut_and_kept_in_the_details(host: PostgresqlSite) -> None:
    """A column of 50 characters loses no row and no character."""
    long = "学" * 60
    await host.write(
        encoded(step=long, agent_name="a" * 50),
        encoded(step=long, agent_name=long, details={"k": None, "_changed": {"message": "cut"}}),
    )
    first, second = await host.rows()
    assert (first["step"], first["agent_name"]) == ("学" * 50, "a" * 50)
    assert json.loads(first["details"]) == {"_changed": {"step": long}}
    changed = {"step": long, "agent_name": long, "message": "cut"}
    assert json.loads(second["details"]) == {"k": None, "_changed": changed}


async def test_a_run_with_a_cut_id_is_still_found(host: PostgresqlSite) -> None:
    """The same cut is made when it is asked for."""
    await host.write(encoded(task_id="t" * 100))
    async with hosts_session(host.url) as session:
        repository = ExecutionLogRepository(session, host.settings)
        assert len(await repository.list_by_trace("t" * 100)) == 1


async def test_bad_entries_of_a_hosts_table_become_dead_letters(host: PostgresqlSite) -> None:
    """By the rules of the host's own columns."""
    await upgrade(host.engine, host.settings)
    await execute(host.url, "ALTER TABLE execution_logs ADD CHECK (level <> 'loud')")
    what = ("no id", "no task", "an id that is no UUID")
    bad = [encoded(level="loud"), *(BAD_ON_POSTGRESQL[each] for each in what)]
    assert await host.write(encoded(), *bad, encoded()) == WriteResult(stored=2, dead_lettered=4)


async def test_enums_are_written_by_the_labels_that_there_are(postgres_url: str) -> None:
    """SQLAlchemy's enums have the names of the members; read back, they are the levels again."""
    await execute(
        postgres_url,
        """
        CREATE SCHEMA app;
        CREATE TYPE app.log_level AS ENUM ('DEBUG', 'INFO', 'WARNING', 'ERROR');
        CREATE TYPE app.log_category AS ENUM ('AGENT', 'agent', 'tool');
        CREATE TABLE execution_logs (
            id UUID PRIMARY KEY, task_id UUID NOT NULL, level app.log_level NOT NULL,
            category app.log_category NOT NULL, message TEXT NOT NULL, details TEXT NOT NULL,
            created_at TIMESTAMPTZ NOT NULL
        )
        """,
    )
    task_id = "0190b5f0-0000-7000-8000-000000000000"
    async with PostgresqlSite(postgres_url) as site, hosts_session(postgres_url) as session:
        await upgrade(site.engine, site.settings)
        entries = [encoded(task_id=task_id), encoded(task_id=task_id, level="error", step="s")]
        unknown = encoded(task_id=task_id, category="retry")
        assert await site.write(*entries, unknown) == WriteResult(stored=2, dead_lettered=1)
        written = [(row["level"], row["category"]) for row in await site.rows()]
        assert written == [("INFO", "agent"), ("ERROR", "agent")]
        # As earlier versions left them among the dead letters.
        for number, level in enumerate(("warn", "FATAL")):
            await site.write(encoded(task_id=str(UUID(int=number)), level=level), batch_id=level)
        assert [row["level"] for row in await site.rows()][2:] == ["WARNING", "ERROR"]
        repository = ExecutionLogRepository(session, site.settings)
        (error,) = await repository.get_error_logs(task_id)
        assert (error.task_id, error.level, error.category, error.step) == (task_id, "error", "agent", "s")
        assert (await repository.get_logs_summary(task_id))["level_stats"] == {"info": 1, "error": 1}
        assert await repository.list_by_trace("no uuid") == []
        assert await repository.list_by_trace(task_id, category="retry") == []


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("app.log_level", ["DEBUG", "WARN", "ERROR", "ERROR"]),
        ("app.other_level", ["debug", "warning", "err", "fatal"]),
        ("VARCHAR(5)", ["debug", "warn", "error", "fatal"]),
        ("VARCHAR(7)", ["debug", "warning", "error", "fatal"]),
        ("TEXT", ["debug", "warning", "error", "critical"]),
    ],
)
async def test_levels_have_the_names_that_a_column_has_for_them(
    postgres_url: str, kind: str, written: list[str]
) -> None:
    """No entry is refused for its level: a critical one is the gravest that there is, and is found."""
    await execute(
        postgres_url,
        f"""
        CREATE SCHEMA app;
        CREATE TYPE app.log_level AS ENUM ('DEBUG', 'INFO', 'WARN', 'ERROR');
        CREATE TYPE app.other_level AS ENUM ('fatal', 'err', 'warning', 'info', 'debug');
        CREATE TABLE execution_logs (
            id UUID PRIMARY KEY, task_id TEXT NOT NULL, level {kind} NOT NULL, category TEXT NOT NULL,
            message TEXT NOT NULL, details JSONB, created_at TIMESTAMPTZ NOT NULL
        )
        """,
    )
    async with PostgresqlSite(postgres_url) as site, hosts_session(postgres_url) as session:
        await upgrade(site.engine, site.settings)
        for second, level in enumerate(("debug", "warning", "error", "critical")):
            created_at = f"2026-11-22T02:00:0{second}Z"
            assert await site.write(encoded(level=level, created_at=created_at)) == WriteResult(stored=1)
        rows = await site.rows("SELECT level FROM execution_logs ORDER BY created_at")
        assert [row["level"] for row in rows] == written
        repository = ExecutionLogRepository(session, site.settings)
        gravest = "error" if kind == "app.log_level" else "critical"
        assert [each.level for each in await repository.get_error_logs("t")] == [gravest, "error"]
        assert [each.level for each in await repository.list_by_trace("t", level="WARN")] == ["warning"]
        runs = await recent_runs(site.engine, site.settings, limit=1, with_errors=True)
        assert [(run.errors, run.warnings, run.ended_in_error) for run in runs.runs] == [(2, 1, True)]


async def test_a_partitioned_table_recognises_entries_too(postgres_url: str) -> None:
    """Its key holds the time as well, which is the same each time that an entry comes."""
    await execute(
        postgres_url,
        """
        CREATE TABLE execution_logs (
            id UUID, task_id TEXT NOT NULL, level TEXT NOT NULL, category TEXT NOT NULL,
            message TEXT NOT NULL, details JSONB, created_at TIMESTAMPTZ NOT NULL,
            PRIMARY KEY (created_at, id)
        ) PARTITION BY RANGE (created_at);
        CREATE TABLE november PARTITION OF execution_logs FOR VALUES FROM ('2026-11-01') TO ('2026-12-01')
        """,
    )
    async with PostgresqlSite(postgres_url) as site:
        entries = [encoded() for _ in range(3)]
        assert await site.write(*entries) == WriteResult(stored=3)
        assert await site.write(*entries, encoded()) == WriteResult(stored=1, duplicates=3)


@pytest.fixture(params=["own", "host's"])
async def either(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[PostgresqlSite]:
    """The library's own table, or a host's."""
    zone = "UTC" if request.param == "own" else "Asia/Shanghai"
    async with PostgresqlSite(postgres_url, time_zone=zone) as site:
        if request.param != "own":
            await execute(postgres_url, HOSTS_TABLE)
        await upgrade(site.engine, site.settings)
        yield site


async def test_reading_back(either: PostgresqlSite) -> None:
    """The same entries in the same order, from either table, in UTC."""
    start = datetime(2026, 11, 22, tzinfo=UTC)
    times = [start + timedelta(seconds=number) for number in (2, 0, 1)]
    entries = [fields(created_at=time.isoformat(), duration_ms=5, details={"k": "学"}) for time in times]
    await either.write(*map(encoded, entries), encoded(task_id="other"))
    async with hosts_session(either.url) as session:
        repository = ExecutionLogRepository(session, either.settings)
        read = await repository.list_by_trace("t")
        assert [entry.created_at for entry in read] == sorted(times, reverse=True)
        assert {entry.id for entry in read} == {entry["id"] for entry in entries}
        assert [(entry.details, entry.duration_ms) for entry in read] == [({"k": "学"}, 5)] * 3
        summary = await repository.get_logs_summary("t")
        assert (summary["total_duration_ms"], summary["total_logs"]) == (15, 3)
        assert summary["first_log_at"] == "2026-11-22T00:00:00+00:00"
        created = await repository.create_log("t", "error", "api", "m", details={"k": 1})
        assert [entry.id for entry in await repository.get_error_logs("t")] == [created.id]
        assert await repository.delete_logs_by_trace("t") == 4
        await session.rollback()
    assert len(await either.rows()) == 4


async def test_old_entries_are_deleted_to_the_hour(host: PostgresqlSite) -> None:
    """A day is 24 hours, although the table holds local times."""
    now = datetime.now(UTC)
    ages = [timedelta(days=1, minutes=-1), timedelta(days=1, minutes=1), timedelta(days=91)]
    await host.write(*(encoded(created_at=(now - age).isoformat()) for age in ages))
    async with hosts_session(host.url) as session, session.begin():
        repository = ExecutionLogRepository(session, host.settings)
        assert await repository.delete_old_logs() == 1
        assert await repository.delete_old_logs(days=1) == 1
    assert len(await host.rows()) == 1


async def test_old_processes_leave_the_ledger(site: PostgresqlSite) -> None:
    """When the user may delete there; otherwise only the entries go."""
    await fill(site.engine, [Noted("b", "p", 1, 1, 1, 100 * 86_400, 1)], datetime.now(UTC))
    await execute(site.url, "CREATE USER joe; GRANT SELECT, DELETE ON execution_logs TO joe")
    try:
        for url, left in ((site.url.replace("postgres@", "joe@"), 1), (site.url, 0)):
            async with hosts_session(url) as session, session.begin():
                assert await ExecutionLogRepository(session, site.settings).delete_old_logs() == 0
            assert len(await site.rows(NOTED)) == left
    finally:
        await execute(site.url, "DROP OWNED BY joe; DROP USER joe")


@pytest.mark.parametrize("is_analysed", [True, False])
async def test_the_overview_estimates_a_large_table(site: PostgresqlSite, *, is_analysed: bool) -> None:
    """Counting would take longer than anybody waits for a status; not even when it was never analysed."""
    assert (await overview(site.engine, site.settings)).rows == 0
    await execute(
        site.url,
        "ALTER TABLE execution_logs SET (autovacuum_enabled = off); "
        "INSERT INTO execution_logs (id, task_id, level, category, message, created_at) "
        "SELECT gen_random_uuid(), 't', 'info', 'agent', repeat('m', 350), "
        "timestamptz '2026-01-01Z' + n * interval '1 s' FROM generate_series(1, 120000) AS n",
    )
    if is_analysed:
        await execute(site.url, "ANALYZE execution_logs")
    await site.write("5")
    seen = await overview(site.engine, site.settings)
    assert 100_000 < seen.rows < (140_000 if is_analysed else 240_000)
    assert is_analysed or seen.rows != 120_000  # which is what a count would tell
    assert seen.oldest == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert seen.dead_letters == 1


@pytest.mark.parametrize(
    "query", ["sslmode=prefer", "ssl=false", "statement_cache_size=0", "keepalives=1&connect_timeout=5"]
)
async def test_urls_for_other_drivers_work(database_url: str, query: str) -> None:
    """With libpq's parameters, and without prepared statements for PgBouncer."""
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    async with PostgresqlSite(url, f"?{query}") as site:
        assert await site.write(encoded(), "5") == WriteResult(stored=1, dead_lettered=1)
        assert await write(site, encoded(), encoded(), "5") == WriteResult(stored=2, dead_lettered=1)
        assert await write(site, encoded(), batch_id="c", first=4) == WriteResult(stored=1)
    async with PostgresqlSite(database_url) as site:
        assert (len(await site.rows()), len(await site.rows(NOTED))) == (4, 2)


async def test_a_url_may_set_the_search_path(database_url: str) -> None:
    """The table is found where the connection looks for it; the connections bear the library's name."""
    await execute(database_url, "CREATE SCHEMA logs; ALTER TABLE execution_logs SET SCHEMA logs")
    async with PostgresqlSite(f"{database_url}?options=-c%20search_path%3Dlogs") as site:
        assert await site.write(encoded()) == WriteResult(stored=1)
        async with site.engine.connect() as connection:
            shown = await connection.exec_driver_sql("SHOW application_name")
            assert shown.scalar_one() == "execution_logger"


async def test_an_encrypted_connection_is_insisted_on(database_url: str) -> None:
    """A server without TLS is refused when the URL requires it."""
    async with PostgresqlSite(f"{database_url}?sslmode=require") as site:
        with pytest.raises(StoreUnavailableError, match="SSL"):
            await site.write(encoded())
