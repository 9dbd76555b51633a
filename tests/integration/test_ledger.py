"""The ledger at its size on PostgreSQL: what reads a few of its rows; how an older one gets its indexes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from batches import batch, encoded
from execution_logger.read.audit import audit
from execution_logger.read.overview import overview, read_overview
from execution_logger.store import WriteResult, upgrade
from execution_logger.store.compaction import AT_REST_AFTER, compact
from execution_logger.worker.jobs import Runner
from execution_logger.worker.schedule import HEALTH, RETENTION
from postgresql_site import PostgresqlSite
from waiting import wait_until

DAYS, PROCESSES, BATCHES = 60, 5, 60_000
FILL = f"""
    INSERT INTO execution_log_batches
        (batch_id, process, first, entries, dead_lettered, deliveries, oldest_at, newest_at, stored_at)
    SELECT 'b' || n, 'host-' || n % {PROCESSES}, 1 + 50 * (n / {PROCESSES}), 50, 0, 1, at, at, at
    FROM generate_series(0, {BATCHES - 1}) AS n,
    LATERAL (SELECT now() - interval '{DAYS} days' * (1 - n / {BATCHES}::float8) AS at) AS moment;
    ANALYZE execution_log_batches
"""
INDEXES = "ix_execution_log_batches_place", "ix_execution_log_batches_stored_at"
DROP = "DROP INDEX ix_execution_log_batches_place; DROP INDEX ix_execution_log_batches_stored_at"


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[PostgresqlSite]:
    """A ledger of two months, a row a batch."""
    # A table of this size is read whole where that is a little cheaper; one of millions is not.
    query = "?options=-c%20enable_seqscan%3Doff"
    async with PostgresqlSite(database_url, query, celery_enabled=False) as site:
        await execute(site.url, FILL)
        yield site


async def execute(url: str, script: str) -> None:
    """Run statements on a connection of the test's own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def number_of_rows(site: PostgresqlSite) -> int:
    """How many the ledger has."""
    (row,) = await site.rows("SELECT count(*) AS number FROM execution_log_batches")
    return int(row["number"])


async def touched(site: PostgresqlSite, what: str = "seq_tup_read + idx_tup_fetch") -> int:
    """How many rows of the ledger were ever read; PostgreSQL counts them when a connection ends."""
    await site.engine.dispose()
    others = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'execution_logger' "
        "AND datname = current_database()"
    )
    await asyncio.to_thread(wait_until, lambda: not asyncio.run(site.rows(others)))
    (row,) = await site.rows(
        f"SELECT {what} AS number FROM pg_stat_user_tables WHERE relname = 'execution_log_batches'"
    )
    return int(row["number"])


async def valid_indexes(site: PostgresqlSite) -> set[str]:
    """Those that PostgreSQL uses."""
    rows = await site.rows(
        "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
        "WHERE indisvalid AND indrelid = 'execution_log_batches'::regclass"
    )
    return {row["relname"] for row in rows}


async def test_the_status_reads_what_was_stored_last(site: PostgresqlSite) -> None:
    """However many batches there are, merged or not."""
    before = await touched(site)
    await read_overview(site.engine, site.settings, {})
    assert await touched(site) - before < 100


async def test_the_jobs_make_it_small(site: PostgresqlSite) -> None:
    """The health check the last days, the retention all; then everything that asks it reads a few rows."""
    expected = (await audit(site.engine, site.settings)).accounts
    runner = Runner(site.engine, site.settings)
    before = await touched(site)
    assert (await runner.run(HEALTH, is_by_hand=True)).outcome == "succeeded"
    assert await touched(site) - before < 3.5 * BATCHES * 2 / DAYS
    for _ in range(2):  # chunks leave rows side by side; the next night merges them
        assert (await runner.run(RETENTION, is_by_hand=True)).outcome == "succeeded"
    rows = await number_of_rows(site)
    left = PROCESSES * (DAYS + 1) + BATCHES * AT_REST_AFTER / timedelta(days=DAYS)
    assert rows <= left + 1
    found = (await audit(site.engine, site.settings)).accounts
    assert [(each.process, each.last, each.entries) for each in found] == [
        (each.process, each.last, each.entries) for each in expected
    ]
    await execute(site.url, "VACUUM ANALYZE execution_log_batches")
    for ask in (
        lambda: audit(site.engine, site.settings),
        lambda: runner.run(HEALTH, is_by_hand=True),
        lambda: runner.run(RETENTION, is_by_hand=True),
    ):
        before = await touched(site)
        await ask()
        assert await touched(site) - before < 6 * rows


