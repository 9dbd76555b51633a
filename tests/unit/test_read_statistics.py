"""The statistics: the same numbers as a plain count gives, and the same again."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from batches import encoded, fields
from execution_logger.read import statistics as module
from execution_logger.read.statistics import Statistic, count_hour, last_hour, read_statistics, replace_hour
from execution_logger.store.engine import transaction
from execution_logger.store.table import look_up_table
from sqlite_site import SqliteSite

HOUR = datetime(2026, 11, 22, 10, tzinfo=UTC)


def entry(minute: float = 0, **changed: Any) -> dict[str, Any]:
    """An entry so many minutes after the beginning of the hour."""
    return fields(created_at=(HOUR + timedelta(minutes=minute)).isoformat(), **changed)


async def count(site: SqliteSite, *entries: dict[str, Any]) -> list[Statistic]:
    """The statistics of the hour, with these in the table as well."""
    if entries:
        await site.write(*(encoded(each) for each in entries))
    async with site.engine.connect() as connection:
        table = await look_up_table(connection, site.settings)
        return await count_hour(connection, table, HOUR)


def of(statistics: Sequence[Statistic], dimension: str) -> dict[str, tuple[int, int]]:
    """Entries and errors, by name."""
    return {each.name: (each.entries, each.errors) for each in statistics if each.dimension == dimension}


async def test_entries_are_counted_by_level_and_category(site: SqliteSite) -> None:
    """Those of the hour, from its first moment to before that of the next."""
    statistics = await count(
        site,
        entry(-0.001),
        entry(0, level="info", category="agent"),
        entry(30, level="error", category="agent"),
        entry(59.999, level="error", category="tool"),
        entry(60),
    )
    assert of(statistics, "all") == {"": (3, 2)}
    assert of(statistics, "level") == {"info": (1, 0), "error": (2, 2)}
    assert of(statistics, "category") == {"agent": (2, 1), "tool": (1, 1)}


async def test_an_hour_without_entries_is_counted_too(site: SqliteSite) -> None:
    """So that it is not counted again and again."""
    assert await count(site) == [Statistic(HOUR, "all", "", 0, 0, runs=0)]


async def test_a_run_counts_in_the_hour_in_which_it_begins(site: SqliteSite) -> None:
    """The sum over the hours is the number of the runs."""
    tasks = [(-90, "old"), (5, "old"), (10, "new"), (20, "new"), (30, "other"), (70, "later")]
    statistics = await count(site, *(entry(minute, task_id=task) for minute, task in tasks))
    assert [each.runs for each in statistics if each.dimension == "all"] == [2]


@pytest.mark.parametrize("size", [1, 2, 3, 20, 101])
async def test_durations_are_those_that_percentile_cont_gives(site: SqliteSite, size: int) -> None:
    """By step and by agent, and only of entries that have one."""
    durations = [random.randrange(10_000) for _ in range(size)]
    timed = [entry(1, step="search", agent_name=f"a{n % 2}", duration_ms=d) for n, d in enumerate(durations)]
    statistics = await count(site, *timed, entry(2, step="search"), entry(2, step="plan", level="error"))
    found = {(each.dimension, each.name): each for each in statistics}
    search = found["step", "search"]
    assert (search.entries, search.timed, search.errors) == (size + 1, size, 0)
    assert search.p50_ms == pytest.approx(median(durations))
    place = 0.95 * (size - 1)
    low, high = sorted(durations)[int(place)], sorted(durations)[min(int(place) + 1, size - 1)]
    assert search.p95_ms == pytest.approx(low + (high - low) * (place % 1))
    plan = found["step", "plan"]
    assert (plan.entries, plan.errors, plan.timed, plan.p50_ms) == (1, 1, 0, None)
    assert found["agent", "a0"].timed == (size + 1) // 2


async def test_only_the_busiest_names_are_kept(site: SqliteSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that numbers its steps must not make a second large table."""
    monkeypatch.setattr(module, "MOST_NAMES", 2)
    names = Counter({"rare": 1, "common": 3, "usual": 2})
    statistics = await count(site, *(entry(1, step=name) for name in names.elements()))
    assert of(statistics, "step") == {"common": (3, 0), "usual": (2, 0)}


