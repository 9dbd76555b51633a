"""PostgreSQL away in every way: an attempt ends in time, and the same writer stores the batch later."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import asyncpg
import pytest

from batches import batch, encoded
from execution_logger.errors import StoreUnavailableError
from execution_logger.store import WriteResult, engine
from postgresql_site import PostgresqlSite
from rows import fetch, upgrade_database
from servers import PostgresServer

TIMEOUT_SECONDS = 1.0
TOLERANCE_SECONDS = 0.5
TICK_SECONDS = 0.02
PATIENT_SECONDS = 30.0


class NotingSite(PostgresqlSite):
    """A site whose batches are noted in the ledger, as those of workers are."""

    async def write(self, *entries: str, batch_id: str = "b") -> WriteResult:
        """Write a batch of these."""
        return await self.writer.write(batch_id, batch(*entries), process="p", first=1)


@asynccontextmanager
async def opened(url: str, query: str = "") -> AsyncIterator[PostgresqlSite]:
    """A database with the library's tables; what its server answers always comes before our own timeout."""
    await asyncio.to_thread(upgrade_database, url)
    async with NotingSite(url, query, database_timeout_seconds=PATIENT_SECONDS) as site:
        yield site


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[PostgresqlSite]:
    """On a server that is not harmed."""
    async with NotingSite(database_url, database_timeout_seconds=PATIENT_SECONDS) as site:
        yield site


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Fail when the block takes longer than one hurried attempt may.

    By the loop's own clock, which a machine that is busy elsewhere slows as well.
    """
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1

    clock = asyncio.create_task(tick())
    try:
        yield
    finally:
        clock.cancel()
    assert ticks * TICK_SECONDS < TIMEOUT_SECONDS + TOLERANCE_SECONDS


@contextmanager
def hurried(site: PostgresqlSite) -> Iterator[None]:
    """Attempts within the block have a second: nothing answers, and that is what is to be seen."""
    patient = site.writer._settings
    site.writer._settings = replace(patient, database_timeout_seconds=TIMEOUT_SECONDS)
    try:
        yield
    finally:
        site.writer._settings = patient


@contextmanager
def raises_unavailable(words: str) -> Iterator[None]:
    """Writing fails with these words and without the password."""
    with pytest.raises(StoreUnavailableError, match=words) as away:
        yield
    assert "s3cret" not in str(away.value)


async def check_is_away(site: PostgresqlSite, words: str, entry: str) -> None:
    """The server says why nothing can be written."""
    with raises_unavailable(words):
        await site.write(entry)


async def check_hangs(site: PostgresqlSite, entry: str) -> None:
    """Nothing answers, and the attempt ends in time."""
    with hurried(site), raises_unavailable("no answer within 1 s"):
        async with in_time():
            await site.write(entry)


async def check_is_back(site: PostgresqlSite, entry: str, stored_before: int = 0) -> None:
    """The same writer stores what it could not store before, once."""
    result = await site.write(entry)
    assert result.stored + result.duplicates == 1
    assert len(await site.rows()) == stored_before + 1
    assert await site.dead() == []


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_server_that_is_down(own_postgres_server: PostgresServer, how: str) -> None:
    """Its connections are dead, and new ones are refused."""
    async with opened(own_postgres_server.url()) as site:
        entry = encoded()
        assert await site.write(entry) == WriteResult(stored=1)
        await asyncio.to_thread(own_postgres_server.stop if how == "stop" else own_postgres_server.kill)
        await check_is_away(site, "cannot be used now", entry)
        await check_is_away(site, "[Cc]onnect", entry)
        await asyncio.to_thread(own_postgres_server.start)
        await check_is_back(site, entry)


@pytest.mark.parametrize("query", ["", "?statement_cache_size=0"], ids=["directly", "as for PgBouncer"])
async def test_a_server_that_hangs(own_postgres_server: PostgresServer, query: str) -> None:
    """Connections stay open and nothing answers: not the old ones, not the new ones, not the farewell."""
    async with opened(own_postgres_server.url(), query) as site:
        entry = encoded()
        await asyncio.gather(*(site.write(entry) for _ in range(4)))
        own_postgres_server.pause()
        try:
            with hurried(site):
                async with in_time():
                    writes = (site.write(entry) for _ in range(10))
                    outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}
            await check_hangs(site, entry)
        finally:
            own_postgres_server.resume()
        await check_is_back(site, entry)
        own_postgres_server.pause()
        try:
            async with in_time():
                await site.engine.dispose()
        finally:
            own_postgres_server.resume()


@pytest.mark.parametrize("query", ["", "?statement_cache_size=0"], ids=["directly", "as for PgBouncer"])
async def test_a_server_that_begins_to_hang_in_the_middle_of_a_batch(
    own_postgres_server: PostgresServer, query: str
) -> None:
    """The statement was sent, and whether it was carried out is anybody's guess."""
    url = own_postgres_server.url()
    entry = encoded()
    async with opened(url, query) as site:
        await site.write(encoded())  # so that the next one has its second for the statement alone
        async with _locked(url) as unlock:
            with hurried(site):
                write = asyncio.create_task(site.write(entry))
                await _until_it_waits(write, url)
            own_postgres_server.pause()
            try:
                with raises_unavailable("no answer within"):
                    async with in_time():
                        await write
            finally:
                own_postgres_server.resume()
            await unlock()
            await check_is_back(site, entry, stored_before=1)