async def test_an_audit_passes_over_the_pages_that_merging_has_emptied(database_url: str) -> None:
    """It finds the few rows by an index, though the planner takes the pages for the shorter way."""
    async with PostgresqlSite(database_url, celery_enabled=False) as site:
        await execute(site.url, FILL)
        async for _ in compact(
            site.engine, site.settings, datetime.now(UTC) - AT_REST_AFTER, timeout_seconds=60
        ):
            pass
        await execute(site.url, "VACUUM ANALYZE execution_log_batches")
        before = await touched(site, "seq_scan")
        assert len((await audit(site.engine, site.settings)).accounts) == PROCESSES
        assert await touched(site, "seq_scan") == before


async def test_batches_come_again_while_they_are_merged(site: PostgresqlSite) -> None:
    """Each is counted once, and each delivery beyond the first as repeated; nothing waits for ever."""
    entries = [[encoded() for _ in range(3)] for _ in range(60)]

    async def write_all() -> None:
        for number, each in enumerate(entries):
            await site.writer.write(f"w{number}", batch(*each), process="w", first=1 + 3 * number)

    await write_all()
    later = datetime.now(UTC) + timedelta(seconds=30)

    async def merge() -> None:
        since = later - timedelta(minutes=5)
        async for _ in compact(site.engine, site.settings, later, since, timeout_seconds=10):
            pass

    for _ in range(3):
        await asyncio.gather(write_all(), merge(), merge())
    (account,) = (await audit(site.engine, site.settings, process="w")).accounts
    assert (account.entries, account.missing, account.repeated) == (180, 0, 3 * 180)


async def test_a_batch_that_is_being_delivered_is_left_for_later(site: PostgresqlSite) -> None:
    """Merging does not wait for whoever has it, and it is counted with all its deliveries in the end."""
    before = await number_of_rows(site)
    (account, *_) = (await audit(site.engine, site.settings)).accounts
    other = await asyncpg.connect(site.url)
    delivery = other.transaction()
    await delivery.start()
    await other.execute("UPDATE execution_log_batches SET deliveries = 2 WHERE batch_id = 'b30000'")

    async def merge() -> int:
        until = datetime.now(UTC) - AT_REST_AFTER
        async for _ in compact(site.engine, site.settings, until, timeout_seconds=60):
            pass
        return await number_of_rows(site)

    rows = await merge()
    assert rows < before / 10
    (found,) = await site.rows("SELECT deliveries FROM execution_log_batches WHERE batch_id = 'b30000'")
    assert found == {"deliveries": 1}
    await delivery.commit()
    await other.close()
    assert await merge() <= rows
    (merged, *_) = (await audit(site.engine, site.settings)).accounts
    assert (merged.entries, merged.repeated) == (account.entries, account.repeated + 50)


async def test_an_older_ledger_gets_its_indexes_while_it_is_written(site: PostgresqlSite) -> None:
    """By any number of upgrades at the same time; a half made one that an attempt has left is made again."""
    await execute(site.url, DROP)
    await execute(
        site.url,
        "CREATE INDEX ix_execution_log_batches_place ON execution_log_batches (process); UPDATE pg_index "
        "SET indisvalid = false WHERE indexrelid = 'ix_execution_log_batches_place'::regclass",
    )
    assert not await valid_indexes(site) & set(INDEXES)
    others = [PostgresqlSite(site.url) for _ in range(3)]
    writes = [site.writer.write(f"w{n}", batch(encoded()), process="w", first=1 + n) for n in range(20)]
    results = await asyncio.gather(*writes, *(upgrade(each.engine, each.settings) for each in others))
    assert results[:20] == [WriteResult(stored=1)] * 20
    assert await valid_indexes(site) >= set(INDEXES)
    for each in others:
        await each.engine.dispose()


