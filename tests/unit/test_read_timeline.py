"""The timeline: the entries of one run, in their order."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from batches import encoded
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.timeline import ALL, Only, Timeline
from sqlite_site import SqliteSite, make_tables


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """A run `t` of 450 entries, whose levels and categories take turns, and another one of a single entry."""
    async with SqliteSite(tmp_path / "logs.db") as site:
        make_tables(site.path)
        levels, categories = ("debug", "info", "warning", "error"), ("agent", "tool", "api")
        entries = [
            encoded(
                message=str(number),
                level=levels[number % 4],
                category=categories[number % 3],
                created_at=f"2026-11-22T02:{number // 60:02}:{number % 60:02}Z",
            )
            for number in range(450)
        ]
        await site.write(*reversed(entries), encoded(task_id="other"))
        yield site


def timeline(site: SqliteSite, task_id: str = "t") -> Timeline:
    """That of a run."""
    return Timeline(site.engine, site.settings, task_id)


async def all_of(site: SqliteSite, only: Only = ALL) -> list[int]:
    """The messages of all pages."""
    return [int(entry.message) async for page in timeline(site).pages(only) for entry in page]


async def test_all_entries_in_their_order(site: SqliteSite) -> None:
    """Page by page, and not those of other runs."""
    assert await all_of(site) == list(range(450))


async def test_a_reader_may_stop_early(site: SqliteSite) -> None:
    """The connection is free again."""
    async with aclosing(timeline(site).pages()) as pages:
        assert len(await anext(pages)) == 200
    assert site.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_the_newest_ones(site: SqliteSite) -> None:
    """Oldest first, as they are read."""
    assert [entry.message for entry in await timeline(site).last(3)] == ["447", "448", "449"]
    assert await timeline(site, "nope").last(3) == []


async def test_only_some(site: SqliteSite) -> None:
    """A level stands for graver ones too; of several categories any will do."""
    grave = Only.at_least("warning")
    assert await all_of(site, grave) == [number for number in range(450) if number % 4 >= 2]
    some = Only.at_least("error", ["agent", "api"])
    assert await all_of(site, some) == [n for n in range(450) if n % 4 == 3 and n % 3 != 1]
    assert [entry.message for entry in await timeline(site).last(2, some)] == ["443", "447"]
    for entry in await timeline(site).last(24):
        assert some.takes(entry) == (entry.level == "error" and entry.category != "tool")
        assert ALL.takes(entry)


async def test_levels_by_other_names(site: SqliteSite) -> None:
    """What a host itself has stored is as grave as it says; a level that nobody knows is never hidden."""
    levels = ["debug", "INFO", "WARN", "Error", "critical", "FATAL", "notice", ""]
    times = [f"2026-11-22T03:00:{number:02}Z" for number in range(len(levels))]
    await site.write(
        *(
            encoded(task_id="mixed", message=str(number), level=level, created_at=time)
            for number, (level, time) in enumerate(zip(levels, times, strict=True))
        )
    )
    run = timeline(site, "mixed")
    wanted = {"debug": "01234567", "warning": "234567", "error": "34567", "critical": "4567"}
    for level, numbers in wanted.items():
        only = Only.at_least(level)
        assert "".join(found.message for found in await run.last(20, only)) == numbers
        assert all(only.takes(found) for found in await run.last(20, only))
    found = [each.level for each in await run.last(20)]
    assert found == ["debug", "info", "warning", "error", "critical", "critical", "notice", ""]


async def test_a_run_exists_or_not(site: SqliteSite) -> None:
    """By its first entry."""
    assert await timeline(site, "other").exists()
    assert not await timeline(site, "nope").exists()


async def test_a_table_that_is_missing_is_an_error(site: SqliteSite) -> None:
    """Of each method."""
    site.execute("DROP TABLE execution_logs")
    with pytest.raises(StoreUnavailableError, match="db upgrade"):
        await timeline(site).exists()
    with pytest.raises(StoreUnavailableError, match="db upgrade"):
        await timeline(site).last(1)
    with pytest.raises(StoreUnavailableError, match="db upgrade"):
        await all_of(site)
