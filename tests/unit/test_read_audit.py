"""The audit: it finds exactly what is missing, late or repeated."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batches import BAD, batch, encoded
from execution_logger.errors import StoreUnavailableError
from execution_logger.read import audit as module
from execution_logger.read.audit import Audit, audit
from ledgers import Noted, fill
from sqlite_site import SqliteSite

NOW = datetime.now(UTC)


def noted(first: int, entries: int = 10, process: str = "p", **changed: Any) -> Noted:
    """A batch of ten entries that was stored at once, an hour ago."""
    usual = {"batch_id": f"{process}{first:03}{entries}", "deliveries": 1, "age": 3600, "delay": 1}
    return Noted(**{**usual, "process": process, "first": first, "entries": entries, **changed})


async def found(site: SqliteSite, *ledger: Noted, **arguments: Any) -> Audit:
    """What the audit finds in this ledger."""
    now = datetime.now(UTC)
    await fill(site.engine, ledger, now)
    for name in ("since", "until"):
        if name in arguments:
            arguments[name] = now - timedelta(seconds=arguments[name])
    return await audit(site.engine, site.settings, **arguments)


def places(ranges: Any) -> list[tuple[str, int, int]]:
    """Where the ranges are."""
    return [(one.process, one.first, one.last) for one in ranges]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=12), fates=st.randoms(use_true_random=False))
async def test_what_was_written_is_accounted_for(
    site: SqliteSite, sizes: list[int], fates: random.Random
) -> None:
    """Batches in any order, some twice, some never, some with a bad entry: rows, letters and gaps add up."""
    site.execute("DELETE FROM execution_logs; DELETE FROM execution_log_dead_letters;")
    site.execute("DELETE FROM execution_log_batches")
    made = [[BAD["no task"] if fates.random() < 0.1 else encoded() for _ in range(size)] for size in sizes]
    sent = [(1 + sum(sizes[:number]), entries) for number, entries in enumerate(made)]
    sent = [message for message in sent for _ in range(fates.choice([0, 1, 1, 1, 2, 3]))]
    fates.shuffle(sent)
    for first, entries in sent:
        await site.writer.write(str(first), batch(*entries), process="p", first=first)
    result = await audit(site.engine, site.settings, late_after_seconds=0)
    arrived = {first + place for first, entries in sent for place in range(len(entries))}
    gaps = {number for one in result.missing for number in range(one.first, one.last + 1)}
    assert gaps == set(range(1, max(arrived, default=0))) - arrived
    account = next(iter(result.accounts), None)
    if account is None:
        assert not sent
        return
    assert account.entries == len(arrived)
    assert account.repeated == sum(len(entries) for _, entries in sent) - len(arrived)
    assert account.entries - account.dead_lettered == len(site.rows())


async def test_a_gap_is_a_gap_when_later_entries_are_stored(site: SqliteSite) -> None:
    """Between batches and before the first; what is after the last one, nobody can know here."""
    result = await found(site, noted(11), noted(41), noted(51), noted(21), noted(1, process="q"))
    assert places(result.missing) == [("p", 1, 10), ("p", 31, 40)]
    assert not result.is_complete
    gap = result.missing[1]
    assert gap.made_after is not None
    assert gap.made_before is not None
    assert abs(gap.noticed_at - (datetime.now(UTC) - timedelta(hours=1))) < timedelta(minutes=1)


async def test_what_came_only_just_before_is_pending(site: SqliteSite) -> None:
    """Batches overtake each other: several workers write at the same time."""
    result = await found(site, noted(1), noted(21, age=20))
    assert (result.missing, places(result.pending)) == ([], [("p", 11, 20)])
    assert result.is_complete


async def test_a_time_range_makes_no_gaps_of_its_own(site: SqliteSite) -> None:
    """Its beginning and its end cut the sequence; a late batch outside of it fills a gap inside."""
    ledger = [noted(11, age=900), noted(21, age=100), noted(31, age=890), noted(51, age=880)]
    result = await found(site, *ledger, since=1000, until=850)
    assert places(result.missing) == [("p", 41, 50)]
    assert result.accounts[0].batches == 3


async def test_one_process_may_be_asked_for(site: SqliteSite) -> None:
    """By its whole name."""
    result = await found(site, noted(11), noted(11, process="q"), process="q")
    assert places(result.missing) == [("q", 1, 10)]
    assert [account.process for account in result.accounts] == ["q"]


async def test_neighbours_are_shown_as_one(site: SqliteSite) -> None:
    """After an outage hundreds of batches are late: that is one line."""
    late = [noted(1 + 10 * number, delay=100 + number) for number in range(5)]
    twice = [noted(101, deliveries=2), noted(111, deliveries=4), noted(125, deliveries=2)]
    result = await found(site, *late, *twice, noted(130))
    assert [(delay.first, delay.last, round(delay.seconds)) for delay in result.late] == [(1, 50, 104)]
    assert [(repeat.first, repeat.last, repeat.deliveries) for repeat in result.repeated] == [
        (101, 120, 4),
        (125, 134, 2),
    ]


async def test_entries_of_two_batches_came_twice(site: SqliteSite) -> None:
    """What a process took over from a dead one may have been sent by that in other batches."""
    result = await found(site, noted(1, 20), noted(11, 20), noted(15, 3))
    assert places(result.repeated) == [("p", 11, 20)]
    assert (result.accounts[0].entries, result.accounts[0].repeated) == (30, 13)


async def test_an_account_has_the_first_and_the_last(site: SqliteSite) -> None:
    """Of the numbers and of the times, which are aware and in UTC."""
    (account,) = (await found(site, noted(1, age=500), noted(11, age=400, delay=None))).accounts
    assert (account.first, account.last, account.batches, account.entries) == (1, 20, 2, 20)
    assert account.oldest_at == account.newest_at
    assert account.oldest_at is not None
    assert account.stored_at - account.oldest_at == pytest.approx(timedelta(seconds=101), abs=timedelta(1e-4))
    assert account.stored_at.tzinfo is UTC


async def test_an_empty_ledger_is_complete(site: SqliteSite) -> None:
    """Nothing is known, and nothing missing."""
    assert await found(site) == Audit([], [], [], [], [], is_cut=False)


async def test_too_much_to_be_listed_is_cut_and_gaps_come_first(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums are of everything."""
    monkeypatch.setattr(module, "MOST_FINDINGS", 3)
    ledger = [noted(1 + 20 * number, deliveries=2) for number in range(6)]
    result = await found(site, *ledger)
    assert result.is_cut
    assert places(result.missing) == [("p", 11, 20), ("p", 31, 40), ("p", 51, 60)]
    assert result.accounts[0].missing == 50


async def test_without_a_ledger_it_says_what_to_do(site: SqliteSite) -> None:
    """A database of an older release."""
    site.execute("DROP TABLE execution_log_batches")
    with pytest.raises(StoreUnavailableError, match="Run: execution-logger db upgrade"):
        await audit(site.engine, site.settings)