async def test_an_insert_under_way_does_not_wait_for_an_index(site: PostgresqlSite) -> None:
    """A transaction that has written keeps the upgrade waiting, and no other writer."""
    await execute(site.url, DROP)
    blocker = await asyncpg.connect(site.url)
    open_transaction = blocker.transaction()
    await open_transaction.start()
    await blocker.execute("UPDATE execution_log_batches SET deliveries = 2 WHERE batch_id = 'b1'")
    other = PostgresqlSite(site.url)
    upgrading = asyncio.create_task(upgrade(other.engine, other.settings))
    building = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'"
    await asyncio.to_thread(wait_until, lambda: asyncio.run(site.rows(building)))
    assert await site.write(encoded()) == WriteResult(stored=1)
    assert not upgrading.done()
    await open_transaction.rollback()
    await blocker.close()
    await upgrading
    assert await valid_indexes(site) >= set(INDEXES)
    await other.engine.dispose()


ENTRIES = """
    INSERT INTO {table} (id, task_id, level, category, message, created_at)
    SELECT gen_random_uuid(), 't', 'info', 'agent', 'm', TIMESTAMPTZ '2026-10-01' + n * interval '2 minutes'
    FROM generate_series(1, {rows}) AS n
"""
COLUMNS = (
    "id uuid, task_id text NOT NULL, level text NOT NULL, category text NOT NULL, message text NOT NULL, "
    "details jsonb, created_at timestamptz NOT NULL, PRIMARY KEY (id, created_at)"
)
PARTITIONED = f"""
    CREATE TABLE execution_logs ({COLUMNS}) PARTITION BY RANGE (created_at);
    CREATE TABLE logs_1 PARTITION OF execution_logs FOR VALUES FROM ('2026-01-01') TO ('2026-12-01')
        PARTITION BY RANGE (created_at);
    CREATE TABLE logs_1_a PARTITION OF logs_1 FOR VALUES FROM ('2026-01-01') TO ('2026-11-01');
    CREATE TABLE logs_1_b PARTITION OF logs_1 FOR VALUES FROM ('2026-11-01') TO ('2026-12-01');
    CREATE TABLE logs_2 PARTITION OF execution_logs DEFAULT
"""
INHERITED = f"CREATE TABLE execution_logs ({COLUMNS}); CREATE TABLE old_logs () INHERITS (execution_logs)"


@pytest.mark.parametrize(
    ("tables", "target"),
    [
        (PARTITIONED, "execution_logs"),
        (INHERITED, "old_logs"),
        (f"CREATE TABLE execution_logs ({COLUMNS})", ""),
    ],
    ids=["partitioned", "inherited", "plain"],
)
async def test_a_large_table_is_counted_by_its_statistics(
    postgres_url: str, tables: str, target: str
) -> None:
    """Those of its parts, at any depth, once each; counting it would take minutes."""
    async with PostgresqlSite(postgres_url) as site:
        await execute(site.url, f"{tables};" + ENTRIES.format(table=target or "execution_logs", rows=120_000))
        await upgrade(site.engine, site.settings)
        await execute(site.url, "ANALYZE")
        await execute(site.url, ENTRIES.format(table=target or "execution_logs", rows=1))
        rows = (await overview(site.engine, site.settings)).rows
        assert rows == pytest.approx(120_000, rel=0.01)
        assert rows != 120_001  # which is what a count would tell
        await execute(site.url, "TRUNCATE execution_logs")
        await execute(site.url, ENTRIES.format(table=target or "execution_logs", rows=7) + "; ANALYZE")
        assert (await overview(site.engine, site.settings)).rows == 7
