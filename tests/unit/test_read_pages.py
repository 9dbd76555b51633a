"""Pages of a run, and its skeleton: in both directions, whatever is stored meanwhile, from any table."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from uuid_utils import uuid7

from batches import encoded
from execution_logger.entry.entry import LogEntry
from execution_logger.read.pages import Pages
from execution_logger.read.place import Place
from execution_logger.read.skeleton import count_entries, outline_of, read_outlines
from execution_logger.read.timeline import ALL, Only, Timeline
from execution_logger.store import upgrade
from sqlite_site import SqliteSite, make_tables

START = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
HOSTS_TABLE = """
    CREATE TABLE execution_logs (
        id CHAR(32) NOT NULL PRIMARY KEY, task_id VARCHAR(36), level VARCHAR(20), category VARCHAR(50),
        message TEXT, details TEXT, created_at DATETIME
    )
"""


@pytest.fixture(params=["own", "host's"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """The library's own table, and a host's with local times, ids without dashes, and few columns."""
    zone = "UTC" if request.param == "own" else "Asia/Shanghai"
    async with SqliteSite(tmp_path / "logs.db", time_zone=zone) as site:
        if request.param == "own":
            make_tables(site.path)
        else:
            site.execute(HOSTS_TABLE)
            await upgrade(site.engine, site.settings)
        yield site


def entry(number: float, **changed: Any) -> str:
    """One of that second after the start, with its number as its message."""
    at = (START + timedelta(seconds=number)).isoformat()
    return encoded(**{"created_at": at, "message": str(number), **changed})


def pages(site: SqliteSite, task_id: str = "t") -> Pages:
    """Those of a run."""
    return Pages(Timeline(site.engine, site.settings, task_id))


def place(entry: LogEntry) -> Place:
    """Where it is."""
    return Place(entry.created_at, entry.id)


def numbers(entries: list[LogEntry]) -> list[str]:
    """Their messages."""
    return [entry.message for entry in entries]


async def test_a_run_is_read_in_pages_in_both_directions(site: SqliteSite) -> None:
    """Every entry once, also of those that were made at the same time."""
    await site.write(
        *(entry(number // 3, message=str(number)) for number in range(20)), entry(5, task_id="u")
    )
    for limit in (1, 3, 7, 20, 100):
        forwards, at = list[LogEntry](), None
        while found := await pages(site).after(at, limit):
            forwards += found
            at = place(found[-1])
        backwards, at = list[LogEntry](), None
        while found := await pages(site).before(at, limit):
            backwards = found + backwards
            at = place(found[0])
        assert forwards == backwards
        assert sorted(numbers(forwards), key=int) == [str(number) for number in range(20)]
        assert [each.created_at for each in forwards] == sorted(each.created_at for each in forwards)


async def test_a_page_stays_when_entries_come(site: SqliteSite) -> None:
    """Before it, behind it, and of other runs."""
    await site.write(*(entry(number) for number in range(10)))
    middle = place((await pages(site).after(None, 5))[-1])
    await site.write(entry(-1), entry(20), entry(4.5, task_id="u"), batch_id="later")
    assert numbers(await pages(site).after(middle, 5)) == ["5", "6", "7", "8", "9"]
    assert numbers(await pages(site).before(middle, 4)) == ["0", "1", "2", "3"]
    await site.write(entry(4.5), batch_id="late")
    assert numbers(await pages(site).after(middle, 2)) == ["4.5", "5"]


async def test_a_page_of_some(site: SqliteSite) -> None:
    """The filters are those of everybody."""
    await site.write(*(entry(n, level="error" if n % 3 == 0 else "info") for n in range(20)))
    errors = Only.at_least("error")
    assert numbers(await pages(site).after(None, 3, errors)) == ["0", "3", "6"]
    assert numbers(await pages(site).before(None, 2, errors)) == ["15", "18"]


async def test_entries_by_their_ids(site: SqliteSite) -> None:
    """In the order of time; what is none of this run is left out."""
    ids = [str(uuid7()) for _ in range(3)]
    await site.write(
        *(entry(9 - n, id=id_) for n, id_ in enumerate(ids)), entry(0, id=str(uuid4()), task_id="u")
    )
    assert [each.id for each in await pages(site).by_id([*ids, str(uuid4()), "x"])] == ids[::-1]
    assert await pages(site, "u").by_id(ids) == []


async def test_a_text_is_found_wherever_it_stands_in_any_case(site: SqliteSite) -> None:
    """In messages and in details; wildcards of databases are letters like others."""
    await site.write(
        entry(1, message="The Court was ASKED"),
        entry(2, details={"answer": "asked twice"}),
        entry(3, message="100% of it", details={"a": ['say "hello"', "x_y"]}),
        entry(4, message="中文日志"),
        entry(5, message="nothing", details=None),
    )
    for text, wanted in (
        ("asked", 2), ("ASKED", 2), ("100%", 1), ("1%0", 0), ("x_y", 1), ("x-y", 0), ("文日", 1),
        ('"hello"', 1), ("nothing", 1), ("\\", 0), ("", 5),
    ):  # fmt: skip
        only = Only(text=text)
        found = await pages(site).search(only, 10)
        assert (len(found.ids), found.total, found.is_complete) == (wanted, wanted, True), text
        taken = [each.id for each in await pages(site).after(None, 10) if only.takes(each)]
        assert taken == found.ids, text


async def test_a_search_says_how_many_there_are(site: SqliteSite) -> None:
    """Though it names the first ones alone."""
    await site.write(*(entry(number) for number in range(30)))
    found = await pages(site).search(ALL, 10)
    assert (len(found.ids), found.total, found.is_complete) == (10, 30, False)
    assert numbers(await pages(site).by_id(found.ids)) == [str(number) for number in range(10)]


async def test_the_skeleton_says_of_each_entry_what_the_entry_says(site: SqliteSite) -> None:
    """Whether a field has a column or is in the details."""
    operation, parent = str(uuid4()), str(uuid4())
    await site.write(
        entry(1, message="run 开始", operation_id=operation, details={"run_state": "running"}),
        entry(2, step="plan", agent_name="author", parent_id=operation, details={"tool_name": "search"}),
        entry(
            3,
            level="ERROR",
            message="plan failed: no",
            operation_id=parent,
            duration_ms=7,
            parent_id=operation,
        ),
        entry(4, message="x" * 5000, operation_id=parent),
        entry(5, details={"run_state": "failed", "tool_name": 5}),
        entry(6, message="run 完成", operation_id=operation, duration_ms=5, details={"run_state": "done"}),
        entry(7, message="odd", operation_id=operation, details={"run_state": "on its way"}),
        entry(8, message="run completed", operation_id=operation, details={"run_state": "done"}),
    )
    timeline = Timeline(site.engine, site.settings, "t")
    outlines = await read_outlines(timeline, None, 100)
    whole = [outline_of(each) for each in await timeline.last(100)]
    assert [(each.name or "")[:100] for each in outlines] == [(each.name or "")[:100] for each in whole]
    assert [each.name for each in outlines[:3]] == ["run", None, "plan"]
    assert [each.state for each in outlines] == ["running", *[None] * 4, "done", None, "done"]
    assert outlines[-1].name == "run"
    assert [each.tool for each in outlines] == [None, "search", *[None] * 6]
    for field in set(type(outlines[0]).__struct_fields__) - {"name"}:
        assert [getattr(each, field) for each in outlines] == [getattr(each, field) for each in whole], field


async def test_the_skeleton_comes_in_pages(site: SqliteSite) -> None:
    """And is counted whole, and up to a place."""
    await site.write(*(entry(number) for number in range(10)), entry(3, task_id="u"))
    timeline = Timeline(site.engine, site.settings, "t")
    first = await read_outlines(timeline, None, 4)
    others = await read_outlines(timeline, first[-1].place, 100)
    whole = await read_outlines(timeline, None, 100)
    assert first + others == whole
    assert len(whole) == await count_entries(timeline) == 10
    assert await count_entries(timeline, up_to=first[-1].place) == 4
    assert await count_entries(timeline, up_to=Place(START - timedelta(days=1), whole[0].id)) == 0
