"""What PostgreSQL refuses, and what takes too long: good entries are stored, whatever becomes of others."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from batches import batch, encoded
from execution_logger.delivery.database import DatabaseDelivery
from execution_logger.delivery.interface import Guarantee
from execution_logger.entry.batch import Batch
from execution_logger.errors import BatchHeldError, StoreUnavailableError, TableRefusesError
from execution_logger.operate.doctor.database import examine_database
from execution_logger.operate.doctor.finding import Finding, Level, Subject
from execution_logger.store import Writer, WriteResult
from execution_logger.store.dead_letters import DeadLetters, retry
from planted import zone_of_python_alone
from postgresql_site import PostgresqlSite
from rows import upgrade_database
from servers import PostgresServer


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class RefusingSite(PostgresqlSite):
    """A site whose writer has a clock."""

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url, **settings)
        self.clock = Clock()
        self.writer = Writer(self.engine, self.settings, self.clock)

    async def write(self, *entries: str, batch_id: str = "b") -> WriteResult:
        """Write a batch of these, which the ledger notes."""
        return await self.writer.write(batch_id, batch(*entries), process="p", first=1)

    async def messages(self) -> list[str]:
        """Those of the rows, sorted."""
        return sorted(row["message"] for row in await self.rows())


@pytest.fixture
async def site(database_url: str, patient_looks: None) -> AsyncIterator[RefusingSite]:
    """The library's own tables."""
    async with RefusingSite(database_url) as site:
        yield site


@pytest.fixture
async def ann(site: RefusingSite) -> AsyncIterator[RefusingSite]:
    """A user with all rights, whom row security concerns."""
    await execute(
        site.url,
        "CREATE USER ann; GRANT ALL ON ALL TABLES IN SCHEMA public TO ann; "
        "ALTER TABLE execution_logs ENABLE ROW LEVEL SECURITY; "
        "CREATE POLICY reading ON execution_logs FOR SELECT USING (true)",
    )
    async with RefusingSite(site.url.replace("postgres@", "ann@")) as ann:
        yield ann
    await execute(site.url, "DROP OWNED BY ann; DROP USER ann")


async def execute(url: str, script: str) -> None:
    """Run statements on a connection of the test's own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def add_trigger(site: PostgresqlSite, body: str, table: str = "execution_logs") -> None:
    """Let the host do something with each row before it is stored."""
    await execute(
        site.url,
        f"CREATE FUNCTION hosts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$; "
        f"CREATE TRIGGER hosts BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hosts()",
    )


TRIGGERS = {
    "a column that is missing": "IF NEW.message = 'bad' THEN PERFORM nothing FROM execution_logs; END IF;",
    "a function that is missing": "IF NEW.message = 'bad' THEN PERFORM nothing(); END IF;",
    "a type that does not fit": (
        "IF NEW.message = 'bad' THEN INSERT INTO execution_log_batches (batch_id, first) "
        "VALUES ('x', TIMESTAMP '2026-01-01'); END IF;"
    ),
    "an error of the server's own": (
        "IF NEW.message = 'bad' THEN RAISE 'broken' USING ERRCODE = 'XX000'; END IF;"
    ),
}


@pytest.mark.parametrize("what", TRIGGERS)
async def test_what_a_hosts_trigger_cannot_do(
    site: RefusingSite, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Good entries are rows at once; the other one is soon a dead letter, and the log names it."""
    await add_trigger(site, TRIGGERS[what])
    entries = [encoded(message="1"), encoded(message="bad"), encoded(message="2")]
    with pytest.raises(BatchHeldError, match="1 entries are refused and tried again"):
        await site.write(*entries)
    assert await site.messages() == ["1", "2"]
    assert await site.write(encoded(message="behind it"), batch_id="c") == WriteResult(stored=1)
    site.clock.now += 11
    assert await site.write(*entries) == WriteResult(duplicates=2, dead_lettered=1)
    assert await site.write(*entries) == WriteResult(duplicates=2, dead_lettered=1)
    assert len(await site.dead()) == 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("1 entries of batch b are refused, and are dead letters now; the first one: ")


