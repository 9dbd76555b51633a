"""Keys and triggers of a host's table: what is accepted is read back, once, and the rest is refused."""

import asyncio

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from batches import encoded, fields
from detailed import HOSTS, NO_JSON, check_readers_agree, encoded_entries
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.follow import Follower
from execution_logger.read.runs import recent_runs
from execution_logger.read.statistics import count_hour
from execution_logger.read.timeline import Timeline
from execution_logger.store import ExecutionLogRepository, WriteResult
from execution_logger.store.dead_letters import DeadLetters, retry
from execution_logger.store.table import forget_tables, look_up_table
from postgresql_site import PostgresqlSite
from rows import upgrade_database
from selections import check_selections

COLUMNS = (
    "task_id TEXT NOT NULL, level TEXT NOT NULL, category TEXT NOT NULL, message TEXT NOT NULL, "
    "details JSONB, created_at TIMESTAMPTZ NOT NULL"
)
TABLE = f"CREATE TABLE execution_logs (id UUID PRIMARY KEY, {COLUMNS}); "
KEYLESS = f"CREATE TABLE execution_logs (id UUID NOT NULL, {COLUMNS}); "
ROUTE = "CREATE FUNCTION route() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$; "
CHILD = "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (execution_logs); "
BEFORE = "CREATE TRIGGER route BEFORE INSERT ON execution_logs FOR EACH ROW EXECUTE FUNCTION route();"

ACCEPTED = {
    "a key with a column that is never NULL": f"CREATE TABLE execution_logs "
    f"(id UUID, step TEXT NOT NULL, {COLUMNS}, UNIQUE (id, step))",
    "two keys, one of them partial": (
        KEYLESS + "CREATE UNIQUE INDEX a ON execution_logs (id) WHERE level = 'error'; "
        "CREATE UNIQUE INDEX b ON execution_logs (id) INCLUDE (task_id)"
    ),
    "domains": (
        "CREATE DOMAIN name AS VARCHAR(5) NOT NULL; CREATE DOMAIN key AS UUID; "
        "CREATE DOMAIN moment AS timestamptz; "
        "CREATE TABLE execution_logs (id key PRIMARY KEY, task_id TEXT NOT NULL, level TEXT NOT NULL, "
        "category TEXT NOT NULL, message TEXT NOT NULL, step name, details JSONB, created_at moment NOT NULL)"
    ),
    "generated columns": (
        f"CREATE TABLE execution_logs (id UUID PRIMARY KEY, {COLUMNS}, day DATE NOT NULL GENERATED ALWAYS AS "
        "(CAST(created_at AT TIME ZONE 'UTC' AS date)) STORED, "
        "duration_ms INTEGER GENERATED ALWAYS AS (length(message)) STORED)"
    ),
    "details that are a text": TABLE.replace("JSONB", "TEXT"),
    "details that are plain JSON": TABLE.replace("JSONB", "JSON"),
    "a table that inherits": (
        f"CREATE TABLE parent (id UUID PRIMARY KEY, {COLUMNS}); "
        "CREATE TABLE execution_logs (PRIMARY KEY (id)) INHERITS (parent)"
    ),
    "a trigger that changes a value": (
        TABLE + ROUTE.format(body="NEW.category = upper(NEW.category); RETURN NEW;") + BEFORE
    ),
    "a trigger that fills a child": (
        TABLE
        + CHILD
        + ROUTE.format(body="INSERT INTO child SELECT NEW.* ON CONFLICT DO NOTHING; RETURN NULL;")
        + BEFORE
    ),
    "a trigger that fills a child, and knows no conflicts": (
        TABLE + CHILD + ROUTE.format(body="INSERT INTO child SELECT NEW.*; RETURN NULL;") + BEFORE
    ),
    "a trigger that fills a child with errors": (
        TABLE
        + CHILD
        + ROUTE.format(body="INSERT INTO child SELECT NEW.*; RETURN NULL;")
        + BEFORE.replace("EXECUTE", "WHEN (NEW.level = 'error') EXECUTE")
    ),
    "a trigger after it": (
        TABLE
        + ROUTE.format(body="PERFORM pg_notify('entries', CAST(NEW.id AS text)); RETURN NULL;")
        + BEFORE.replace("BEFORE", "AFTER")
    ),
}

