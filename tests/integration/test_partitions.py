"""The partitioned table of docs/SCALING.md, with the statements that the page shows."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from batches import batch, encoded
from documents import Document
from execution_logger.store import WriteResult, upgrade
from execution_logger.store.dead_letters import DeadLetters, retry
from postgresql_site import PostgresqlSite

CREATE, ADD_MONTH, DROP_MONTH = (
    block.code for block in Document("docs/SCALING.md").blocks if block.language == "sql"
)
DECEMBER, JANUARY = "2026-12-15T10:00:00Z", "2027-01-15T10:00:00Z"
NEXT_CENTURY = "2101-01-15T10:00:00Z"
AROUND_DECEMBER = """
    CREATE TABLE before_december PARTITION OF execution_logs FOR VALUES FROM (MINVALUE) TO ('2026-12-01');
    CREATE TABLE after_december PARTITION OF execution_logs FOR VALUES FROM ('2027-01-01') TO ('2100-01-01');
"""


@pytest.fixture
async def site(postgres_url: str) -> AsyncIterator[PostgresqlSite]:
    """The table as the page makes it, and the library's others."""
    async with PostgresqlSite(postgres_url) as site:
        await execute(site.url, CREATE)
        await execute(site.url, ADD_MONTH)
        await upgrade(site.engine, site.settings)
        yield site


async def execute(url: str, script: str) -> None:
    """Run statements on a connection of the test's own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def partitions(site: PostgresqlSite) -> list[str]:
    """Where each entry is, in the order of the calls."""
    rows = await site.rows("SELECT CAST(tableoid AS regclass) AS place FROM execution_logs ORDER BY id")
    return [row["place"] for row in rows]


async def test_an_entry_is_one_row(site: PostgresqlSite) -> None:
    """However often it comes, in the partition of its month."""
    entries = [encoded(created_at=DECEMBER) for _ in range(3)]
    assert await site.write(*entries) == WriteResult(stored=3)
    assert await site.write(*entries, encoded(created_at=DECEMBER)) == WriteResult(stored=1, duplicates=3)
    assert await partitions(site) == ["execution_logs_2026_12"] * 4


async def test_a_month_without_partition(site: PostgresqlSite) -> None:
    """The default partition takes what nobody has thought of."""
    result = await site.write(encoded(created_at=DECEMBER), encoded(created_at=JANUARY))
    assert result == WriteResult(stored=2)
    assert await partitions(site) == ["execution_logs_2026_12", "execution_logs_other"]


async def test_without_a_default_partition(site: PostgresqlSite) -> None:
    """Such an entry becomes a dead letter, which can be stored when its month is there."""
    await execute(site.url, "DROP TABLE execution_logs_other")
    await execute(site.url, AROUND_DECEMBER)  # whenever the test runs, an entry of now has a place
    result = await site.write(encoded(created_at=DECEMBER), encoded(created_at=NEXT_CENTURY))
    assert result == WriteResult(stored=1, dead_lettered=1)
    assert "no partition" in (await site.dead())[0]["reason"]
    await execute(
        site.url,
        "CREATE TABLE later PARTITION OF execution_logs FOR VALUES FROM ('2100-01-01') TO (MAXVALUE)",
    )
    async with site.engine.connect() as connection:
        (letter,) = await DeadLetters(site.settings).list(connection)
    assert await retry(site.engine, site.settings, [letter]) == {}
    assert await partitions(site) == ["execution_logs_2026_12", "later"]
    assert await site.dead() == []


async def test_a_month_is_dropped_while_batches_are_written(site: PostgresqlSite) -> None:
    """No batch is refused; what comes for that month afterwards goes to the default partition."""
    await site.write(encoded(created_at=DECEMBER))
    is_dropped = asyncio.Event()

    async def write_on() -> int:
        written = 0
        while not is_dropped.is_set() or written < 20:
            entries = [encoded(created_at=JANUARY) for _ in range(50)]
            result = await site.writer.write(f"batch-{written}", batch(*entries))
            assert result == WriteResult(stored=50)
            written += 1
        return written

    writing = asyncio.create_task(write_on())
    await execute(site.url, DROP_MONTH)
    is_dropped.set()
    batches = await writing
    assert await site.write(encoded(created_at=DECEMBER)) == WriteResult(stored=1)
    assert await partitions(site) == ["execution_logs_other"] * (50 * batches + 1)
    assert await site.dead() == []
