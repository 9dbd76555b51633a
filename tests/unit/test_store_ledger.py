"""The ledger: one row for each stored batch, with its entries or not at all."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from batches import BAD, batch, encoded
from execution_logger.errors import StoreUnavailableError
from execution_logger.store import ExecutionLogRepository, WriteResult, upgrade
from execution_logger.store.ledger import Ledger
from ledgers import Noted, fill
from sqlite_site import SqliteSite

WITHOUT = "DROP TABLE execution_log_batches"


async def write(site: SqliteSite, *entries: str, batch_id: str = "b", first: Any = 1) -> WriteResult:
    """Write a batch of the process `p`."""
    return await site.writer.write(batch_id, batch(*entries), process="p", first=first)


def noted(site: SqliteSite) -> list[dict[str, Any]]:
    """The ledger, without the times."""
    columns = "batch_id, process, first, entries, dead_lettered, deliveries"
    return site.rows(f"SELECT {columns} FROM execution_log_batches ORDER BY first")


def of(
    batch_id: str, first: int, entries: int, dead_lettered: int = 0, deliveries: int = 1
) -> dict[str, Any]:
    """A row of the ledger."""
    return {
        "batch_id": batch_id,
        "process": "p",
        "first": first,
        "entries": entries,
        "dead_lettered": dead_lettered,
        "deliveries": deliveries,
    }


async def test_an_attempt_that_breaks_off_leaves_neither_rows_nor_a_note(site: SqliteSite) -> None:
    """Between the two statements: the next attempt does all of it."""
    refuse = [True]

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INTO execution_log_batches" in statement and refuse.pop():
            raise OSError("cut")

    event.listen(site.engine.sync_engine, "before_cursor_execute", note)
    with pytest.raises(StoreUnavailableError, match="cut"):
        await write(site, encoded())
    assert site.rows() == noted(site) == []
    refuse.append(False)
    assert await write(site, encoded()) == WriteResult(stored=1)
    assert noted(site) == [of("b", 1, 1)]


async def test_a_batch_that_was_cut_off_while_it_was_sorted_out_is_noted_in_the_end(site: SqliteSite) -> None:
    """Its first half is stored by then; the sums are right all the same."""
    entries = [encoded() for _ in range(7)]
    calls: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INTO execution_log_dead_letters" in statement:
            calls.append(statement)
            if len(calls) == 1:
                raise OSError("cut")

    event.listen(site.engine.sync_engine, "before_cursor_execute", note)
    with pytest.raises(StoreUnavailableError, match="cut"):
        await write(site, *entries, BAD["no task"])
    assert len(site.rows()) == 7
    assert noted(site) == []
    assert await write(site, *entries, BAD["no task"]) == WriteResult(duplicates=7, dead_lettered=1)
    assert noted(site) == [of("b", 1, 8, dead_lettered=1)]


HOSTILE_PROCESSES = [None, "", "p\0", "p q", "p" * 101, "\ud800", "p\n", "学", 5, b"p", ["p"], {"p": 1}, True]
HOSTILE_FIRSTS: list[Any] = [None, 0, -1, 2**48 + 1, 2**63, 10**400, True, 1.0, float("nan"), "1", [1], {}]


@pytest.mark.parametrize(
    ("process", "first"),
    [*((process, 1) for process in HOSTILE_PROCESSES), *(("p", first) for first in HOSTILE_FIRSTS)],
    ids=lambda value: ascii(value)[:20],
)
async def test_a_forged_place_is_no_place(site: SqliteSite, process: Any, first: Any) -> None:
    """The entries are stored; an audit must not be led astray."""
    result = await site.writer.write("b", batch(encoded(), "5"), process=process, first=first)
    assert result == WriteResult(stored=1, dead_lettered=1)
    assert noted(site) == []


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        ("9999-12-31T23:59:59-23:00", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("1969-12-31T23:59:59Z", None),
        ("2026-11-22T10:13:53+08:00", "2026-11-22 02:13:53.000000"),
    ],
)
async def test_times_that_cannot_be_are_left_out(
    site: SqliteSite, created_at: str, expected: str | None
) -> None:
    """No arithmetic on times may fail later."""
    await write(site, encoded(created_at=created_at), BAD["a time that is none"])
    (row,) = site.rows("SELECT oldest_at, newest_at FROM execution_log_batches")
    assert row == {"oldest_at": expected, "newest_at": expected}


async def test_an_empty_batch_and_none_at_all_are_not_noted(site: SqliteSite) -> None:
    """How many entries an unreadable one held, nobody knows."""
    assert await write(site) == WriteResult()
    assert await site.writer.write("b", "nonsense", process="p", first=1) == WriteResult(dead_lettered=1)
    assert noted(site) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (WITHOUT, 'table "execution_log_batches" does not exist. Run: execution-logger db upgrade'),
        (f"{WITHOUT}; CREATE TABLE execution_log_batches (batch_id TEXT)", 'see its column "process"'),
        (
            f"{WITHOUT}; CREATE TABLE execution_log_batches (batch_id TEXT, process TEXT, first TEXT)",
            'see its column "first"',
        ),
    ],
)
async def test_without_a_ledger_entries_are_stored_all_the_same(
    site: SqliteSite, change: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A database of an older release; the warning comes once and says what to do."""
    site.execute(change)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            assert await write(site, encoded(), batch_id=str(number)) == WriteResult(stored=1)
    (message,) = caplog.messages
    assert words in message
    assert "execution-logger db upgrade" in message


