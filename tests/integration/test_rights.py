"""The rights that the documentation grants suffice, and the doctor names each that is missing."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from batches import BAD, batch, encoded
from documents import Document
from execution_logger.operate.doctor.database import examine_database
from execution_logger.operate.doctor.finding import Finding, Subject
from execution_logger.store import WriteResult
from execution_logger.store.dead_letters import DeadLetters, retry
from execution_logger.store.table import FIELDS
from execution_logger.worker.jobs import Runner
from execution_logger.worker.schedule import JOBS
from postgresql_site import PostgresqlSite
from rows import fetch

(GRANTS,) = (
    block.code
    for block in Document("docs/CELERY_SETUP.md").blocks
    if block.language == "sql" and "log_writer" in block.code
)
STATEMENTS = [statement.strip() for statement in GRANTS.split(";") if statement.strip()]
PRIVILEGES = """
    SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = 'log_writer'
"""


@pytest.fixture
def role_url(database_url: str) -> Iterator[str]:
    """The URL of the role that the documentation makes."""
    for statement in STATEMENTS:
        fetch(database_url, statement)
    yield database_url.replace("postgres@", "log_writer@")
    fetch(database_url, "DROP OWNED BY log_writer")
    fetch(database_url, "DROP ROLE log_writer")


def rights_found(site: PostgresqlSite) -> list[Finding]:
    """What the doctor says of rights."""
    found = examine_database(Subject(site.settings, {}, time.time))
    return [each for each in found if "GRANT" in each.advice or "permission" in each.what]


async def test_worker_and_jobs_need_no_more(role_url: str) -> None:
    """Batches, dead letters and a retry, all jobs; the doctor has nothing to say."""
    async with PostgresqlSite(role_url, celery_enabled=False) as site:
        old = (datetime.now(UTC) - timedelta(days=100)).isoformat()
        entries = batch(encoded(), encoded(created_at=old), BAD["no task"])
        for _ in range(2):
            await site.writer.write("b", entries, process="p", first=1)
        assert await site.writer.write("c", batch(encoded()), process="p", first=4) == WriteResult(stored=1)
        async with site.engine.connect() as connection:
            (letter,) = await DeadLetters(site.settings).list(connection)
        await retry(site.engine, site.settings, [replace(letter, entry=encoded())])
        assert await site.dead() == []
        runner = Runner(site.engine, site.settings)
        for job in JOBS.values():
            while (result := await runner.run(job, is_by_hand=True)).outcome == "unfinished":
                pass
            assert (job.name, result.outcome, result.run.error) == (job.name, "succeeded", None)
            assert not [each for each in result.run.summary.get("reasons", ()) if "denied" in each]
        assert await asyncio.to_thread(rights_found, site) == []


async def test_each_right_is_named_when_it_is_missing(role_url: str, database_url: str) -> None:
    """One after the other is taken away; the statement that the doctor shows gives it back."""
    granted = [(row["table_name"], row["privilege_type"]) for row in fetch(database_url, PRIVILEGES)]
    assert len(granted) == 3 * 3 + 4 + 3 + 1
    async with PostgresqlSite(role_url, celery_enabled=False) as site:
        for table, right in granted:
            if table == "execution_logger_alembic_version":
                continue  # without it the version is not looked at
            fetch(database_url, f"REVOKE {right} ON {table} FROM log_writer")
            found = await asyncio.to_thread(rights_found, site)
            assert any(right in each.advice and table in each.advice for each in found), (table, right, found)
            fetch(database_url, f"GRANT {right} ON {table} TO log_writer")


async def test_rights_on_columns_suffice(role_url: str, database_url: str) -> None:
    """A host may give no more of its table, which has columns of its own."""
    used = ", ".join(FIELDS)
    fetch(database_url, "ALTER TABLE execution_logs ADD secret TEXT")
    fetch(database_url, "REVOKE SELECT, INSERT ON execution_logs FROM log_writer")
    fetch(database_url, f"GRANT SELECT ({used}), INSERT ({used}) ON execution_logs TO log_writer")
    async with PostgresqlSite(role_url, celery_enabled=False) as site:
        assert await site.write(encoded()) == WriteResult(stored=1)
        assert await asyncio.to_thread(rights_found, site) == []
        fetch(database_url, "REVOKE INSERT (step) ON execution_logs FROM log_writer")
        (found,) = await asyncio.to_thread(rights_found, site)
        assert "no INSERT on table" in found.what
