"""What the store does on every database alike; a module for each of them brings the fixtures.

`site` is a database with the library's tables; `open_empty` opens one that has none yet. `bad` is each time
an entry that the database refuses, and `all_bad` has all of them.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, delete, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils import uuid7

from anything import EXAMPLES
from batches import BAD, CREATED_AT, batch, encoded
from execution_logger import Settings
from execution_logger.read.audit import Audit, audit
from execution_logger.read.timeline import Timeline
from execution_logger.store import Writer, WriteResult, upgrade
from execution_logger.store.compaction import compact
from execution_logger.store.dead_letters import DeadLetters, retry
from execution_logger.store.schema import OWN_TABLES, dead_letter_table, ledger_table
from ledgers import AGES, LATE_AFTER_SECONDS, LEDGERS, Judgement, Noted, expected, fill, judged

MANY = settings(
    max_examples=2 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Site(Protocol):
    """A database with the library's tables."""

    engine: AsyncEngine
    settings: Settings
    writer: Writer


async def test_upgrades_at_the_same_time_are_safe(open_empty: Callable[[], Site]) -> None:
    """Every replica of a deployment may upgrade at its start: one makes all tables, the others find them."""
    sites = [open_empty() for _ in range(5)]
    reports = await asyncio.gather(*(upgrade(site.engine, site.settings) for site in sites))
    there = sorted(report.count(" is there already") for report in reports)
    assert there == [0, *[1 + len(OWN_TABLES)] * 4]
    assert await write(sites[0], encoded()) == WriteResult(stored=1)
    for site in sites:
        await site.engine.dispose()


async def write(site: Site, *entries: str, batch_id: str = "b", first: int = 1) -> WriteResult:
    """Write a batch of the process `p`."""
    return await site.writer.write(batch_id, batch(*entries), process="p", first=first)


async def entries_of(site: Site, column: str = "message") -> list[str]:
    """One column of the entries, in the order of their ids."""
    async with site.engine.connect() as connection:
        found = await connection.execute(text(f"SELECT {column} FROM execution_logs ORDER BY id"))
        return [str(value) for value in found.scalars()]


async def _rows(site: Site, table: Table) -> Sequence[Mapping[str, Any]]:
    async with site.engine.connect() as connection:
        found = await connection.execute(select(table).order_by(*table.columns.values()[:1]))
        return [dict(row) for row in found.mappings()]


async def letters_of(site: Site) -> Sequence[Mapping[str, Any]]:
    """The dead letters, by their ids."""
    return await _rows(site, dead_letter_table(site.settings))


async def noted_of(site: Site) -> Sequence[Mapping[str, Any]]:
    """The ledger, by the batches' ids."""
    return await _rows(site, ledger_table(site.settings))


# Entries ---------------------------------------------------------------------------------


async def test_a_batch_is_stored_once_however_often_it_comes(site: Site) -> None:
    """Queues deliver twice, and at the same time; the same ids make it one row, and the first one stays."""
    entries = [encoded(message=str(number)) for number in range(100)]
    results = await asyncio.gather(*(write(site, *entries) for _ in range(8)))
    assert sum(result.stored for result in results) == 100
    assert await write(site, *entries) == WriteResult(duplicates=100)
    changed = encoded({**json.loads(entries[0]), "message": "changed"})
    assert await write(site, changed, encoded()) == WriteResult(stored=1, duplicates=1)
    assert await entries_of(site) == [*map(str, range(100)), "hello"]


async def test_batches_may_be_written_at_the_same_time(site: Site) -> None:
    """Several workers' threads share a writer, and a message can be delivered to two of them."""
    batches = [[encoded() for _ in range(10)] for _ in range(5)]
    writes = [write(site, *entries, batch_id=str(number)) for number, entries in [*enumerate(batches)] * 2]
    results = await asyncio.gather(*writes)
    assert sum(result.stored for result in results) == sum(result.duplicates for result in results) == 50
    assert len(await entries_of(site)) == 50
    assert [row["deliveries"] for row in await noted_of(site)] == [2] * 5


async def test_a_bad_entry_takes_no_other_one_with_it(site: Site, bad: str) -> None:
    """At the start, in the middle or at the end: it alone is a dead letter, and accounted for."""
    good = [encoded(message=str(number)) for number in range(7)]
    for position in (0, 3, 7):
        entries = [*good[:position], bad, *good[position:]]
        assert (await write(site, *entries, batch_id=str(position))).dead_lettered == 1
    assert await entries_of(site) == list("0123456")
    (letter,) = await letters_of(site)
    assert letter["batch_id"] == "0"
    assert letter["reason"]
    noted = await noted_of(site)
    assert [(row["entries"], row["dead_lettered"], row["deliveries"]) for row in noted] == [(8, 1, 1)] * 3


