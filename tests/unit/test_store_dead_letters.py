"""Looking after the dead letters: reading, retrying and deleting them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from batches import batch, encoded
from execution_logger.errors import StoreUnavailableError
from execution_logger.store import WriteResult, dead_letters
from execution_logger.store.dead_letters import DeadLetter, DeadLetters, retry
from execution_logger.store.insert import insert_entries
from sqlite_site import SqliteSite, make_tables

LOUD = (
    "CREATE TRIGGER loud BEFORE INSERT ON execution_logs WHEN NEW.level = 'loud' "
    "BEGIN SELECT RAISE(ABORT, 'too loud'); END"
)


class Site(SqliteSite):
    """A site with its dead letters."""

    async def letters(self, **arguments: Any) -> list[DeadLetter]:
        """What `DeadLetters.list` says."""
        async with self.engine.connect() as connection:
            return list(await DeadLetters(self.settings).list(connection, **arguments))

    def age(self, letter_id: str, days: int) -> None:
        """Make a letter older."""
        self.execute(
            f"UPDATE execution_log_dead_letters SET created_at = datetime('now', '-{days} days') "
            f"WHERE id = '{letter_id}'"
        )


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose host refuses loud entries."""
    async with Site(tmp_path / "logs.db") as site:
        make_tables(site.path)
        site.execute(LOUD)
        yield site


async def test_letters_are_read_newest_first_and_page_by_page(site: Site) -> None:
    """With the time in UTC; and those of one batch alone."""
    for number in range(3):
        await site.write(encoded(level="loud", message=str(number)), batch_id=f"b{number}\0")
    for number, letter in enumerate(await site.letters()):
        site.age(letter.id, number)
    letters = await site.letters()
    assert len(letters) == 3
    assert letters == sorted(letters, key=lambda letter: letter.created_at, reverse=True)
    assert await site.letters(limit=1, offset=1) == letters[1:2]
    assert [letter.batch_id for letter in await site.letters(batch_id="b1\0")] == ["b1\\u0000"]
    assert letters[0].created_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - letters[0].created_at) < timedelta(minutes=1)
    assert letters[0].reason == "IntegrityError: too loud"


async def test_one_letter_is_found_by_its_id(site: Site) -> None:
    """Or nothing is."""
    await site.write(encoded(level="loud"))
    (letter,) = await site.letters()
    async with site.engine.connect() as connection:
        found = DeadLetters(site.settings)
        assert await found.get(connection, [letter.id, "x"]) == [letter]
        assert await found.ids(connection) == [letter.id]


async def test_letters_are_deleted_by_id_or_by_age(site: Site) -> None:
    """The numbers say how many there were."""
    await site.write(*(encoded(level="loud", step=str(number)) for number in range(4)))
    letters = await site.letters()
    site.age(letters[0].id, 3)
    found = DeadLetters(site.settings)
    async with site.engine.begin() as connection:
        assert await found.delete_before(connection, datetime.now(UTC) - timedelta(days=1)) == 1
        assert await found.delete(connection, []) == 0
        assert await found.delete(connection, [letter.id for letter in letters[:2]]) == 1
    assert {letter.id for letter in await site.letters()} == {letter.id for letter in letters[2:]}


async def test_a_retry_stores_the_entry_and_deletes_the_letter(site: Site) -> None:
    """Once the cause is gone; before that the reason is told and the letter stays."""
    loud = encoded(level="loud")
    await site.writer.write("b", batch(encoded(), loud), process="p", first=1)
    (letter,) = await site.letters()
    assert await retry(site.engine, site.settings, [letter]) == {letter.id: "IntegrityError: too loud"}
    assert len(site.dead()) == 1
    site.execute("DROP TRIGGER loud")
    for _ in range(2):
        assert await retry(site.engine, site.settings, [letter]) == {}
    assert site.dead() == []
    assert [row["level"] for row in site.rows()] == ["info", "loud"]
    assert site.rows("SELECT entries, dead_lettered FROM execution_log_batches") == [
        {"entries": 2, "dead_lettered": 0}
    ]


@pytest.mark.parametrize("entry", ["[", "5", "nonsense", "{}", "[[1]]", "[]]"])
async def test_what_is_no_entry_stays_a_letter(site: Site, entry: str) -> None:
    """However often it is tried."""
    await site.writer.refuse("b", entry, "why not")
    (letter,) = await site.letters()
    assert await retry(site.engine, site.settings, [letter])
    assert await site.letters() == [letter]


