"""Reading back: the same entries from the library's own table and from a host's."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from batches import encoded, fields
from execution_logger import LogCategory, LogEntry, LogLevel
from execution_logger.errors import StoreUnavailableError
from execution_logger.settings import Settings
from execution_logger.store import ExecutionLogRepository, upgrade
from sqlite_site import SqliteSite, make_tables

HOSTS_TABLE = """
    CREATE TABLE execution_logs (
        id CHAR(32) NOT NULL PRIMARY KEY, task_id VARCHAR(36), level VARCHAR(20), category VARCHAR(50),
        step VARCHAR(50), message TEXT, details TEXT, created_at DATETIME, tenant TEXT DEFAULT 'x'
    )
"""
START = datetime(2026, 11, 22, 2, 13, 53, tzinfo=UTC)


@pytest.fixture(params=["own", "host's"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteSite]:
    """The library's own table, and one with ids, times and details in other types and columns missing."""
    zone = "UTC" if request.param == "own" else "Asia/Shanghai"
    async with SqliteSite(tmp_path / "logs.db", time_zone=zone) as site:
        if request.param == "own":
            make_tables(site.path)
        else:
            site.execute(HOSTS_TABLE)
            await upgrade(site.engine, site.settings)
        yield site


@pytest.fixture
async def session(site: SqliteSite) -> AsyncIterator[AsyncSession]:
    """The host's session, on an engine of the host's own."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{site.path}")
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


@pytest.fixture
def repository(site: SqliteSite, session: AsyncSession) -> ExecutionLogRepository:
    """The repository over that session."""
    return ExecutionLogRepository(session, site.settings)


def run(count: int, **changed: Any) -> list[dict[str, Any]]:
    """The entries of a run, a second apart."""
    times = [(START + timedelta(seconds=number)).isoformat() for number in range(count)]
    return [fields(created_at=time, message=str(number), **changed) for number, time in enumerate(times)]


async def test_an_entry_is_read_as_it_was_logged(
    site: SqliteSite, repository: ExecutionLogRepository
) -> None:
    """All fields, in one form, whatever the table's types are; times are UTC."""
    entry = fields(
        step="s", agent_name="a", roadmap_id="r", concept_id="c", duration_ms=7, details={"k": [1]}
    )
    await site.write(encoded(entry))
    (read,) = await repository.list_by_trace("t")
    assert isinstance(read, LogEntry)
    assert {name: getattr(read, name) for name in entry if name not in ("created_at", "details")} == {
        name: value for name, value in entry.items() if name not in ("created_at", "details")
    }
    assert read.created_at == datetime.fromisoformat(entry["created_at"])
    assert read.created_at.tzinfo is UTC
    assert read.details is not None
    assert read.details.items() >= entry["details"].items()


async def test_a_bare_entry_has_nothing_in_its_optional_fields(
    site: SqliteSite, repository: ExecutionLogRepository
) -> None:
    """None, not "" and not {}."""
    await site.write(encoded())
    (read,) = await repository.list_by_trace("t")
    assert {read.step, read.agent_name, read.roadmap_id, read.concept_id, read.duration_ms, read.details} == {
        None
    }


async def test_a_run_is_listed_newest_first(site: SqliteSite, repository: ExecutionLogRepository) -> None:
    """By time, then by id; page by page; without the entries of other runs."""
    await site.write(*map(encoded, run(5)), encoded(task_id="other"))
    assert [entry.message for entry in await repository.list_by_trace("t")] == list("43210")
    assert [entry.message for entry in await repository.list_by_trace("t", limit=2, offset=1)] == list("32")
    same_time = [encoded(task_id="s", message=str(number)) for number in range(5)]
    await site.write(*reversed(same_time))
    assert [entry.message for entry in await repository.list_by_trace("s")] == list("43210")
    assert await repository.list_by_trace("nobody") == []