async def test_an_entry_keeps_its_place_in_the_tree(site: Site) -> None:
    """Its operation, the one around it, and OpenTelemetry's ids; in columns that others may select by."""
    ids = {
        "operation_id": str(uuid7()),
        "parent_id": str(uuid7()),
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
    }
    await write(site, encoded(**ids), encoded())
    first, second = await Timeline(site.engine, site.settings, "t").last(2)
    assert {name: getattr(first, name) for name in ids} == ids
    assert first.details is None
    assert {getattr(second, name) for name in ids} == {None}
    for name, id_ in ids.items():
        assert await entries_of(site, name) == [id_, "None"]


FORGED = ["", "nothing", "{}", '"text"', "5", "[", "[" * 3000, "[]]", "\0", "\ud800", "[1,]", None, 5, ["x"]]


@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: repr(forged)[:8])
async def test_what_is_no_batch_is_kept_whole(
    site: Site, forged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker goes on, and nothing vanishes without a trace; the log says so."""
    for _ in range(2):
        assert await site.writer.write("b", forged) == WriteResult(dead_lettered=1)
    (letter,) = await letters_of(site)
    assert letter["reason"].startswith("Not a batch: ")
    assert caplog.messages[0].startswith("what came as batch b is none, and is a dead letter now: ")


async def test_any_text_can_become_a_dead_letter(site: Site) -> None:
    """NUL, lone surrogates and endless texts do not stop the dead letters themselves."""
    for number, entries in enumerate(("\0", "\udfff", "x" * 20_000_000)):
        await site.writer.write(f"b{number}\0\ud800" * 1000, entries)
    letters = sorted(await letters_of(site), key=lambda letter: str(letter["batch_id"]))
    assert [letter["entry"][:8] for letter in letters] == ["\\u0000", "\\udfff", "xxxxxxxx"]
    assert letters[2]["reason"].startswith("(cut from 20000000 characters) Not a batch")


GOOD = st.integers(0, 30).map(lambda number: encoded(id=f"00000000-0000-7000-8000-{number:012}"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ITEMS = GOOD | GOOD | VALUES.map(json.dumps)


@MANY
@given(data=st.data())
async def test_every_item_is_a_row_or_a_dead_letter(
    site: Site, all_bad: Sequence[str], data: st.DataObject
) -> None:
    """Good, bad and forged ones in any mixture: no good one is dead, none is lost, none is there twice."""
    items = ITEMS | st.sampled_from(all_bad)
    batches = data.draw(st.lists(st.lists(items, max_size=20), max_size=3))
    async with site.engine.begin() as connection:
        await connection.execute(text("DELETE FROM execution_logs"))
        await connection.execute(delete(dead_letter_table(site.settings)))
    for number, entries in [*enumerate(batches), *enumerate(batches)]:
        result = await site.writer.write(str(number), batch(*entries))
        assert result.stored + result.duplicates + result.dead_lettered == len(entries)
    items_written = {item for entries in batches for item in entries}
    good = {item for item in items_written if "-7000-8000-" in item}
    assert set(await entries_of(site, "id")) == {json.loads(item)["id"] for item in good}
    bad = Counter(item.replace("\ud800", "\\ud800") for item in items_written - good)
    assert Counter(letter["entry"] for letter in await letters_of(site)) == bad


# The ledger ------------------------------------------------------------------------------


async def test_a_batch_is_noted_with_its_entries(site: Site) -> None:
    """Whose it is, which numbers it has, when its entries were made and when they were stored."""
    times = ["2026-11-22T02:13:53Z", "2026-11-22T02:13:54.5Z", "2026-11-22T02:13:55.123456Z"]
    entries = [encoded(created_at=time) for time in times]
    for number in range(3):  # what is known of it stays as it is
        result = await write(site, *entries, first=51 + number)
        assert result == (WriteResult(duplicates=3) if number else WriteResult(stored=3))
    (row,) = await noted_of(site)
    assert abs(datetime.now(UTC) - row["stored_at"]) < timedelta(minutes=1)
    assert {**row, "stored_at": None} == {
        "batch_id": "b",
        "process": "p",
        "first": 51,
        "entries": 3,
        "dead_lettered": 0,
        "deliveries": 3,
        "oldest_at": datetime.fromisoformat(times[0]),
        "newest_at": datetime.fromisoformat(times[2]),
        "stored_at": None,
    }


@pytest.mark.parametrize("position", [0, 2, 4])
async def test_a_batch_with_a_dead_letter_that_comes_again_is_accounted_for(
    site: Site, position: int
) -> None:
    """Its entries are rows or dead letters, as before."""
    entries = [encoded() for _ in range(4)]
    entries.insert(position, BAD["no task"])
    assert await write(site, *entries) == WriteResult(stored=4, dead_lettered=1)
    assert await write(site, *entries) == WriteResult(duplicates=4, dead_lettered=1)
    (row,) = await noted_of(site)
    assert (row["entries"], row["dead_lettered"], row["deliveries"]) == (5, 1, 2)


@pytest.mark.parametrize("batch_id", ["b\0", "\ud800", "b" * 100_000], ids=["NUL", "surrogate", "long"])
@pytest.mark.parametrize("created_at", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "infinity"])
async def test_forged_batches_can_be_noted(site: Site, batch_id: str, created_at: str) -> None:
    """Nothing in them stops the others, nor the arithmetic of an audit."""
    for _ in range(2):
        await write(site, encoded(), encoded(created_at=created_at), batch_id=batch_id, first=2**48)
    (row,) = await noted_of(site)
    assert (row["entries"], row["deliveries"]) == (2, 2)
    assert row["oldest_at"] == row["newest_at"] == datetime.fromisoformat(CREATED_AT)
    assert (await audit(site.engine, site.settings, late_after_seconds=0)).accounts[0].missing == 2**48 - 1


async def look(site: Site, **arguments: Any) -> Audit:
    """The audit."""
    return await audit(site.engine, site.settings, late_after_seconds=LATE_AFTER_SECONDS, **arguments)


@MANY
@given(ledger=LEDGERS, since=AGES, until=AGES)
async def test_the_audit_says_what_a_plain_count_says(
    site: Site, ledger: list[Noted], since: int | None, until: int | None
) -> None:
    """Whatever the ledger holds, and whichever time range is asked for."""
    now = datetime.now(UTC)
    await fill(site.engine, ledger, now)
    ages = {name: age for name, age in (("since", since), ("until", until)) if age is not None}
    result = await look(site, **{name: now - timedelta(seconds=age) for name, age in ages.items()})
    assert judged(result) == expected(ledger, since, until)
    assert result.is_complete == (not result.missing)
    for ranges in (result.missing, result.pending, result.late, result.repeated):
        places = [(one.process, one.first, one.last) for one in ranges]
        assert places == sorted(places)


@MANY
@given(ledger=LEDGERS)
@example(
    ledger=[
        Noted("young", "p", first=12, entries=5, deliveries=1, age=5, delay=None),
        Noted("old", "p", first=12, entries=4, deliveries=1, age=100, delay=None),
        Noted("older", "p", first=16, entries=2, deliveries=1, age=100, delay=None),
    ]
)
async def test_an_audit_finds_in_a_merged_ledger_what_it_found_before(
    site: Site, ledger: list[Noted]
) -> None:
    """Whatever the ledger holds; a second time nothing changes any more."""
    now = datetime.now(UTC)
    await fill(site.engine, ledger, now)
    before = judged(await look(site))
    for _ in range(2):
        until = now - timedelta(seconds=LATE_AFTER_SECONDS)
        async for at in compact(site.engine, site.settings, until, timeout_seconds=10):
            assert at <= until
        after = judged(await look(site))
        if before.repeated:  # which one of two batches was the first to bring an entry may be another one now
            assert _without_late(after) == _without_late(before)
        else:
            assert _without_late(after, late=after.late) == _without_late(before, late=before.late)


def _without_late(found: Judgement, late: Any = None) -> tuple[Any, ...]:
    """Without the number of rows, which is another one."""
    sums = {process: (*each[1:4], each[5]) for process, each in found.sums.items()}
    return found.missing, found.pending, found.repeated, sums, late


# Dead letters ----------------------------------------------------------------------------


async def test_a_retry_stores_the_entry_and_deletes_the_letter(site: Site) -> None:
    """Where the cause is gone, and says why where it is not; the ledger follows."""
    letters = DeadLetters(site.settings)
    good = encoded(message="good")
    await write(site, encoded(), BAD["no task"], batch_id="b")
    async with site.engine.connect() as connection:
        await letters.add(connection, "b", good, "a cause that is gone")
        async with site.engine.begin() as other:
            await other.execute(ledger_table(site.settings).update().values(dead_lettered=2))
        found = {letter.entry: letter for letter in await letters.list(connection, batch_id="b")}
        assert found.keys() == {good, BAD["no task"]}
    refused = await retry(site.engine, site.settings, list(found.values()))
    bad = found[BAD["no task"]]
    assert refused.keys() == {bad.id}
    assert "task_id" in refused[bad.id]
    assert sorted(await entries_of(site)) == ["good", "hello"]
    assert [letter["id"] for letter in await letters_of(site)] == [bad.id]
    assert (await noted_of(site))[0]["dead_lettered"] == 1
    async with site.engine.begin() as connection:
        assert await letters.get(connection, ["none", bad.id]) == [bad]
        assert await letters.delete_before(connection, bad.created_at) == 0
        assert await letters.delete(connection, [bad.id, "none"]) == 1