async def test_a_server_that_accepts_and_says_nothing() -> None:
    """A black hole on the way, or a proxy without anything behind it."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"postgresql://ann:s3cret@127.0.0.1:{hole.getsockname()[1]}/app"
        async with PostgresqlSite(url) as site:
            await check_hangs(site, encoded())


async def test_sessions_that_an_operator_ends(site: PostgresqlSite) -> None:
    """A fail-over or a restart ends all of them between two batches, which nobody notices."""
    await asyncio.gather(*(site.write(encoded()) for _ in range(4)))
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await site.rows(f"SELECT pg_terminate_backend(pid) {others}")
    while await site.rows(f"SELECT pid {others}"):
        pass
    results = await asyncio.gather(*(site.write(encoded()) for _ in range(4)))
    assert results == [WriteResult(stored=1)] * 4


async def test_a_session_that_ends_in_the_middle_of_a_batch(site: PostgresqlSite) -> None:
    """The batch is kept, and written again on another connection."""
    entry = encoded()
    async with _locked(site.url) as unlock:
        write = asyncio.create_task(site.write(entry))
        await _until_it_waits(write, site.url)
        await site.rows("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        with pytest.raises(StoreUnavailableError, match=r"terminating connection|connection was closed"):
            await write
        await unlock()
    await check_is_back(site, entry)


@pytest.fixture
def short_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server gives up a statement after 2 s, long before we do."""
    monkeypatch.setattr(engine, "_SERVER_SHARE_OF_TIMEOUT", 2 / PATIENT_SECONDS)


async def test_a_table_that_is_locked(short_statements: None, site: PostgresqlSite) -> None:
    """The server ends the waiting itself, so that no waiting session is left behind there."""
    entry = encoded()
    async with _locked(site.url) as unlock:
        for _ in range(2):
            await check_is_away(site, "statement timeout", entry)
        waiting = await site.rows("SELECT count(*) AS n FROM pg_locks WHERE NOT granted")
        assert waiting == [{"n": 0}]
        await unlock()
    await check_is_back(site, entry)


