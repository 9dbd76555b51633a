"""Making the tables: once, by anybody, and never over a table of the host's."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from batches import BAD, batch, encoded
from execution_logger.entry.entry import TREE
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.audit import audit
from execution_logger.store import WriteResult, overview, upgrade
from execution_logger.store.table import forget_tables
from execution_logger.worker.job_status import read_jobs
from execution_logger.worker.jobs import Runner
from execution_logger.worker.schedule import STATISTICS
from sqlite_site import SqliteSite

SCHEMA = "SELECT name, sql FROM sqlite_master ORDER BY name"


TABLES = (
    "execution_logs",
    "execution_log_dead_letters",
    "execution_log_batches",
    "execution_log_job_runs",
    "execution_log_statistics",
)
CREATED, THERE = "created", "is there already"


def reported(usual: str, **other: str) -> str:
    """The report that says this of each table, and something else of some."""
    return ", ".join(f"{table} {other.get(table, usual)}" for table in TABLES)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """An empty database."""
    async with SqliteSite(tmp_path / "logs.db") as site:
        yield site


async def test_the_tables_are_made_and_the_report_says_so(site: SqliteSite) -> None:
    """In one line, which an operator reads."""
    report = await upgrade(site.engine, site.settings)
    assert report == reported(CREATED)
    assert await site.write(encoded()) == WriteResult(stored=1)


async def test_a_second_upgrade_changes_nothing(site: SqliteSite) -> None:
    """It may be part of every start."""
    await upgrade(site.engine, site.settings)
    await site.write(encoded())
    before = site.rows(SCHEMA)
    report = await upgrade(site.engine, site.settings)
    assert report == reported(THERE)
    assert site.rows(SCHEMA) == before
    assert len(site.rows()) == 1


async def test_a_hosts_tables_are_left_alone(site: SqliteSite) -> None:
    """Its logs, its migrations' version, and its rows."""
    site.execute(
        "CREATE TABLE execution_logs (id CHAR(36) PRIMARY KEY); INSERT INTO execution_logs VALUES ('x');"
        "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('host')"
    )
    before = {row["name"]: row["sql"] for row in site.rows(SCHEMA)}
    report = await upgrade(site.engine, site.settings)
    assert report == reported(CREATED, execution_logs=THERE)
    after = {row["name"]: row["sql"] for row in site.rows(SCHEMA)}
    assert after.items() >= before.items()
    assert not [name for name in after if name.startswith("ix_execution_logs")]
    assert site.rows("SELECT * FROM alembic_version") == [{"version_num": "host"}]
    assert site.rows() == [{"id": "x"}]


async def test_dropped_tables_are_made_again(site: SqliteSite) -> None:
    """Although the version says that they were made once."""
    await upgrade(site.engine, site.settings)
    site.execute("DROP TABLE execution_logs")
    report = await upgrade(site.engine, site.settings)
    assert report == reported(THERE, execution_logs=CREATED)


@pytest.mark.parametrize(
    ("version", "lacking"),
    [
        ("0001", ("execution_log_batches", "execution_log_job_runs", "execution_log_statistics")),
        ("0002", ("execution_log_job_runs", "execution_log_statistics")),
    ],
)
async def test_an_older_installation_gets_what_it_lacks(
    site: SqliteSite, version: str, lacking: tuple[str, ...]
) -> None:
    """The first release had no ledger, the second no jobs; the rows stay."""
    await upgrade(site.engine, site.settings)
    await site.write(encoded(), "5")
    site.execute(
        "".join(f"DROP TABLE {table};" for table in lacking)
        + f"UPDATE execution_logger_alembic_version SET version_num = '{version}'"
    )
    report = await upgrade(site.engine, site.settings)
    assert report == reported(THERE, **dict.fromkeys(lacking, CREATED))
    assert site.rows("SELECT * FROM execution_logger_alembic_version") == [{"version_num": "0004"}]
    assert (len(site.rows()), len(site.dead())) == (1, 1)


async def test_a_table_without_the_tree_gets_its_columns(site: SqliteSite) -> None:
    """Its rows stay, and what was kept in their details is where it was."""
    await upgrade(site.engine, site.settings)
    for column in TREE:
        site.execute(f"ALTER TABLE execution_logs DROP COLUMN {column}")
    site.execute("UPDATE execution_logger_alembic_version SET version_num = '0003'")
    await site.write(encoded())
    await upgrade(site.engine, site.settings)
    forget_tables(site.engine.pool)
    await site.write(encoded(operation_id="01a22505-c189-7200-be65-eeb94327379a"))
    assert [row["operation_id"] for row in site.rows()] == [None, "01a22505-c189-7200-be65-eeb94327379a"]
    await upgrade(site.engine, site.settings)


@pytest.mark.parametrize("lacking", [("stored_at",), ("stored_at", "place")])
async def test_an_older_ledger_gets_its_indexes(site: SqliteSite, lacking: tuple[str, ...]) -> None:
    """It was made without them; an installation is the same whenever it was made."""
    await upgrade(site.engine, site.settings)
    expected = site.rows(SCHEMA)
    for name in lacking:
        site.execute(f"DROP INDEX ix_execution_log_batches_{name}")
    await upgrade(site.engine, site.settings)
    assert [row["name"] for row in site.rows(SCHEMA)] == [row["name"] for row in expected]


async def test_another_name_makes_another_table(tmp_path: Path) -> None:
    """Two applications may share a database, and names may be long."""
    for name in ("main.first", "x" * 60):
        async with SqliteSite(tmp_path / "logs.db", table=name) as site:
            assert (await upgrade(site.engine, site.settings)).startswith(f"{name} created")
            assert await site.write(encoded()) == WriteResult(stored=1)