REFUSED = {
    "a key with NULLs": (
        f"CREATE TABLE execution_logs (id UUID, step TEXT, {COLUMNS}, UNIQUE (id, step))",
        "never NULL",
    ),
    "a partial key": (
        KEYLESS + "CREATE UNIQUE INDEX a ON execution_logs (id) WHERE level = 'error'",
        "never NULL, and neither partial",
    ),
    "a deferrable key": (
        f"CREATE TABLE execution_logs (id UUID PRIMARY KEY DEFERRABLE, {COLUMNS})",
        "nor deferrable",
    ),
    "a key of an expression": (
        KEYLESS + "CREATE UNIQUE INDEX a ON execution_logs (id, lower(task_id))",
        "recognises an entry",
    ),
    "a key that is its parent's only": (
        (
            f"CREATE TABLE parent (id UUID PRIMARY KEY, {COLUMNS}); "
            "CREATE TABLE execution_logs () INHERITS (parent)"
        ),
        "recognises an entry",
    ),
    "a rule": (
        TABLE + "CREATE RULE away AS ON INSERT TO execution_logs DO INSTEAD NOTHING",
        'rule "away" allows no ON CONFLICT',
    ),
    "a view": (
        TABLE.replace("execution_logs", "real")
        + "CREATE VIEW execution_logs AS SELECT * FROM real; "
        + ROUTE.format(body="INSERT INTO real SELECT NEW.*; RETURN NEW;")
        + BEFORE.replace("BEFORE", "INSTEAD OF"),
        "instead of a view, name its table",
    ),
    "a level that is generated": (
        TABLE.replace("level TEXT NOT NULL", "level TEXT GENERATED ALWAYS AS ('info') STORED"),
        'column "level" is generated',
    ),
    "a trigger that drops rows": (
        TABLE + ROUTE.format(body="RETURN NULL;") + BEFORE,
        "the trigger route takes entries elsewhere, or stores them twice: let that leave one row of each",
    ),
    "a trigger that fills a child without key": (
        TABLE
        + "CREATE TABLE child () INHERITS (execution_logs); "
        + ROUTE.format(body="INSERT INTO child SELECT NEW.*; RETURN NULL;")
        + BEFORE,
        "the trigger route takes entries elsewhere, or stores them twice: let that leave one row of each",
    ),
}


AWAY = "CREATE TABLE away (LIKE execution_logs); "
MOVE = AWAY + ROUTE.format(
    body="INSERT INTO away SELECT NEW.*; DELETE FROM execution_logs WHERE id = NEW.id; RETURN NULL;"
)
PARTITIONED = TABLE.replace("UUID PRIMARY KEY", "UUID").replace(
    "); ",
    ", PRIMARY KEY (id, level)) PARTITION BY LIST (level); "
    "CREATE TABLE usual PARTITION OF execution_logs DEFAULT; "
    "CREATE TABLE errors PARTITION OF execution_logs FOR VALUES IN ('error'); ",
)
MOVED = {
    "before it": TABLE + AWAY + ROUTE.format(body="INSERT INTO away SELECT NEW.*; RETURN NULL;")
    + BEFORE.replace("EXECUTE", "WHEN (NEW.level = 'error') EXECUTE"),
    "after it": TABLE + MOVE
    + BEFORE.replace("BEFORE", "AFTER").replace("EXECUTE", "WHEN (NEW.level = 'error') EXECUTE"),
    "after the statement": TABLE
    + ROUTE.format(body="DELETE FROM execution_logs WHERE level = 'error'; RETURN NULL;") + AWAY
    + BEFORE.replace("BEFORE", "AFTER").replace("EACH ROW", "EACH STATEMENT"),
    "after it, on a partition": PARTITIONED + MOVE
    + BEFORE.replace("BEFORE", "AFTER").replace("ON execution_logs", "ON errors"),
    "before it, on a partition": PARTITIONED + AWAY + ROUTE.format(body="RETURN NULL;")
    + BEFORE.replace("ON execution_logs", "ON errors"),
}  # fmt: skip


