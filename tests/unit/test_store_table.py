"""Describing the table: what a host's table may look like, and what is said when it cannot be used."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.entry.entry import TREE
from execution_logger.errors import StoreUnavailableError
from execution_logger.settings import Settings
from execution_logger.store import create_engine
from execution_logger.store.table import LogTable, forget_tables, look_up_table

COLUMNS = {
    "id": "VARCHAR(36) NOT NULL PRIMARY KEY",
    "task_id": "VARCHAR(36) NOT NULL",
    "roadmap_id": "VARCHAR(36)",
    "concept_id": "VARCHAR(36)",
    "level": "VARCHAR(20) NOT NULL",
    "category": "VARCHAR(50) NOT NULL",
    "step": "VARCHAR(50)",
    "agent_name": "VARCHAR(50)",
    "message": "TEXT NOT NULL",
    "details": "JSON",
    "duration_ms": "INTEGER",
    "created_at": "DATETIME NOT NULL",
}


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    """An empty database."""
    engine = create_engine(Settings(database_url="sqlite://"), pool_size=1)
    yield engine
    await engine.dispose()


async def described(engine: AsyncEngine, **changed: str | None) -> LogTable:
    """The table of `COLUMNS`, some of them changed, added, or (None) left out."""
    columns = {name: kind for name, kind in {**COLUMNS, **changed}.items() if kind is not None}
    constraint = columns.pop("constraint", "")
    parts = [*(f"{name} {kind}" for name, kind in columns.items()), *filter(None, [constraint])]
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE TABLE execution_logs ({', '.join(parts)})"))
        return await look_up_table(connection, Settings())


async def test_a_hosts_table_is_described(engine: AsyncEngine) -> None:
    """All fields have their columns, and the id recognises an entry."""
    table = await described(engine, tenant="TEXT NOT NULL DEFAULT 'x'", number="INTEGER")
    assert set(table.columns) == set(COLUMNS)
    assert (table.missing, table.key) == (TREE, ("id",))


async def test_optional_columns_may_be_missing(engine: AsyncEngine) -> None:
    """The writer then puts their values into the details."""
    table = await described(engine, step=None, agent_name=None, duration_ms=None)
    assert table.missing == ("step", "agent_name", "duration_ms", *TREE)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"id": "VARCHAR(36) NOT NULL", "constraint": "PRIMARY KEY (id, created_at)"}, ("id", "created_at")),
        (
            {"id": "VARCHAR(36) NOT NULL", "number": "INTEGER PRIMARY KEY", "constraint": "UNIQUE (id)"},
            ("id",),
        ),
    ],
)
async def test_an_entry_is_recognised_by_whatever_makes_its_id_unique(
    engine: AsyncEngine, changed: dict[str, str], key: tuple[str, ...]
) -> None:
    """Partitioned tables have longer keys, others a number of their own beside the id."""
    assert (await described(engine, **changed)).key == key


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"message": None}, 'column "message" is missing'),
        ({"details": None}, 'column "details" is missing'),
        ({"created_at": "DATE"}, 'column "created_at" has the type DATE'),
        ({"duration_ms": "TEXT"}, 'column "duration_ms" has the type TEXT'),
        ({"details": "INTEGER"}, 'column "details" has the type INTEGER'),
        ({"id": "VARCHAR(20) NOT NULL PRIMARY KEY"}, 'column "id" holds 20 characters; an id has 36'),
        ({"tenant": "TEXT NOT NULL"}, 'column "tenant" allows no NULL and has no default'),
        ({"id": "VARCHAR(36) NOT NULL"}, 'recognises an entry by its "id"'),
    ],
)
async def test_a_table_that_cannot_be_used_is_explained(
    engine: AsyncEngine, changed: dict[str, str | None], words: str
) -> None:
    """The error names the table and the column, and entries are kept instead of becoming dead letters."""
    with pytest.raises(StoreUnavailableError) as unusable:
        await described(engine, **changed)
    assert words in str(unusable.value)
    assert '"execution_logs"' in str(unusable.value)


async def test_a_missing_table_is_explained(engine: AsyncEngine) -> None:
    """The error says which command makes it."""
    async with engine.connect() as connection:
        with pytest.raises(
            StoreUnavailableError, match=r'"logs" does not exist\. Run: execution-logger db upgrade'
        ):
            await look_up_table(connection, Settings(table="logs"))


async def test_the_database_is_asked_once(engine: AsyncEngine) -> None:
    """Until somebody says that the table may have changed."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    first = await described(engine)
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    async with engine.connect() as connection:
        assert await look_up_table(connection, Settings()) is first
        assert not statements
        forget_tables(engine.pool)
        assert await look_up_table(connection, Settings()) is not first
        assert statements