async def test_an_upgrade_without_a_database_is_explained(tmp_path: Path) -> None:
    """The same error as for a batch, with the file's name."""
    async with SqliteSite(tmp_path / "missing" / "logs.db") as site:
        with pytest.raises(StoreUnavailableError, match="missing/logs"):
            await upgrade(site.engine, site.settings)


async def test_a_failed_upgrade_leaves_nothing_half_made(site: SqliteSite) -> None:
    """All of it is one transaction."""
    site.execute("CREATE TABLE t (x); CREATE INDEX ix_execution_logs_created_at ON t (x)")
    before = site.rows(SCHEMA)
    with pytest.raises(StoreUnavailableError, match="ix_execution_logs_created_at already exists"):
        await upgrade(site.engine, site.settings)
    assert site.rows(SCHEMA) == before


async def test_what_an_earlier_version_kept_under_other_names_is_taken_over(tmp_path: Path) -> None:
    """Its tables had the same names for each table of entries; the upgrade says what became of them, once."""
    site = SqliteSite(tmp_path / "logs.db", table="app_logs")
    await upgrade(site.engine, site.settings)
    await site.writer.write("b", batch(encoded(), BAD["no task"]), process="p", first=1)
    site.execute(
        "INSERT INTO execution_log_statistics_app_logs"
        " VALUES ('2026-01-01', 'all', '', 1, 0, 1, 0, NULL, NULL)"
    )
    for name in TABLES[1:]:  # as the earlier version had them
        site.execute(f"ALTER TABLE {name}_app_logs RENAME TO {name}")
        for index in site.rows(
            f"SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = '{name}' AND sql <> ''"
        ):
            site.execute(f"DROP INDEX {index['name']}")
    report = await upgrade(site.engine, site.settings)
    assert "1 rows of execution_log_dead_letters copied to execution_log_dead_letters_app_logs" in report
    assert "1 rows of execution_log_statistics copied to execution_log_statistics_app_logs" in report
    assert "execution_log_batches stays as it is and is not used any more" in report
    assert (await overview(site.engine, site.settings)).dead_letters == 1
    assert len(site.rows("SELECT * FROM execution_log_dead_letters")) == 1, (
        "workers of before may be at work yet"
    )
    site.execute("DELETE FROM execution_log_dead_letters_app_logs")
    assert "copied" not in await upgrade(site.engine, site.settings), "what was purged stays away"
    other = SqliteSite(tmp_path / "logs.db", table="web_logs")
    assert "copied" not in await upgrade(other.engine, other.settings), "a new table has no past"
    for each in (site, other):
        await each.engine.dispose()


async def test_what_the_usual_table_has_is_left_to_it(tmp_path: Path) -> None:
    """Dead letters do not tell which of two tables they were meant for."""
    usual = SqliteSite(tmp_path / "logs.db")
    await upgrade(usual.engine, usual.settings)
    await usual.write(BAD["no task"])
    usual.execute("CREATE TABLE app_logs AS SELECT * FROM execution_logs")
    other = SqliteSite(tmp_path / "logs.db", table="app_logs")
    assert "copied" not in await upgrade(other.engine, other.settings)
    assert len(usual.rows("SELECT * FROM execution_log_dead_letters")) == 1
    for each in (usual, other):
        await each.engine.dispose()


async def test_two_tables_in_one_schema_share_nothing(tmp_path: Path) -> None:
    """Dead letters, batches, job runs and statistics are of one table of entries each."""
    names = ("execution_logs", "app_logs", "y" * 59 + "1", "y" * 59 + "2")
    sites = [SqliteSite(tmp_path / "logs.db", table=name) for name in names]
    for number, site in enumerate(sites):
        await upgrade(site.engine, site.settings)
        entries = [encoded() for _ in range(number)]
        await site.writer.write("b", batch(*entries, BAD["no task"]), process="p", first=1)
        runner = Runner(site.engine, replace(site.settings, schedule_statistics="off"))
        await runner.run(STATISTICS, is_by_hand=True)
    for number, site in enumerate(sites):
        assert (await overview(site.engine, site.settings)).dead_letters == 1
        (account,) = (await audit(site.engine, site.settings)).accounts
        assert (account.entries, account.repeated) == (number + 1, 0)
        runs = {each.job.name: each.state for each in await read_jobs(site.engine, site.settings)}
        assert runs["statistics"] != "never", "it was run for each, to its end or not"
        await site.engine.dispose()
    tables = sites[0].rows("SELECT name FROM sqlite_master WHERE type = 'table'")
    assert len({row["name"] for row in tables}) == 4 * (len(TABLES) + 1)
    assert max(len(row["name"]) for row in tables) <= 63


async def test_two_tables_of_one_database_have_versions_of_their_own(tmp_path: Path) -> None:
    """Each gets what it lacks, also where an earlier version noted one version for both."""
    path = tmp_path / "logs.db"
    async with SqliteSite(path) as site, SqliteSite(path, table="app_logs") as other:
        for each in (site, other):
            await upgrade(each.engine, each.settings)
            for column in TREE:
                site.execute(f"ALTER TABLE {each.settings.table} DROP COLUMN {column}")
        site.execute(
            "DROP TABLE execution_logger_alembic_version_app_logs;"
            "UPDATE execution_logger_alembic_version SET version_num = '0003'"
        )
        for each in (site, other):
            await upgrade(each.engine, each.settings)
            columns = {row["name"] for row in site.rows(f"PRAGMA table_info({each.settings.table})")}
            assert columns >= set(TREE)
