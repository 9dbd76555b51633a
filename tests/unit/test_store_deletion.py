"""Deleting many rows: in chunks, in order, and with a word when it does not work."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batches import encoded
from execution_logger.errors import StoreUnavailableError
from execution_logger.store import deletion as module
from execution_logger.store import upgrade
from execution_logger.store.deletion import Deletion, Expiry, StubbornRowsError
from sqlite_site import SqliteSite

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LIMIT = NOW - timedelta(days=90)


async def fill(site: SqliteSite, *days: float, **fields: Any) -> None:
    """An entry of so many days before now, for each."""
    times = (NOW - timedelta(days=number) for number in days)
    entries = [encoded(created_at=time.isoformat(), message=f"{time:%j}", **fields) for time in times]
    await site.write(*entries)


async def chunks_of(deletion: Deletion) -> list[int]:
    """How many rows each chunk had."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    deletion.sleep = sleep
    chunks = [deleted async for deleted in deletion.chunks()]
    assert len(pauses) == len(chunks)
    assert deletion.deleted == sum(chunks)
    return chunks


async def test_what_is_old_goes_and_the_rest_stays(site: SqliteSite) -> None:
    """To the second."""
    second = 1 / 86400
    await fill(site, 91, 90 + second, 90, 90 - second, 1)
    deletion = await Expiry(site.engine, site.settings, LIMIT).entries()
    assert await deletion.count() == 2
    assert await chunks_of(deletion) == [2]
    assert len(site.rows()) == 3
    assert await chunks_of(await Expiry(site.engine, site.settings, LIMIT).entries()) == []


async def test_chunks_are_small_and_begin_with_the_oldest(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaves in the middle has deleted the older ones; also many of the same time."""
    for name in ("FEWEST_ROWS", "FIRST_ROWS", "MOST_ROWS"):  # however slow this machine is
        monkeypatch.setattr(module, name, 3)
    await fill(site, *[100] * 7, 99, 98, 200)
    deletion = await Expiry(site.engine, site.settings, LIMIT).entries()
    first = await anext(aiter(deletion.chunks()))
    assert first == 3
    assert len(site.rows("SELECT * FROM execution_logs WHERE created_at < '2026-06-01'")) == 0
    assert await chunks_of(await Expiry(site.engine, site.settings, LIMIT).entries()) == [3, 3, 1]


@pytest.mark.parametrize(("seconds", "rows"), [(0.01, 1000), (0.05, 500), (0.2, 250)])
async def test_a_chunk_is_as_large_as_its_time_allows(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch, seconds: float, rows: int
) -> None:
    """On a slow database there are fewer rows in it, and nobody waits longer for them."""
    deletion = await Expiry(site.engine, site.settings, LIMIT).entries()
    assert deletion._rows == module.FIRST_ROWS == 500
    deletion._adapt(seconds)
    assert deletion._rows == rows
    for _ in range(20):
        deletion._adapt(seconds)
    assert deletion._rows in (module.MOST_ROWS, 500, module.FEWEST_ROWS)


async def test_rows_that_come_meanwhile_go_as_well(site: SqliteSite) -> None:
    """A journal that was found after a hundred days is written while the job runs."""
    await fill(site, 95, 92)
    deletion = await Expiry(site.engine, site.settings, LIMIT).entries()
    chunks = aiter(deletion.chunks())
    assert await anext(chunks) == 2
    await fill(site, 100)
    assert [deleted async for deleted in chunks] == [1]
    assert site.rows() == []


async def test_rows_that_the_database_keeps_are_an_error(site: SqliteSite) -> None:
    """Retention that silently does nothing is found after months."""
    await fill(site, 95, 1)
    site.execute(
        "CREATE TRIGGER keep BEFORE DELETE ON execution_logs BEGIN SELECT RAISE(IGNORE); END",
    )
    deletion = await Expiry(site.engine, site.settings, LIMIT).entries()
    with pytest.raises(StubbornRowsError, match=r'1 rows of "execution_logs" should be deleted.* trigger'):
        await chunks_of(deletion)


async def test_a_database_that_refuses_says_so(site: SqliteSite) -> None:
    """In its own words."""
    await fill(site, 95)
    site.execute("CREATE TRIGGER no BEFORE DELETE ON execution_logs BEGIN SELECT RAISE(ABORT, 'no!'); END")
    with pytest.raises(StoreUnavailableError, match="no!"):
        await chunks_of(await Expiry(site.engine, site.settings, LIMIT).entries())


async def test_a_run_goes_whole_and_alone(site: SqliteSite) -> None:
    """Whatever its age."""
    await fill(site, 100, 1, 0, task_id="a")
    await fill(site, 100, 1, task_id="b")
    assert await chunks_of(await Expiry(site.engine, site.settings, NOW).of_run("a")) == [3]
    assert {row["task_id"] for row in site.rows()} == {"b"}


async def test_a_table_without_an_index_on_the_time_is_read_in_any_order(site: SqliteSite) -> None:
    """In the largest chunks, because each of them reads the table."""
    site.execute("DROP INDEX ix_execution_logs_created_at")
    await fill(site, 95, 99, 1)
    deletion = await Expiry(site.engine, site.settings, LIMIT).entries()
    assert (deletion.order, deletion._rows) == (None, module.MOST_ROWS)
    deletion._adapt(9.0)
    assert deletion._rows == module.MOST_ROWS
    assert await chunks_of(deletion) == [2]


async def test_a_hosts_local_time_is_compared_in_its_zone(tmp_path: Path) -> None:
    """Eight hours make a difference."""
    async with SqliteSite(tmp_path / "local.db", time_zone="Asia/Shanghai") as site:
        site.execute(
            "CREATE TABLE execution_logs (id CHAR(36) PRIMARY KEY, task_id TEXT, level TEXT, category TEXT, "
            "message TEXT, details JSON, created_at DATETIME)"
        )
        await upgrade(site.engine, site.settings)
        await fill(site, 90 + 4 / 24, 90 - 4 / 24)
        assert await chunks_of(await Expiry(site.engine, site.settings, LIMIT).entries()) == [1]
        assert len(site.rows()) == 1