async def test_an_hour_is_replaced(site: SqliteSite) -> None:
    """Entries that came late are in it then; the other hours stay."""
    for entries in ([entry(1)], [], [entry(2, category="late")]):
        statistics = await count(site, *entries)
        async with transaction(site.engine) as connection:
            await replace_hour(connection, site.settings, HOUR, statistics)
    other = Statistic(HOUR - timedelta(hours=1), "all", "", 5, 0, runs=1)
    async with transaction(site.engine) as connection:
        await replace_hour(connection, site.settings, other.hour, [other])
        assert await last_hour(connection, site.settings) == HOUR
        everything = await read_statistics(connection, site.settings, other.hour, HOUR + timedelta(hours=1))
        assert await read_statistics(connection, site.settings, other.hour, HOUR) == [other]
    assert everything[0] == other
    assert sorted(everything[1:], key=repr) == sorted(statistics, key=repr)


async def test_a_hosts_table_without_some_columns(tmp_path: Path) -> None:
    """Local time, and a step and a duration that are kept in the details: all is counted."""
    async with SqliteSite(tmp_path / "local.db", time_zone="Asia/Shanghai") as site:
        site.execute(
            "CREATE TABLE execution_logs (id CHAR(36) PRIMARY KEY, task_id TEXT, level TEXT, category TEXT, "
            "message TEXT, agent_name TEXT, details JSON, created_at DATETIME)"
        )
        statistics = await count(site, entry(1, agent_name="a", step="s", duration_ms=5), entry(61))
        assert of(statistics, "all") == {"": (1, 0)}
        assert of(statistics, "agent") == {"a": (1, 0)}
        assert of(statistics, "step") == {"s": (1, 0)}
        assert [each.p50_ms for each in statistics if each.timed] == [5, 5]


async def latest(
    site: SqliteSite, after: datetime | None, since_hours: float, until_hours: float
) -> tuple[list[tuple[int, int]], int]:
    """The latest hours and their entries, from the one of `HOUR` on, and from which on all is counted."""
    span = HOUR + timedelta(hours=since_hours), HOUR + timedelta(hours=until_hours)
    async with site.engine.connect() as connection:
        table = await look_up_table(connection, site.settings)
        found, counted_from = await module.count_latest(connection, table, after, *span)
    hours = [
        (round((each.hour - HOUR) / module.HOUR), each.entries) for each in found if each.dimension == "all"
    ]
    return hours, round((counted_from - HOUR) / module.HOUR)


async def test_the_latest_hours_are_counted_when_somebody_asks(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that no job has counted, from the newest backwards, for as long as they have few entries."""
    for number, entries in enumerate((3, 5, 0, 2)):
        await count(site, *(entry(60 * number + minute) for minute in range(entries)))
    assert await latest(site, None, 0, 4) == ([(0, 3), (1, 5), (3, 2)], 0)
    assert await latest(site, None, 0.5, 3.5) == ([(0, 3), (1, 5), (3, 2)], 0)
    assert await latest(site, None, 1, 3) == ([(1, 5)], 1)
    assert await latest(site, HOUR, -5, 4) == ([(1, 5), (3, 2)], 1)
    assert await latest(site, HOUR + 3 * module.HOUR, -5, 4) == ([], 4)
    monkeypatch.setattr(module, "MOST_COUNTED_NOW", 7)
    assert await latest(site, None, 0, 4) == ([(1, 5), (3, 2)], 1)
    monkeypatch.setattr(module, "MOST_COUNTED_NOW", 6)
    assert await latest(site, None, 0, 4) == ([(3, 2)], 2)
    monkeypatch.setattr(module, "MOST_HOURS_NOW", 1)
    assert await latest(site, None, 0, 4) == ([(3, 2)], 2)