async def prepare(url: str, script: str) -> None:
    """Make the host's table, and the library's others."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()
    await asyncio.to_thread(upgrade_database, url)


@pytest.mark.parametrize("what", ACCEPTED)
async def test_what_is_accepted_is_read_back_once(postgres_url: str, what: str) -> None:
    """However often it comes, and by every reader."""
    await prepare(postgres_url, ACCEPTED[what])
    async with PostgresqlSite(postgres_url) as site:
        entries = [fields(step="a step", details={"k": 1}, duration_ms=7), fields(level="error")]
        follower = Follower(site.engine, site.settings, "t")
        await follower.begin()
        for _ in range(3):
            result = await site.write(*map(encoded, entries))
            assert result.dead_lettered == 0
        assert len(await site.rows()) == 2
        latest = await Timeline(site.engine, site.settings, "t").last(10)
        assert [entry.id for entry in latest] == [entry["id"] for entry in entries]
        assert [entry.duration_ms for entry in latest] == [7, None]
        assert (await follower.news(), await follower.late(), await follower.news()) == (latest, [], [])
        (run,) = (await recent_runs(site.engine, site.settings, limit=10)).runs
        assert (run.task_id, run.entries, run.errors, run.ended_in_error) == ("t", 2, 1, True)
        async with AsyncSession(site.engine) as session:
            repository = ExecutionLogRepository(session, site.settings)
            assert await repository.list_by_trace("t") == latest[::-1]
            assert await repository.get_error_logs("t") == latest[1:]
            summary = await repository.get_logs_summary("t")
            assert (summary["total_logs"], summary["level_stats"]) == (2, {"info": 1, "error": 1})
            assert summary["total_duration_ms"] == 7
            table = await look_up_table(await session.connection(), site.settings)
            hour = latest[0].created_at.replace(minute=0, second=0, microsecond=0)
            statistics = await count_hour(await session.connection(), table, hour)
            assert [(each.name, each.p50_ms) for each in statistics if each.timed] == [(latest[0].step, 7)]


@pytest.mark.parametrize("kind", ["TEXT", "JSON", "JSONB"])
async def test_fields_in_details_are_the_same_for_every_reader(postgres_url: str, kind: str) -> None:
    """Also beside keys of the caller's own, and beside what only the host can have stored."""
    await prepare(postgres_url, TABLE.replace("JSONB", kind))
    hosts = HOSTS if kind != "TEXT" else HOSTS | NO_JSON
    async with PostgresqlSite(postgres_url) as site:
        await site.write(*encoded_entries())
        connection = await asyncpg.connect(postgres_url)
        update = f"UPDATE execution_logs SET details = CAST(CAST($2 AS text) AS {kind}) WHERE message = $1"
        await connection.executemany(update, list(hosts.items()))
        await connection.close()
        await check_readers_agree(site.engine, site.settings)


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_refused_says_what_to_do(postgres_url: str, what: str) -> None:
    """The entries wait, none is a dead letter, and none is anywhere else."""
    script, words = REFUSED[what]
    await prepare(postgres_url, script)
    async with PostgresqlSite(postgres_url) as site:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError) as refused:
                await site.write(encoded(), encoded())
            assert words in str(refused.value)
        assert (await site.rows(), await site.dead()) == ([], [])


@pytest.mark.parametrize("when", MOVED)
async def test_an_entry_that_a_trigger_takes_elsewhere_is_a_dead_letter(postgres_url: str, when: str) -> None:
    """It is in no other table and can be stored when the trigger lets it; entries beside it are rows."""
    await prepare(postgres_url, MOVED[when])
    async with PostgresqlSite(postgres_url) as site:
        entries = [encoded(), encoded(level="error"), encoded()]
        assert await site.write(*entries) == WriteResult(stored=2, dead_lettered=1)
        assert await site.write(*entries) == WriteResult(duplicates=2, dead_lettered=1)
        assert len(await site.rows()) == 2
        assert await site.rows("SELECT * FROM away") == []
        assert "the trigger route takes entries elsewhere" in (await site.dead())[0]["reason"]
        await site.rows(f"DROP TRIGGER route ON {'errors' if 'partition' in when else 'execution_logs'}")
        async with site.engine.connect() as connection:
            (letter,) = await DeadLetters(site.settings).list(connection)
        forget_tables(site.engine.pool)
        assert await retry(site.engine, site.settings, [letter]) == {}
        assert (len(await site.rows()), await site.dead()) == (3, [])


async def test_rows_are_never_twice_behind_a_trigger_that_refuses(postgres_url: str) -> None:
    """What cannot be tried beforehand is told by the batch itself."""
    script = (
        TABLE + ROUTE.format(body="IF NEW.message = 'probe' THEN RAISE 'no'; END IF; RETURN NEW;") + BEFORE
    )
    await prepare(postgres_url, script)
    async with PostgresqlSite(postgres_url) as site:
        entry = encoded()
        assert await site.write(entry) == WriteResult(stored=1)
        assert await site.write(entry) == WriteResult(duplicates=1)


@pytest.mark.parametrize(
    "table", ["", TABLE], ids=["the library's own", "a host's, without agents and steps"]
)
async def test_a_part_of_one_run_or_of_all(postgres_url: str, table: str) -> None:
    """As in SQLite, also by fields that the table has no column for."""
    async with PostgresqlSite(postgres_url) as site:
        if table:
            await site.rows(table)
        await asyncio.to_thread(upgrade_database, postgres_url)
        await check_selections(site)
