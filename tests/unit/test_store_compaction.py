"""Compaction: the ledger stays small, and an audit of it says what it said before."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batches import BAD, batch, encoded
from execution_logger.read.audit import Audit, audit
from execution_logger.store import compaction as module
from execution_logger.store.compaction import compact
from execution_logger.store.dead_letters import DeadLetters, retry
from ledgers import LATE_AFTER_SECONDS, Noted, fill
from sqlite_site import SqliteSite

NOON = datetime.now(UTC).replace(hour=12) - timedelta(days=1)
HOUR, DAY = 3600, 86_400


def noted(first: int, entries: int = 10, **changed: Any) -> Noted:
    """A batch of ten entries that was stored at once, at noon of yesterday."""
    usual = {"batch_id": f"b{first}", "process": "p", "deliveries": 1, "age": 0, "delay": 1}
    return Noted(**{**usual, "first": first, "entries": entries, **changed})


async def merge(site: SqliteSite, until: datetime, since: datetime | None = None) -> None:
    """All that can be merged."""
    async for at in compact(site.engine, site.settings, until, since, timeout_seconds=10):
        assert at <= until


def ranges(site: SqliteSite) -> list[tuple[int, int]]:
    """What the ledger has of each row: the first number and the last one."""
    rows = site.rows("SELECT first, entries FROM execution_log_batches ORDER BY first, entries DESC")
    return [(row["first"], row["first"] + row["entries"] - 1) for row in rows]


async def look(site: SqliteSite) -> Audit:
    """The audit."""
    return await audit(site.engine, site.settings, late_after_seconds=LATE_AFTER_SECONDS)


async def test_a_day_of_a_process_is_one_row(site: SqliteSite) -> None:
    """With the times of its first and of its last batch."""
    ledger = [noted(1 + 10 * number, age=600 - number) for number in range(100)]
    await fill(site.engine, ledger, NOON)
    await merge(site, NOON)
    assert ranges(site) == [(1, 1000)]
    (account,) = (await look(site)).accounts
    assert (account.entries, account.missing, account.late, account.repeated) == (1000, 0, 0, 0)
    assert account.oldest_at == NOON - timedelta(seconds=601)
    assert account.newest_at == NOON - timedelta(seconds=502)
    assert account.stored_at == NOON - timedelta(seconds=501)


@pytest.mark.parametrize("number", [0, 4, 9])
async def test_a_batch_that_comes_again_after_that_is_known(site: SqliteSite, number: int) -> None:
    """The first one, one in the middle and the last one; it is no row and not late; it is repeated."""
    batches = [[encoded(created_at=NOON.isoformat()) for _ in range(5)] for _ in range(10)]
    for place, entries in enumerate(batches):
        await site.writer.write(str(place), batch(*entries), process="p", first=1 + 5 * place)
    site.execute(f"UPDATE execution_log_batches SET stored_at = '{NOON:%Y-%m-%d %H:%M:%S.%f}'")
    await merge(site, datetime.now(UTC))
    for times in (1, 2):
        await site.writer.write(str(number), batch(*batches[number]), process="p", first=1 + 5 * number)
        found = await look(site)
        (account,) = found.accounts
        assert (account.entries, account.missing, account.late) == (50, 0, 0)
        assert account.repeated == 5 * times
        assert [(each.first, each.last) for each in found.repeated] == [(1 + 5 * number, 5 + 5 * number)]
        assert len(site.rows()) == 50
        await merge(site, datetime.now(UTC) + timedelta(seconds=1))


@pytest.mark.parametrize(
    "second",
    [
        noted(12),
        noted(11, process="q"),
        noted(11, deliveries=2),
        noted(11, delay=61),
        noted(11, delay=3601),
        noted(11, delay=None),
        noted(11, age=-DAY),
        noted(11, age=-HOUR),
    ],
    ids=["a gap", "process", "deliveries", "late", "very late", "no time", "day", "young"],
)
async def test_what_differs_stays_apart(site: SqliteSite, second: Noted) -> None:
    """An audit tells of it, or it may still be delivered again."""
    await fill(site.engine, [noted(1), second], NOON)
    until = NOON + timedelta(seconds=(DAY + HOUR) if second.age == -DAY else 1)
    await merge(site, until)
    assert len(ranges(site)) == 2


async def test_sums_stay_within_their_column(site: SqliteSite) -> None:
    """It holds two thousand million entries: what would be more stays apart."""
    most = 999_999_999
    await fill(site.engine, [noted(1 + most * number, most) for number in range(3)], NOON)
    await merge(site, NOON + timedelta(seconds=1))
    assert len(ranges(site)) == 3
    await fill(site.engine, [noted(1 + most * number, most) for number in range(2)], NOON)
    for _ in range(2):
        await merge(site, NOON + timedelta(seconds=1))
        assert ranges(site) == [(1, 2 * most)]


async def test_what_is_as_late_becomes_one_late_row(site: SqliteSite) -> None:
    """After an outage of an hour hundreds of batches are late."""
    ledger = [replace(noted(1 + 10 * number), delay=3000 - 20 * number) for number in range(145)]
    await fill(site.engine, ledger, NOON)
    before = (await look(site)).accounts[0].late
    await merge(site, NOON + timedelta(seconds=1))
    assert len(ranges(site)) <= 4
    assert (await look(site)).accounts[0].late == before > 1000


async def test_a_dead_letter_can_still_become_a_row(site: SqliteSite) -> None:
    """Its batch stays as it is until then, and joins its neighbours afterwards."""
    for place in range(3):
        entries = [encoded(), BAD["no task"] if place == 1 else encoded()]
        await site.writer.write(str(place), batch(*entries), process="p", first=1 + 2 * place)
    later = datetime.now(UTC) + timedelta(seconds=1)
    await merge(site, later)
    assert ranges(site) == [(1, 2), (3, 4), (5, 6)]
    assert (await look(site)).accounts[0].dead_lettered == 1
    async with site.engine.connect() as connection:
        (letter,) = await DeadLetters(site.settings).list(connection)
    assert await retry(site.engine, site.settings, [replace(letter, entry=encoded())]) == {}
    await merge(site, later)
    assert ranges(site) == [(1, 6)]
    assert (await look(site)).accounts[0].dead_lettered == 0


async def test_it_goes_on_where_it_was_left(site: SqliteSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks, each of which is kept; the next pass merges what two chunks have made."""
    monkeypatch.setattr(module, "CHUNK", 4)
    await fill(site.engine, [noted(1 + 10 * number, age=100 - number) for number in range(12)], NOON)
    chunks = compact(site.engine, site.settings, NOON, timeout_seconds=10)
    reached = await anext(chunks)
    await chunks.aclose()
    assert reached == NOON - timedelta(seconds=96)
    assert len(ranges(site)) == 9
    await merge(site, NOON, since=reached)
    assert len(ranges(site)) < 6
    await merge(site, NOON)
    assert ranges(site) == [(1, 120)]