async def test_a_list_may_be_narrowed(site: SqliteSite, repository: ExecutionLogRepository) -> None:
    """To a level, to a category, or to both; the constants work like their texts."""
    kinds = [("info", "agent"), ("error", "agent"), ("error", "tool")]
    await site.write(*(encoded(level=level, category=category) for level, category in kinds))
    assert len(await repository.list_by_trace("t", level=LogLevel.ERROR)) == 2
    assert len(await repository.list_by_trace("t", category="agent")) == 2
    assert len(await repository.list_by_trace("t", "error", LogCategory.AGENT)) == 1
    assert {entry.category for entry in await repository.get_error_logs("t")} == {"agent", "tool"}
    assert len(await repository.get_error_logs("t", limit=1)) == 1


async def test_a_list_may_be_narrowed_as_on_the_command_line(
    site: SqliteSite, repository: ExecutionLogRepository
) -> None:
    """By step, agent, time, text, and an operation with all that is within it; all must apply."""
    a, b, c = (f"01a2020e-76f9-7733-a5d1-0d5f613dc3d{digit}" for digit in "abc")
    changes: list[dict[str, Any]] = [
        {"operation_id": a, "step": "plan"},
        {"operation_id": b, "parent_id": a, "agent_name": "author"},
        {"parent_id": b, "step": "plan", "agent_name": "author"},
        {"parent_id": a},
        {"operation_id": c},
    ]
    await site.write(*(encoded({**old, **new}) for old, new in zip(run(5), changes, strict=True)))

    async def found(**wanted: Any) -> str:
        return "".join(entry.message for entry in await repository.list_by_trace("t", **wanted))

    assert await found(step="plan") == "20"
    assert await found(agent_name="author") == "21"
    assert await found(step="plan", agent_name="author") == "2"
    assert await found(operation_id=a) == "3210"
    assert await found(operation_id=b.upper(), step="plan") == "2"
    assert await found(operation_id=a, limit=2, offset=1) == "21"
    assert await found(operation_id=str(UUID(int=5))) == ""
    assert await found(since=START + timedelta(seconds=1), until=START + timedelta(seconds=3)) == "21"
    assert await found(contains="4") == "4"
    assert await found(contains="%\0") == ""
    with pytest.raises(ValueError, match="badly formed"):
        await found(operation_id="search")
    with pytest.raises(ValueError, match="no time zone"):
        await found(since=START.replace(tzinfo=None))


async def test_levels_by_any_name(site: SqliteSite, repository: ExecutionLogRepository) -> None:
    """Critical entries are errors, and so are those that a host has stored in capitals."""
    levels = ["error", "critical", "ERROR", "FATAL", "warn", "notice"]
    await site.write(*(encoded(run(1, level=level)[0]) for level in levels))
    created = await repository.create_log("t", "Fatal", "agent", "created")
    assert created.level == "critical"
    assert len(await repository.get_error_logs("t")) == 5
    assert len(await repository.list_by_trace("t", level="ERROR")) == 2
    assert [entry.level for entry in await repository.list_by_trace("t", level="warning")] == ["warning"]
    assert [entry.level for entry in await repository.list_by_trace("t", level="notice")] == ["notice"]
    assert (await repository.get_logs_summary("t"))["level_stats"] == {
        "error": 2,
        "critical": 3,
        "warning": 1,
        "notice": 1,
    }


async def test_a_summary_counts_what_a_run_did(site: SqliteSite, repository: ExecutionLogRepository) -> None:
    """Numbers by level and category, and the times as ISO 8601."""
    first, second, third = run(3)
    await site.write(
        encoded({**first, "duration_ms": 30}),
        encoded({**second, "duration_ms": 12, "category": "tool"}),
        encoded({**third, "level": "error"}),
    )
    summary = await repository.get_logs_summary("t")
    assert summary == {
        "task_id": "t",
        "level_stats": {"info": 2, "error": 1},
        "category_stats": {"agent": 2, "tool": 1},
        "total_duration_ms": 42,
        "first_log_at": "2026-11-22T02:13:53+00:00",
        "last_log_at": "2026-11-22T02:13:55+00:00",
        "total_logs": 3,
    }