async def test_a_ledger_that_vanishes_holds_up_nothing(site: SqliteSite) -> None:
    """The batch that meets it is stored without."""
    await write(site, encoded())
    site.execute(WITHOUT)
    assert await write(site, encoded()) == WriteResult(stored=1)


async def test_a_ledger_that_is_made_later_is_found_within_a_minute(site: SqliteSite) -> None:
    """`db upgrade` may run after the workers have started; they are not restarted for it."""
    site.execute(WITHOUT)
    now = [0.0]
    ledger = Ledger(site.settings, lambda: now[0])
    async with site.engine.connect() as connection:
        assert not await ledger.is_usable(connection)
        await upgrade(site.engine, site.settings)
        now[0] = 59.0
        assert not await ledger.is_usable(connection)
        now[0] = 60.0
        assert await ledger.is_usable(connection)


async def test_what_the_ledger_refuses_makes_no_dead_letters(
    site: SqliteSite, caplog: pytest.LogCaptureFixture
) -> None:
    """A trigger or a constraint that somebody has put on it is not the entries' fault."""
    site.execute(
        "CREATE TRIGGER t BEFORE INSERT ON execution_log_batches BEGIN SELECT RAISE(ABORT, 'too many'); END"
    )
    for number in range(3):
        assert await write(site, encoded(), encoded(), batch_id=str(number)) == WriteResult(stored=2)
    assert site.dead() == noted(site) == []
    assert len(site.rows()) == 6
    (message,) = caplog.messages
    assert "too many" in message


async def test_old_processes_leave_the_ledger_with_their_entries(site: SqliteSite) -> None:
    """All of a process or nothing: half of it would look like one with a gap."""
    ages = {"ended": (100, 95), "goes on": (100, 1), "new": (2, 1)}
    now = datetime.now(UTC)
    ledger = [
        Noted(f"{process} {number}", process, 1 + number, 1, 1, age * 86_400, 1)
        for process, days in ages.items()
        for number, age in enumerate(days)
    ]
    await fill(site.engine, ledger, now)
    async with AsyncSession(site.engine) as session, session.begin():
        assert await ExecutionLogRepository(session, site.settings).delete_old_logs(days=90) == 0
    assert [row["batch_id"] for row in noted(site)] == ["goes on 0", "new 0", "goes on 1", "new 1"]


async def test_old_entries_are_deleted_without_a_ledger(site: SqliteSite) -> None:
    """A database of an older release has none."""
    site.execute(WITHOUT)
    await write(site, encoded(created_at="2020-01-01T00:00:00Z"))
    async with AsyncSession(site.engine) as session, session.begin():
        assert await ExecutionLogRepository(session, site.settings).delete_old_logs() == 1