async def test_a_server_that_became_a_standby(site: PostgresqlSite) -> None:
    """Its sessions stay and are read-only: they are not used again, the next ones may lead elsewhere."""
    database = site.url.rpartition("/")[2]
    entry = encoded()
    await site.rows(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    await check_is_away(site, "read-only transaction", entry)
    admin = f"{site.url}?options=-c%20default_transaction_read_only%3Doff"
    await asyncio.to_thread(fetch, admin, f"ALTER DATABASE {database} RESET default_transaction_read_only")
    await check_is_back(site, entry)


async def test_a_table_that_is_missing(site: PostgresqlSite) -> None:
    """A migration that was forgotten, or is under way."""
    entry = encoded()
    assert await site.write(entry) == WriteResult(stored=1)
    await site.rows("ALTER TABLE execution_logs RENAME TO away")
    for _ in range(2):
        await check_is_away(site, "Run: execution-logger db upgrade", entry)
    await site.rows("ALTER TABLE away RENAME TO execution_logs")
    await check_is_back(site, entry)


async def test_a_column_that_changes_its_type(site: PostgresqlSite) -> None:
    """A host migrates while the worker runs: the statement is made anew."""
    entry = encoded()
    assert await site.write(entry) == WriteResult(stored=1)
    await site.rows("CREATE TYPE kind AS ENUM ('info', 'error')")
    await site.rows("ALTER TABLE execution_logs ALTER COLUMN level TYPE kind USING CAST(level AS kind)")
    await check_is_back(site, entry)


async def test_a_column_that_becomes_too_short(site: PostgresqlSite) -> None:
    """Texts are cut from then on; none becomes a dead letter."""
    assert await site.write(encoded(step="s" * 30)) == WriteResult(stored=1)
    await site.rows("TRUNCATE execution_logs")
    await site.rows("ALTER TABLE execution_logs ALTER COLUMN step TYPE varchar(20)")
    assert await site.write(encoded(step="s" * 30)) == WriteResult(stored=1)
    (row,) = await site.rows()
    assert (row["step"], row["details"]) == ("s" * 20, {"_changed": {"step": "s" * 30}})


@contextmanager
def as_user(site: PostgresqlSite, password: str = "s3cret") -> Iterator[str]:
    """The URL of a user who may do nothing yet, and is gone afterwards."""
    fetch(site.url, f"CREATE USER ann PASSWORD '{password}'")
    try:
        yield site.url.replace("postgres@", f"ann:{password}@")
    finally:
        fetch(site.url, "DROP OWNED BY ann")
        fetch(site.url, "DROP USER ann")


async def test_a_user_without_rights(site: PostgresqlSite) -> None:
    """It is for an administrator to put right, and then everything goes on."""
    entry = encoded()
    with as_user(site) as url:
        async with PostgresqlSite(url, database_timeout_seconds=PATIENT_SECONDS) as ann:
            await check_is_away(ann, "permission denied for table execution_logs", entry)
            await site.rows("GRANT SELECT, INSERT ON execution_logs TO ann")
            assert await ann.write(entry) == WriteResult(stored=1)
    await check_is_back(site, entry)


@pytest.mark.parametrize("rights", ["", "SELECT", "SELECT, INSERT"])
async def test_a_user_without_rights_on_the_ledger(
    site: PostgresqlSite, rights: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Entries are stored without it, and one warning names the table."""
    with as_user(site) as url:
        await site.rows("GRANT SELECT, INSERT ON execution_logs TO ann")
        if rights:
            await site.rows(f"GRANT {rights} ON execution_log_batches TO ann")
        async with PostgresqlSite(url, database_timeout_seconds=PATIENT_SECONDS) as ann:
            for number in range(3):
                result = await ann.writer.write(str(number), f"[{encoded()}]", process="p", first=1)
                assert result == WriteResult(stored=1)
    (message,) = caplog.messages
    assert 'permission denied for table "execution_log_batches"' in message
    assert await site.rows("SELECT * FROM execution_log_batches") == []


async def test_a_ledger_that_is_missing_or_locked(short_statements: None, site: PostgresqlSite) -> None:
    """Missing, it is done without. Locked, the batch waits as for the table of the entries."""
    entry = encoded()
    async with _locked(site.url, "execution_log_batches"):
        with raises_unavailable("statement timeout"):
            await site.writer.write("b", f"[{entry}]", process="p", first=1)
        assert await site.rows() == []
    await site.rows("DROP TABLE execution_log_batches")
    assert await site.writer.write("b", f"[{entry}]", process="p", first=1) == WriteResult(stored=1)


async def test_a_server_without_a_free_connection(site: PostgresqlSite) -> None:
    """Others have taken them all; they will give one back."""
    database = site.url.rpartition("/")[2]
    entry = encoded()
    with as_user(site) as url:
        await site.rows("GRANT SELECT, INSERT ON execution_logs TO ann")
        await site.rows(f"ALTER DATABASE {database} CONNECTION LIMIT 0")
        async with PostgresqlSite(url, database_timeout_seconds=PATIENT_SECONDS) as ann:
            await check_is_away(ann, "too many connections", entry)
            await site.rows(f"ALTER DATABASE {database} CONNECTION LIMIT -1")
            assert await ann.write(entry) == WriteResult(stored=1)
    await check_is_back(site, entry)


async def test_a_wrong_password(own_postgres_server: PostgresServer) -> None:
    """It was changed, and the worker not told yet; the error does not show it."""
    admin = own_postgres_server.url()
    entry = encoded()
    async with opened(admin) as site:
        await site.rows(
            "COPY (VALUES ('host all postgres all trust'), ('host all all all scram-sha-256')) "
            f"TO '{(await site.rows('SHOW hba_file'))[0]['hba_file']}'"
        )
        await site.rows("SELECT pg_reload_conf()")
        with as_user(site, "changed") as url:
            await site.rows("GRANT SELECT, INSERT ON execution_logs TO ann")
            wrong = url.replace("changed", "s3cret")
            async with PostgresqlSite(wrong, database_timeout_seconds=PATIENT_SECONDS) as ann:
                await check_is_away(ann, "password authentication failed", entry)
                await site.rows("ALTER USER ann PASSWORD 's3cret'")
                assert await ann.write(entry) == WriteResult(stored=1)
        await check_is_back(site, entry)


async def test_a_database_that_does_not_exist_yet(postgres_server: PostgresServer) -> None:
    """Containers start in any order."""
    async with PostgresqlSite(postgres_server.url("nowhere")) as site:
        await check_is_away(site, 'database "nowhere" does not exist', encoded())


@pytest.mark.parametrize(
    "sqlstate",
    ["08006", "25006", "40001", "40P01", "53100", "53200", "55006", "55P03", "57014", "57P01", "58030"],
)
async def test_an_error_that_passes_makes_no_dead_letter(site: PostgresqlSite, sqlstate: str) -> None:
    """Disk full, deadlock, serialisation and the like."""
    entry = encoded()
    await _raise_on_insert(site, sqlstate)
    await check_is_away(site, "refused", entry)
    await site.rows("DROP TRIGGER refuse ON execution_logs")
    await check_is_back(site, entry)


@pytest.mark.parametrize("sqlstate", ["21000", "22001", "22P02", "23514", "54000", "0A000", "44000", "P0001"])
async def test_an_error_in_the_data_makes_a_dead_letter(site: PostgresqlSite, sqlstate: str) -> None:
    """It would be the same for ever; the entries around it are stored."""
    await _raise_on_insert(site, sqlstate, condition="NEW.message = 'bad'")
    entries = [encoded(), encoded(message="bad"), encoded()]
    assert await site.write(*entries) == WriteResult(stored=2, dead_lettered=1)
    (letter,) = await site.dead()
    assert "refused" in letter["reason"]


async def _raise_on_insert(site: PostgresqlSite, sqlstate: str, condition: str = "true") -> None:
    await site.rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}'; END $$"
    )
    await site.rows(
        f"CREATE TRIGGER refuse BEFORE INSERT ON execution_logs FOR EACH ROW WHEN ({condition}) "
        "EXECUTE FUNCTION refuse()"
    )


@asynccontextmanager
async def _locked(url: str, table: str = "execution_logs") -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Lock the table, until what this yields is called."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    try:
        yield transaction.rollback
    finally:
        await connection.close()


async def _until_it_waits(write: asyncio.Task[WriteResult], url: str) -> None:
    """Until the table's lock is what it waits for, unless it has given up before that was seen."""
    while not write.done():
        if await asyncio.to_thread(fetch, url, "SELECT 1 FROM pg_locks WHERE NOT granted"):
            return