async def test_a_batch_that_does_harm_is_refused_entry_by_entry(site: Site) -> None:
    """Any number of times; the ledger knows, and each of them can be tried again."""
    text, reason = batch(encoded(), encoded()), "3 workers have died over its batch"
    for _ in range(2):
        result = await site.writer.refuse("b", text, reason, process="p", first=1)
        assert result == WriteResult(dead_lettered=2)
    letters = await site.letters()
    assert [letter.reason for letter in letters] == [reason] * 2
    assert site.rows("SELECT entries, dead_lettered FROM execution_log_batches") == [
        {"entries": 2, "dead_lettered": 2}
    ]
    for letter in letters:
        assert await retry(site.engine, site.settings, [letter]) == {}
    assert (len(site.rows()), site.dead()) == (2, [])


async def test_a_letter_that_holds_a_whole_batch_is_retried_whole(site: Site) -> None:
    """It is not read before."""
    async with site.engine.connect() as connection:
        await DeadLetters(site.settings).add(connection, "b", batch(encoded(), encoded()), "by hand")
    (letter,) = await site.letters()
    assert await retry(site.engine, site.settings, [letter]) == {}
    assert (len(site.rows()), site.dead()) == (2, [])


async def test_a_retry_that_breaks_off_leaves_everything_as_it_was(site: Site) -> None:
    """The row and the end of the letter are one transaction."""

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "DELETE FROM execution_log_dead_letters" in statement:
            raise OSError("cut")

    await site.writer.refuse("b", encoded(), "r")
    (letter,) = await site.letters()
    event.listen(site.engine.sync_engine, "before_cursor_execute", note)
    with pytest.raises(StoreUnavailableError, match="cut"):
        await retry(site.engine, site.settings, [letter])
    assert (site.rows(), await site.letters()) == ([], [letter])


class TimeoutOfServer(Exception):  # noqa: N818 - the driver's word
    """What PostgreSQL says of a statement that takes too long."""

    sqlstate = "57014"


class SlowInsert:
    """Inserts as the store does, unless there are too many entries, or one of them is slow alone."""

    def __init__(self, most: int) -> None:
        self.counts: list[int] = []
        self._most = most

    async def __call__(self, connection: Any, table: Any, entries: str) -> int:
        """As the function in its place."""
        self.counts.append(entries.count('"id"'))
        if self.counts[-1] > self._most or "slow" in entries:
            raise DBAPIError(None, None, TimeoutOfServer("too slow"))
        return await insert_entries(connection, table, entries)


async def slow_letters(site: Site, monkeypatch: pytest.MonkeyPatch, most: int, *slow: str) -> SlowInsert:
    """Let there be letters, 10 of which are quick enough, so many at a time."""
    entries = [*slow, *(encoded(step=str(number)) for number in range(10))]
    await site.writer.refuse("b", batch(*entries), "by hand")
    insert = SlowInsert(most)
    monkeypatch.setattr(dead_letters, "insert_entries", insert)
    return insert


async def test_letters_are_retried_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement stores them."""
    insert = await slow_letters(site, monkeypatch, 10)
    assert await retry(site.engine, site.settings, await site.letters()) == {}
    assert insert.counts == [10]


async def test_letters_that_take_too_long_together_are_stored_in_pieces(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No larger piece is tried after the first one that was quick enough."""
    insert = await slow_letters(site, monkeypatch, 3)
    assert await retry(site.engine, site.settings, await site.letters()) == {}
    assert (len(site.rows()), site.dead()) == (10, [])
    assert max(insert.counts[2:]) <= 3


@pytest.mark.parametrize("number", [1, 2])
async def test_a_letter_that_takes_too_long_alone_stays_one(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The others are stored, and the database's words about it are told."""
    await slow_letters(site, monkeypatch, 10, *(encoded(message="slow") for _ in range(number)))
    refused = await retry(site.engine, site.settings, await site.letters())
    assert set(refused.values()) == {"TimeoutOfServer: too slow"}
    assert {letter.id for letter in await site.letters()} == refused.keys()
    assert (len(site.rows()), len(refused)) == (10, number)


async def test_when_every_letter_takes_too_long_nothing_can_be_stored(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is found out without trying each."""
    insert = await slow_letters(site, monkeypatch, 0)
    with pytest.raises(StoreUnavailableError, match="too slow"):
        await retry(site.engine, site.settings, await site.letters())
    assert insert.counts == [10, 5, 2, 1, 1, 1]
    assert len(site.dead()) == 10


async def test_a_retry_needs_no_ledger(site: Site) -> None:
    """An older database has none."""
    site.execute("DROP TABLE execution_log_batches")
    await site.writer.refuse("b", encoded(), "r")
    (letter,) = await site.letters()
    assert await retry(site.engine, site.settings, [letter]) == {}
    assert len(site.rows()) == 1
