"""The overview, and how any attempt ends that cannot reach the database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batches import encoded
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.overview import read_overview
from execution_logger.store import Overview, overview, upgrade
from execution_logger.store.faults import attempt
from sqlite_site import SqliteSite, make_tables


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """An empty database."""
    async with SqliteSite(tmp_path / "logs.db") as site:
        yield site


async def test_an_empty_table_has_neither_newest_nor_oldest(site: SqliteSite) -> None:
    """Nothing was written yet, which is no error."""
    make_tables(site.path)
    assert await overview(site.engine, site.settings) == Overview(None, None, rows=0, dead_letters=0)


async def test_the_overview_tells_what_there_is(site: SqliteSite) -> None:
    """The newest and the oldest entry in UTC, and how many there are of each kind."""
    make_tables(site.path)
    days = [encoded(created_at=f"2026-11-{day}T00:00:00Z") for day in (22, 20, 21)]
    await site.write(*days, "5", "null")
    assert await overview(site.engine, site.settings) == Overview(
        oldest=datetime(2026, 11, 20, tzinfo=UTC),
        newest=datetime(2026, 11, 22, tzinfo=UTC),
        rows=3,
        dead_letters=2,
    )


async def test_missing_tables_are_named(site: SqliteSite) -> None:
    """With the command that makes them."""
    with pytest.raises(StoreUnavailableError, match='"execution_logs" does not exist'):
        await overview(site.engine, site.settings)
    await upgrade(site.engine, site.settings)
    site.execute("DROP TABLE execution_log_dead_letters")
    with pytest.raises(StoreUnavailableError, match=r"dead_letters\. Run: execution-logger db upgrade"):
        await overview(site.engine, site.settings)


async def test_what_cannot_be_told_hides_nothing_else(site: SqliteSite) -> None:
    """It is the error when all the rest was told."""
    make_tables(site.path)
    await site.write(encoded())
    site.execute("DROP TABLE execution_log_dead_letters; DROP TABLE execution_log_batches")
    facts: dict[str, Any] = {}
    with pytest.raises(StoreUnavailableError, match="dead_letters"):
        await read_overview(site.engine, site.settings, facts)
    assert facts["rows"] == 1
    assert facts["oldest"] == facts["newest"] is not None
    assert facts["dead_letters"] is facts["rows_per_minute"] is None


async def test_the_rate_is_that_of_the_last_minute(site: SqliteSite) -> None:
    """By when rows were stored, however old their entries are; refused ones are none."""
    make_tables(site.path)
    columns = "batch_id, process, first, entries, dead_lettered, stored_at"
    site.execute(
        f"INSERT INTO execution_log_batches ({columns}) VALUES "
        "('a', 'p', 1, 50, 2, datetime('now')), ('b', 'p', 51, 5, 0, datetime('now', '-50 seconds')), "
        "('c', 'p', 56, 1000, 0, datetime('now', '-70 seconds'))"
    )
    facts: dict[str, Any] = {}
    await read_overview(site.engine, site.settings, facts)
    assert facts["rows_per_minute"] == 53


async def test_an_attempt_ends_with_its_timeout(site: SqliteSite) -> None:
    """Whatever hangs."""
    with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.01 s"):
        async with attempt(site.engine, 0.01):
            await asyncio.Event().wait()


async def test_a_timeout_that_is_not_the_attempts_own_is_told_in_its_own_words(site: SqliteSite) -> None:
    """The driver has timeouts too, and an empty text says nothing."""
    with pytest.raises(StoreUnavailableError, match="cannot be used now: TimeoutError"):
        async with attempt(site.engine, 10):
            raise TimeoutError


async def test_a_cancelled_attempt_stays_cancelled(site: SqliteSite) -> None:
    """Who cancels a task wants it to end, not to try again."""
    started = asyncio.Event()

    async def run() -> None:
        async with attempt(site.engine, 10):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