async def test_what_row_security_refuses(ann: RefusingSite, site: RefusingSite) -> None:
    """Whether it comes alone or with others: those of other tenants are not held up by it."""
    await execute(
        site.url, "CREATE POLICY writing ON execution_logs FOR INSERT WITH CHECK (task_id LIKE 'ours-%')"
    )
    ours = [encoded(task_id="ours-1", message=str(number)) for number in range(5)]
    with pytest.raises(BatchHeldError):
        await ann.write(ours[0], encoded(task_id="theirs"), *ours[1:])
    alone = encoded(task_id="theirs", message="alone")
    with pytest.raises(BatchHeldError):
        await ann.write(alone, batch_id="c")
    ann.clock.now += 11
    assert await ann.write(alone, batch_id="c") == WriteResult(dead_lettered=1)
    assert await site.messages() == list("01234")
    assert "row-level security" in (await site.dead())[0]["reason"]


ONLY_OURS = "IF NEW.task_id NOT LIKE 'ours-%' THEN RAISE 'not ours'; END IF;"


async def test_a_writer_that_begins_with_what_is_refused(site: RefusingSite) -> None:
    """The rows tell it what would be taken: it is no table that refuses everything."""
    await add_trigger(site, ONLY_OURS)
    assert await site.write(encoded(task_id="ours-1"), batch_id="a") == WriteResult(stored=1)
    async with RefusingSite(site.url) as restarted:
        assert await restarted.write(encoded(task_id="theirs")) == WriteResult(dead_lettered=1)


async def test_an_entry_that_is_there_in_another_row(site: RefusingSite) -> None:
    """That is no reason against others: it is a dead letter."""
    await execute(site.url, "ALTER TABLE execution_logs ADD UNIQUE (task_id, message)")
    assert await site.write(encoded(), batch_id="a") == WriteResult(stored=1)
    assert await site.write(encoded()) == WriteResult(dead_lettered=1)


@pytest.mark.parametrize("sqlstate", ["08001", "53400", "58P01"])
async def test_a_trigger_that_asks_another_server_which_is_away(site: RefusingSite, sqlstate: str) -> None:
    """This one is not: entries that need no other are stored; those that do wait for it, for five minutes."""
    await add_trigger(
        site, f"IF NEW.message = 'bad' THEN RAISE 'no peer' USING ERRCODE = '{sqlstate}'; END IF;"
    )
    entries = [encoded(message="1"), encoded(message="bad"), encoded(message="2")]
    for _ in range(3):
        with pytest.raises(BatchHeldError, match="1 entries are refused and tried again: no peer"):
            await site.write(*entries)
        assert await site.messages() == ["1", "2"]
        site.clock.now += 90
    site.clock.now += 90
    assert await site.write(*entries) == WriteResult(duplicates=2, dead_lettered=1)


async def test_a_trigger_that_always_fails_like_a_server_that_is_away(site: RefusingSite) -> None:
    """Nothing is stored, so it is an outage; and nothing of what was tried is left."""
    await add_trigger(site, "RAISE 'no peer' USING ERRCODE = '08001';")
    with pytest.raises(StoreUnavailableError, match="no peer") as away:
        await site.write(encoded(), encoded())
    assert not isinstance(away.value, BatchHeldError)
    assert (await site.rows(), await site.dead()) == ([], [])