async def test_a_summary_of_nothing_is_empty(repository: ExecutionLogRepository) -> None:
    """An unknown run is no error."""
    assert await repository.get_logs_summary("nobody") == {
        "task_id": "nobody",
        "level_stats": {},
        "category_stats": {},
        "total_duration_ms": 0,
        "first_log_at": None,
        "last_log_at": None,
        "total_logs": 0,
    }


async def test_a_created_entry_is_there_at_once(repository: ExecutionLogRepository) -> None:
    """It takes the same way as every other: masked, made safe, with an id and a time."""
    created = await repository.create_log(
        "t", "error", "api", "m\0", "r", "c", "s", "a", {"password": "x"}, 7
    )
    (read,) = await repository.list_by_trace("t")
    assert (read.id, read.created_at, read.message) == (created.id, created.created_at, created.message)
    assert (read.roadmap_id, read.concept_id, read.step, read.agent_name, read.duration_ms) == (*"rcsa", 7)
    assert read.details is not None
    assert read.details["password"] == "[masked]"


async def test_deleting_tells_how_many(site: SqliteSite, repository: ExecutionLogRepository) -> None:
    """One run's entries, and no other's."""
    await site.write(*map(encoded, run(3)), encoded(task_id="other"))
    assert await repository.delete_logs_by_trace("t") == 3
    assert await repository.delete_logs_by_trace("t") == 0
    assert len(await repository.list_by_trace("other")) == 1


async def test_old_entries_are_deleted_to_the_hour(
    site: SqliteSite, repository: ExecutionLogRepository
) -> None:
    """A day is 24 hours, in whichever time zone the table holds its times."""
    now = datetime.now(UTC)
    ages = [timedelta(days=1, minutes=-1), timedelta(days=1, minutes=1), timedelta(days=91)]
    await site.write(*(encoded(created_at=(now - age).isoformat()) for age in ages))
    assert await repository.delete_old_logs() == 1
    assert await repository.delete_old_logs(days=1) == 1
    assert len(await repository.list_by_trace("t")) == 1


async def test_nothing_is_committed(site: SqliteSite, session: AsyncSession) -> None:
    """The session is the host's: its rollback undoes all."""
    await site.write(encoded())
    repository = ExecutionLogRepository(session, site.settings)
    await repository.create_log("t", "info", "agent", "m")
    await repository.delete_logs_by_trace("t")
    await session.rollback()
    assert len(site.rows()) == 1


async def test_rows_of_the_hosts_own_making_can_be_read(tmp_path: Path) -> None:
    """What an earlier logger left: ids that are no UUIDs, details that are no objects, no time at all."""
    async with SqliteSite(tmp_path / "logs.db") as site, AsyncSession(site.engine) as session:
        site.execute(HOSTS_TABLE.replace("CHAR(32)", "VARCHAR(64)"))
        site.execute(
            "INSERT INTO execution_logs (id, task_id, level, category, message, details) VALUES "
            """('log-1', 't', 'info', 'agent', 'm', '[1]'), ('log-2', 't', 'info', 'agent', 'm', 'text'),"""
            """('log-3', 't', 'info', 'agent', 'm', '{"a": 1}')"""
        )
        read = await ExecutionLogRepository(session, site.settings).list_by_trace("t")
        assert [entry.id for entry in read] == ["log-3", "log-2", "log-1"]
        assert [entry.details for entry in read] == [{"a": 1}, {"value": "text"}, {"value": [1]}]
        assert read[0].created_at == datetime.fromtimestamp(0, UTC)


async def test_settings_come_from_the_environment_by_default(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host passes its session and nothing else."""
    monkeypatch.setenv("EXECUTION_LOGGER_TABLE", "elsewhere")
    # Read once in a process: by an earlier test, say.
    name = "execution_logger.read.repository._settings_of_environment"
    monkeypatch.setattr(name, Settings.from_environment)
    with pytest.raises(StoreUnavailableError, match='"elsewhere" does not exist'):
        await ExecutionLogRepository(session).list_by_trace("t")
    with pytest.raises(StoreUnavailableError, match='"missing" does not exist'):
        await ExecutionLogRepository(session, Settings(table="missing")).list_by_trace("t")
