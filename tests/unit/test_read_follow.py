"""The follower: each entry of a run once, however late it is stored."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batches import encoded
from execution_logger.errors import StoreUnavailableError
from execution_logger.read import follow
from execution_logger.read.follow import Follower
from execution_logger.read.timeline import Timeline
from execution_logger.store import upgrade
from selections import check_selections
from sqlite_site import SqliteSite, make_tables

HOSTS_TABLE = """
    CREATE TABLE execution_logs (
        id CHAR(32) NOT NULL PRIMARY KEY, task_id VARCHAR(36), level VARCHAR(20), category VARCHAR(50),
        step VARCHAR(50), message TEXT, details TEXT, created_at DATETIME
    )
"""
START = datetime(2026, 11, 22, 2, 13, 53, tzinfo=UTC)


@pytest.fixture(params=["own", "host's"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """The library's own table, and one with ids, times and details in other types and columns missing."""
    zone = "UTC" if request.param == "own" else "Asia/Shanghai"
    async with SqliteSite(tmp_path / "logs.db", time_zone=zone) as site:
        if request.param == "own":
            make_tables(site.path)
        else:
            site.execute(HOSTS_TABLE)
            await upgrade(site.engine, site.settings)
        yield site


async def log(site: SqliteSite, *seconds: float, **changed: Any) -> None:
    """Store an entry for each of these times after the start; its message is the time."""
    entries = [
        encoded(message=str(second), created_at=(START + timedelta(seconds=second)).isoformat(), **changed)
        for second in seconds
    ]
    await site.write(*entries)


def follower_of(site: SqliteSite) -> Follower:
    """One that has not begun."""
    return Follower(site.engine, site.settings, "t")


async def news(follower: Follower) -> list[str]:
    """The messages of all news."""
    found: list[str] = []
    while entries := await follower.news():
        found += (entry.message for entry in entries)
    return found


async def late(follower: Follower) -> list[str]:
    """The messages of those that came late."""
    return [entry.message for entry in await follower.late()]


async def test_what_is_there_is_not_told(site: SqliteSite) -> None:
    """What comes then is, once and in order; other runs are none of its business."""
    follower = follower_of(site)
    await log(site, 1, 2)
    await follower.begin()
    assert await news(follower) == []
    await log(site, 4, 3)
    await log(site, 5, task_id="other")
    assert await news(follower) == ["3", "4"]
    assert await news(follower) == []
    assert await late(follower) == []


async def test_a_run_may_begin_later(site: SqliteSite) -> None:
    """It is waited for."""
    follower = follower_of(site)
    await follower.begin()
    assert follower.is_waiting
    assert await late(follower) == []
    await log(site, *range(450))
    assert await news(follower) == [str(number) for number in range(450)]
    assert not follower.is_waiting


async def test_late_entries_are_told_once(site: SqliteSite) -> None:
    """Before the first one, between others, and at the very time of one that was told."""
    follower = follower_of(site)
    await log(site, 10, 20)
    await follower.begin()
    await log(site, 5, 15, 20)
    assert sorted([*await news(follower), *await late(follower)]) == ["15", "20", "5"]
    assert await news(follower) == await late(follower) == []
    await log(site, 1, 30)
    assert await news(follower) == ["30"]
    assert await late(follower) == ["1"]
    assert await late(follower) == []


async def test_deleted_entries_are_no_news(site: SqliteSite) -> None:
    """And do not hide what comes late."""
    follower = follower_of(site)
    await log(site, 1, 2, 3)
    await follower.begin()
    site.execute("DELETE FROM execution_logs WHERE message IN ('1', '2')")
    assert await late(follower) == []
    await log(site, 0)
    assert await late(follower) == ["0"]


async def test_what_is_known_has_a_limit(site: SqliteSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest entries are remembered; what comes late among them is told, and what is older is not."""
    monkeypatch.setattr(follow, "_MOST_KNOWN", 10)
    follower = follower_of(site)
    await log(site, *range(20))
    await follower.begin()
    assert len(follower._known) == 5
    await log(site, 3.5, 17.5)
    assert await late(follower) == ["17.5"]
    for number in range(20, 60):
        await log(site, number)
        assert await news(follower) == [str(number)]
        assert await late(follower) == []
        assert len(follower._known) <= 10
    await log(site, 58.5)
    assert await late(follower) == ["58.5"]


async def test_it_says_which_ones_it_will_tell(site: SqliteSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that who shows a run from its beginning shows none of them twice."""
    monkeypatch.setattr(follow, "_MOST_KNOWN", 10)
    follower = follower_of(site)
    await log(site, *range(20))
    await follower.begin()
    await log(site, 17.5, 20)
    entries = await Timeline(site.engine, site.settings, "t").last(100)
    assert [entry.message for entry in entries if follower.will_tell(entry)] == ["17.5", "20"]


async def test_a_part_of_one_run_or_of_all(site: SqliteSite) -> None:
    """Also by fields that a host's table has no column for."""
    await check_selections(site)


async def test_it_goes_on_after_an_outage(site: SqliteSite) -> None:
    """Nothing is lost, and nothing told again."""
    follower = follower_of(site)
    await log(site, 1)
    await follower.begin()
    site.execute("ALTER TABLE execution_logs RENAME TO away")
    with pytest.raises(StoreUnavailableError):
        await follower.news()
    with pytest.raises(StoreUnavailableError):
        await follower.late()
    site.execute("ALTER TABLE away RENAME TO execution_logs")
    await log(site, 0, 2)
    assert await news(follower) == ["2"]
    assert await late(follower) == ["0"]