async def check_is_held(site: RefusingSite, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """Nothing is a dead letter, however long it lasts, and it is said once."""
    for number in range(6):
        with pytest.raises(TableRefusesError, match=reason):
            await site.write(encoded(), encoded(level="error"), batch_id=str(number % 3))
        site.clock.now += 400
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert reason in errors[0]
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


async def found_by_the_doctor(site: PostgresqlSite) -> list[Finding]:
    """What is not all right in the database."""
    found = await asyncio.to_thread(lambda: list(examine_database(Subject(site.settings, {}, time.time))))
    return [each for each in found if each.level is not Level.OK]


REFUSING = {
    "a trigger that quotes the entry": (
        (
            "CREATE FUNCTION hosts() RETURNS trigger LANGUAGE plpgsql "
            "AS $$ BEGIN RAISE 'entry % is unknown', NEW.id; END $$; "
            "CREATE TRIGGER hosts BEFORE INSERT ON execution_logs FOR EACH ROW EXECUTE FUNCTION hosts()"
        ),
        "is unknown",
        "DROP TRIGGER hosts ON execution_logs",
    ),
    "a check on the levels": (
        "ALTER TABLE execution_logs ADD CONSTRAINT capitals CHECK (level IN ('INFO', 'ERROR'))",
        "capitals",
        "ALTER TABLE execution_logs DROP CONSTRAINT capitals",
    ),
    "a trigger": (
        (
            "CREATE FUNCTION hosts() RETURNS trigger LANGUAGE plpgsql "
            "AS $$ BEGIN NEW.nothing = 1; RETURN NEW; END $$; "
            "CREATE TRIGGER hosts BEFORE INSERT ON execution_logs FOR EACH ROW EXECUTE FUNCTION hosts()"
        ),
        'record "new" has no field "nothing"',
        "DROP TRIGGER hosts ON execution_logs",
    ),
    "a trigger at the end of the transaction": (
        (
            "CREATE FUNCTION hosts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$; "
            "CREATE CONSTRAINT TRIGGER hosts AFTER INSERT ON execution_logs DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION hosts()"
        ),
        "not today",
        "DROP TRIGGER hosts ON execution_logs",
    ),
}


@pytest.mark.parametrize("what", REFUSING)
async def test_a_table_that_refuses_everything(
    site: RefusingSite, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the table that is to be put right, as the doctor says: the entries wait, and are rows then."""
    change, reason, remedy = REFUSING[what]
    assert await found_by_the_doctor(site) == []
    await execute(site.url, change)
    await check_is_held(site, caplog, reason)
    (finding,) = await found_by_the_doctor(site)
    assert (finding.name, finding.level) == ("database.insert", Level.ERROR)
    assert reason in finding.what
    assert finding.advice
    assert (await site.rows(), await site.dead()) == ([], [])
    await execute(site.url, remedy)
    assert await found_by_the_doctor(site) == []
    assert await site.write(encoded(), batch_id="0") == WriteResult(stored=1)


async def test_causes_that_alternate(site: RefusingSite, caplog: pytest.LogCaptureFixture) -> None:
    """Each is said once."""
    for number in range(6):
        name = f"cause_{number % 2}"
        await execute(
            site.url, f"ALTER TABLE execution_logs ADD CONSTRAINT {name} CHECK (level = 'INFO') NOT VALID"
        )
        with pytest.raises(TableRefusesError, match=name):
            await site.write(encoded())
        await execute(site.url, f"ALTER TABLE execution_logs DROP CONSTRAINT {name}")
        site.clock.now += 100
    assert len(caplog.records) == 2


async def test_rights_and_policies_that_are_missing(
    ann: RefusingSite, site: RefusingSite, caplog: pytest.LogCaptureFixture
) -> None:
    """No policy lets anything in; or the right to insert was taken away."""
    await check_is_held(ann, caplog, "row-level security")
    await execute(site.url, "REVOKE INSERT ON execution_logs FROM ann")
    with pytest.raises(TableRefusesError, match="permission denied"):
        await ann.write(encoded())
    assert await site.dead() == []


async def test_a_table_that_began_to_refuse_everything(site: RefusingSite) -> None:
    """The last entry that it has taken would be refused now, too."""
    assert await site.write(encoded(level="error", task_id="r")) == WriteResult(stored=1)
    await execute(
        site.url, "ALTER TABLE execution_logs ADD CONSTRAINT full_ CHECK (level <> 'error') NOT VALID"
    )
    with pytest.raises(TableRefusesError, match="full_"):
        await site.write(encoded(level="error"), batch_id="c")
    assert await site.write(encoded(), batch_id="d") == WriteResult(stored=1)
    # Others pass, so it is to blame.
    assert await site.write(encoded(level="error"), batch_id="c") == WriteResult(dead_lettered=1)


_LAST_PIECE = 4
"""Of eight entries the second half is stored at last."""


class ChangedMeanwhile:
    """Stores as the writer does, and changes the table before some of the pieces."""

    def __init__(self, site: RefusingSite, statements: dict[int, str], after_last: str = "") -> None:
        self._store = site.writer._bisection._store
        self._url = site.url
        self._statements = statements
        self._after_last = after_last
        self._pieces = 0

    async def __call__(self, connection: Any, table: Any, piece: Any) -> int:
        """As the function in its place."""
        self._pieces += 1
        if statement := self._statements.get(self._pieces):
            await execute(self._url, statement)
        stored: int = await self._store(connection, table, piece)
        if self._after_last and len(piece) == _LAST_PIECE:
            await execute(self._url, self._after_last)
        return stored


REMOVE = "ALTER TABLE execution_logs DROP CONSTRAINT refuses"
REFUSE_ALL = "ALTER TABLE execution_logs ADD CONSTRAINT refuses CHECK (level = 'INFO') NOT VALID"
REFUSE_BAD = "ALTER TABLE execution_logs ADD CONSTRAINT bad CHECK (message <> 'bad')"


@pytest.mark.parametrize("before", [5, 8, 11, 14])
async def test_a_cause_that_ends_in_the_middle_of_a_batch(site: RefusingSite, before: int) -> None:
    """What was refused before that is no dead letter."""
    await execute(site.url, REFUSE_ALL)
    entries = [encoded(message=str(number)) for number in range(8)]
    site.writer._bisection._store = ChangedMeanwhile(site, {before: REMOVE})
    with pytest.raises(BatchHeldError):
        await site.write(*entries)
    assert await site.dead() == []
    result = await site.write(*entries)
    assert result.stored + result.duplicates == len(entries)


@pytest.mark.parametrize("before", [3, 5, 7])
async def test_a_cause_that_begins_in_the_middle_of_a_batch(site: RefusingSite, before: int) -> None:
    """What is refused after that waits, beside one entry that is to blame itself."""
    await execute(site.url, REFUSE_BAD)
    entries = [encoded(message=message) for message in ("bad", *"1234567")]
    site.writer._bisection._store = ChangedMeanwhile(site, {before: REFUSE_ALL})
    with pytest.raises(TableRefusesError, match="refuses"):
        await site.write(*entries)
    assert await site.dead() == []
    await execute(site.url, REMOVE)
    result = await site.write(*entries)
    assert (result.stored + result.duplicates, result.dead_lettered) == (7, 1)
    assert len(await site.dead()) == 1


async def test_a_cause_that_follows_another_in_the_middle_of_a_batch(site: RefusingSite) -> None:
    """The first one is gone, and the second one is no reason for what was refused before it."""
    await execute(site.url, REFUSE_ALL)
    entries = [encoded(message=str(number)) for number in range(8)]
    other = REFUSE_ALL.replace("refuses", "another")
    site.writer._bisection._store = ChangedMeanwhile(site, {6: REMOVE}, after_last=other)
    with pytest.raises(BatchHeldError):
        await site.write(*entries)
    assert await site.dead() == []
    await execute(site.url, REMOVE.replace("refuses", "another"))
    result = await site.write(*entries)
    assert result.stored + result.duplicates == len(entries)


@pytest.fixture
def new_zone() -> Iterator[str]:
    """A time zone that only Python knows."""
    with zone_of_python_alone() as zone:
        yield zone


async def test_a_time_zone_that_the_server_does_not_know(
    database_url: str, new_zone: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Entries wait until the setting or the server is changed."""
    await execute(
        database_url,
        "ALTER TABLE execution_logs DROP CONSTRAINT created_at_is_readable; "
        "ALTER TABLE execution_logs ALTER COLUMN created_at TYPE timestamp",
    )
    async with RefusingSite(database_url, time_zone=new_zone) as site:
        await check_is_held(site, caplog, 'time zone "New/Zone" not recognized')
        assert await site.dead() == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_CN"])
async def test_a_database_of_another_encoding(postgres_server: PostgresServer, encoding: str) -> None:
    """What it cannot hold is a dead letter, escaped if need be, and all others are rows; the doctor warns."""
    name = f"encoded_{encoding.lower()}"
    await asyncio.to_thread(
        postgres_server.execute,
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    url = postgres_server.url(name)
    await asyncio.to_thread(upgrade_database, url)
    texts = ["plain", "学", "é", "😀"]
    async with RefusingSite(url) as site:
        (finding,) = await found_by_the_doctor(site)
        assert (finding.name, finding.level) == ("database.encoding", Level.WARNING)
        assert f"encoding is {encoding}:" in finding.what
        assert "UTF8" in finding.advice
        result = await site.write(*(encoded_as_it_is(text) for text in texts))
        rows = [row["message"] for row in await site.rows()]
        dead = [json.loads(row["entry"])["message"] for row in await site.dead()]
        assert result == WriteResult(stored=len(rows), dead_lettered=len(dead))
        assert rows[0] == "plain"
        assert sorted(rows + dead) == sorted(texts)
        assert len(rows) == {"LATIN1": 2, "SQL_ASCII": 4, "EUC_CN": 3}[encoding]


def encoded_as_it_is(message: str) -> str:
    """An entry as the library encodes it, which is not in ASCII."""
    return json.dumps(json.loads(encoded(message=message)), ensure_ascii=False)


async def test_a_place_for_dead_letters_that_refuses_them(site: RefusingSite) -> None:
    """At last the entry's fingerprint is kept, and the reason."""
    await execute(
        site.url, "ALTER TABLE execution_log_dead_letters ADD CONSTRAINT short CHECK (length(entry) < 100)"
    )
    assert await site.write(encoded(), encoded(message=None)) == WriteResult(stored=1, dead_lettered=1)
    (letter,) = await site.dead()
    assert json.loads(letter["entry"]).keys() == {"sha256", "characters"}
    assert "null value" in letter["reason"]


NO_PLACE = {
    "a table that is missing": "DROP TABLE execution_log_dead_letters",
    "a check": "ALTER TABLE execution_log_dead_letters ADD CONSTRAINT nothing CHECK (false) NOT VALID",
}


@pytest.mark.parametrize("what", NO_PLACE)
async def test_no_place_for_dead_letters(
    site: RefusingSite, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that has one waits, which is said once; its other entries and other batches are stored."""
    bad = encoded(message=None)
    await execute(site.url, NO_PLACE[what])
    for number in range(3):
        with pytest.raises(BatchHeldError, match="dead letters cannot be kept"):
            await site.write(encoded(message="1"), bad, batch_id=f"b{number}")
        with pytest.raises(BatchHeldError, match="dead letters cannot be kept"):
            await site.writer.write("no batch", "{}")
        site.clock.now += 400
    assert await site.write(encoded(message="2"), batch_id="c") == WriteResult(stored=1)
    assert await site.messages() == ["1", "1", "1", "2"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    await execute(site.url, "DROP TABLE IF EXISTS execution_log_dead_letters")
    await asyncio.to_thread(upgrade_database, site.url)
    assert await site.write(bad) == WriteResult(dead_lettered=1)


ADD_RUNS = (
    "CREATE TABLE runs (id text PRIMARY KEY); INSERT INTO runs VALUES ('early'); "
    "ALTER TABLE execution_logs ADD FOREIGN KEY (task_id) REFERENCES runs"
)
"""The host has a table of runs, to which each entry must belong."""


async def test_a_run_that_is_committed_later(site: RefusingSite) -> None:
    """Its entries overtook it, and wait for it; those of other runs do not."""
    await execute(site.url, ADD_RUNS)
    late, entries = encoded(task_id="late"), [encoded(task_id="early") for _ in range(3)]
    for _ in range(3):
        with pytest.raises(BatchHeldError, match="foreign key"):
            await site.write(*entries, late)
        assert len(await site.rows()) == 3
        site.clock.now += 90
    await execute(site.url, "INSERT INTO runs VALUES ('late')")
    assert await site.write(*entries, late) == WriteResult(stored=1, duplicates=3)
    assert await site.dead() == []


async def test_a_run_that_is_never_committed(site: RefusingSite) -> None:
    """After five minutes its entries are dead letters, and rows with the first retry after it came."""
    await execute(site.url, ADD_RUNS)
    late = [encoded(task_id="late") for _ in range(7)]
    with pytest.raises(BatchHeldError, match="foreign key"):
        await site.write(*late)
    site.clock.now += 301
    assert await site.write(*late) == WriteResult(dead_lettered=7)
    async with site.engine.connect() as connection:
        letters = await DeadLetters(site.settings).list(connection)
    assert len(await retry(site.engine, site.settings, letters)) == 7
    await execute(site.url, "INSERT INTO runs VALUES ('late')")
    assert await retry(site.engine, site.settings, letters) == {}
    assert (len(await site.rows()), await site.dead()) == (7, [])
    assert (await site.rows("SELECT dead_lettered FROM execution_log_batches"))[0]["dead_lettered"] == 0


async def test_a_month_without_partition(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """When the whole batch is of that month, it waits for the partition; other months go on."""
    await execute(
        postgres_url,
        """
        CREATE TABLE execution_logs (
            id UUID, task_id TEXT NOT NULL, level TEXT NOT NULL, category TEXT NOT NULL,
            message TEXT NOT NULL, details JSONB, created_at TIMESTAMPTZ NOT NULL,
            PRIMARY KEY (created_at, id)
        ) PARTITION BY RANGE (created_at);
        CREATE TABLE others PARTITION OF execution_logs FOR VALUES FROM ('2026-11-01') TO ('2026-12-01')
        """,
    )
    await asyncio.to_thread(upgrade_database, postgres_url)
    async with RefusingSite(postgres_url) as site:
        january = [encoded(created_at="2027-01-15T10:00:00Z") for _ in range(2)]
        for _ in range(3):
            with pytest.raises(BatchHeldError, match="no partition"):
                await site.write(*january)
            assert await site.write(encoded(), batch_id="c") == WriteResult(stored=1)
            site.clock.now += 400
        assert len([record for record in caplog.records if "no partition" in record.getMessage()]) == 1
        await execute(
            postgres_url,
            "CREATE TABLE january PARTITION OF execution_logs "
            "FOR VALUES FROM ('2027-01-01') TO ('2027-02-01')",
        )
        assert await site.write(*january) == WriteResult(stored=2)
        assert await site.dead() == []


async def test_a_check_on_a_table_with_partitions(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the same one in each of them: entries of other times are refused for it as well, and wait."""
    await execute(
        postgres_url,
        """
        CREATE TABLE execution_logs (
            id UUID, task_id TEXT NOT NULL, level TEXT CHECK (level IN ('INFO')), category TEXT NOT NULL,
            message TEXT NOT NULL, details JSONB, created_at TIMESTAMPTZ, PRIMARY KEY (created_at, id)
        ) PARTITION BY RANGE (created_at);
        CREATE TABLE old PARTITION OF execution_logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
        CREATE TABLE others PARTITION OF execution_logs DEFAULT
        """,
    )
    await asyncio.to_thread(upgrade_database, postgres_url)
    async with RefusingSite(postgres_url) as site:
        with pytest.raises(TableRefusesError, match="execution_logs_level_check"):
            await site.write(encoded(created_at="2020-05-01T00:00:00Z"))
        assert await site.dead() == []


@asynccontextmanager
async def hurried(url: str) -> AsyncIterator[PostgresqlSite]:
    """A site that gives a statement less than two seconds."""
    async with PostgresqlSite(url, database_timeout_seconds=2.0) as site:
        yield site


async def write_to_the_end(site: PostgresqlSite, entries: list[str], most_passes: int) -> WriteResult:
    """Write a batch again and again, until it is not held any more."""
    for _ in range(most_passes):
        try:
            return await site.write(*entries)
        except StoreUnavailableError:  # held; or our patience was shorter than the server's
            pass
    raise AssertionError("it takes too many passes")


async def test_a_batch_that_takes_longer_than_it_may(database_url: str) -> None:
    """It is stored in smaller and smaller pieces, each of which is kept; the next batch begins with those."""
    async with hurried(database_url) as site:
        await add_trigger(site, "PERFORM pg_sleep(0.2);")
        entries = [encoded() for _ in range(24)]
        with pytest.raises(StoreUnavailableError, match=r"24 entries took|no answer"):
            await site.write(*entries)
        await write_to_the_end(site, entries, 40)
        assert len(await site.rows()) == 24
        others = [encoded() for _ in range(12)]
        await write_to_the_end(site, others, 40)
        assert len(await site.rows()) == 36
        assert await site.dead() == []
        await execute(site.url, "DROP TRIGGER hosts ON execution_logs")
        # A machine that is slow for a moment may halve it once more.
        for _ in range(40):
            await write_to_the_end(site, [encoded() for _ in range(32)], 40)
            if site.writer._pace.most is None or site.writer._pace.most >= 32:
                break
        else:
            pytest.fail("statements stay small although they are quick")


async def test_one_entry_that_is_slow_alone(database_url: str) -> None:
    """It is no dead letter for that; the others of its batch are stored, and those of other batches."""
    async with hurried(database_url) as site:
        await add_trigger(site, "IF NEW.message = 'slow' THEN PERFORM pg_sleep(30); END IF;")
        entries = [encoded(message=str(number)) for number in range(4)]
        slow = [*entries[:2], encoded(message="slow"), *entries[2:]]
        # On a machine that is slow for a moment, others may need another pass.
        for _ in range(40):
            with pytest.raises(StoreUnavailableError):
                await site.write(*slow)
            if len(await site.rows()) == 4:
                break
        else:
            pytest.fail("the others wait for the slow one")
        with pytest.raises(StoreUnavailableError):
            await site.write(*slow)
        assert await site.write(encoded(), batch_id="c") == WriteResult(stored=1)
        await execute(site.url, "DROP TRIGGER hosts ON execution_logs")
        assert (await site.write(*slow)).stored == 1
        assert await site.dead() == []


async def test_letters_that_are_slow(database_url: str) -> None:
    """They are stored in smaller pieces, too."""
    async with hurried(database_url) as site:
        await site.writer.refuse("b", batch(*(encoded() for _ in range(24))), "by hand")
        await add_trigger(site, "PERFORM pg_sleep(0.2);")
        for _ in range(40):  # on a machine that is slow for a moment our patience may be the shorter one
            async with site.engine.connect() as connection:
                letters = await DeadLetters(site.settings).list(connection)
            with suppress(StoreUnavailableError):
                await retry(site.engine, site.settings, letters)
                break
        assert (len(await site.rows()), await site.dead()) == (24, [])


def test_a_host_that_begins_with_what_is_refused(database_url: str) -> None:
    """Before there is any row nobody knows whether it is the table; those behind it tell."""
    clock = Clock()
    site = PostgresqlSite(database_url)
    asyncio.run(add_trigger(site, ONLY_OURS))
    delivery = DatabaseDelivery(site.settings, clock)
    try:
        theirs = Batch((encoded(task_id="theirs").encode(),))
        assert delivery.deliver(theirs).guarantee is Guarantee.AWAITED
        assert delivery.deliver(Batch((encoded(task_id="ours-1").encode(),))).guarantee is Guarantee.STORED
        clock.now += 6
        outcome = delivery.collect([theirs.id])[theirs.id]
        assert (outcome.is_stored, outcome.dead_lettered) == (True, 1)
    finally:
        delivery.close()


def test_a_host_that_writes_by_itself(database_url: str) -> None:
    """Behind a batch that must wait the others are written; it is tried again while they are."""
    clock = Clock()
    asyncio.run(execute(database_url, ADD_RUNS))
    site = PostgresqlSite(database_url)
    delivery = DatabaseDelivery(site.settings, clock)
    try:
        late = Batch((encoded(task_id="late").encode(),))
        receipt = delivery.deliver(late)
        assert receipt.guarantee is Guarantee.AWAITED
        assert delivery.look_at_queue().waiting == 1
        assert delivery.deliver(Batch((encoded(task_id="early").encode(),))).guarantee is Guarantee.STORED
        assert not delivery.collect([late.id])[late.id].is_stored
        clock.now += 6
        asyncio.run(execute(database_url, "INSERT INTO runs VALUES ('late')"))
        assert delivery.collect([late.id])[late.id].is_stored
        assert delivery.collect([late.id]) == {}
    finally:
        delivery.close()
