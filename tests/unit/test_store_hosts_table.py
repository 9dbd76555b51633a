"""Writing to a table that the host made: every entry fits, and the host reads it as its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    JSON,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    select,
)

from batches import encoded, fields
from detailed import HOSTS, NO_JSON, check_readers_agree, encoded_entries
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.timeline import Only, Timeline
from execution_logger.store import WriteResult, upgrade
from sqlite_site import SqliteSite


@asynccontextmanager
async def hosts_site(
    path: Path, *columns: Column[Any], **settings: Any
) -> AsyncIterator[tuple[SqliteSite, Table]]:
    """A site whose table was there first, made by the host with SQLAlchemy; `columns` differ or are added."""
    usual = {
        "id": Column("id", String(36), primary_key=True),
        "task_id": Column("task_id", String(36), nullable=False),
        "level": Column("level", String(20), nullable=False),
        "category": Column("category", String(50), nullable=False),
        "message": Column("message", Text, nullable=False),
        "details": Column("details", JSON),
        "created_at": Column("created_at", DateTime, nullable=False),
    }
    table = Table("execution_logs", MetaData(), *{**usual, **{c.name: c for c in columns}}.values())
    async with SqliteSite(path, **settings) as site:
        async with site.engine.begin() as connection:
            await connection.run_sync(table.metadata.create_all)
        yield site, table


async def read_as_host(site: SqliteSite, table: Table) -> list[dict[str, Any]]:
    """The rows, as the host's own SQLAlchemy reads them."""
    async with site.engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(select(table))).mappings()]


async def test_a_host_reads_its_own_types(tmp_path: Path) -> None:
    """Local time without time zone, UUIDs without dashes, JSON, and the host's defaults."""
    async with hosts_site(
        tmp_path / "logs.db",
        Column("id", Uuid, primary_key=True),
        Column("tenant", String(20), nullable=False, server_default="default"),
        time_zone="Asia/Shanghai",
    ) as (site, table):
        entry = fields(details={"b": 1, "a": [None]})
        assert await site.write(encoded(entry)) == WriteResult(stored=1)
        assert await site.write(encoded(entry)) == WriteResult(duplicates=1)
        (row,) = await read_as_host(site, table)
        assert str(row["id"]) == entry["id"]
        assert row["created_at"].isoformat() == "2026-11-22T10:13:53.123456"
        assert row["details"] == entry["details"]
        assert row["tenant"] == "default"


async def test_fields_without_a_column_go_to_the_details(tmp_path: Path) -> None:
    """Nothing is lost; a key of the caller's own stays, and the field is kept beside it."""
    async with hosts_site(tmp_path / "logs.db") as (site, table):
        await site.write(
            encoded(),
            encoded(step="s", duration_ms=7),
            encoded(step="s", details={"step": "mine", "none": None, "_changed": {"x": "y"}}),
            encoded(step="s", agent_name="a", details={"step": None}),
        )
        assert [row["details"] for row in await read_as_host(site, table)] == [
            None,
            {"step": "s", "duration_ms": 7},
            {"step": "mine", "none": None, "_changed": {"x": "y", "step": "s"}},
            {"step": None, "agent_name": "a", "_changed": {"step": "s"}},
        ]


async def test_fields_in_details_are_the_same_for_every_reader(tmp_path: Path) -> None:
    """Also beside keys of the caller's own, and beside what only the host can have stored."""
    async with hosts_site(tmp_path / "logs.db", Column("details", Text)) as (site, _):
        await upgrade(site.engine, site.settings)
        await site.write(*encoded_entries())
        for message, details in (HOSTS | NO_JSON).items():
            site.execute(f"UPDATE execution_logs SET details = '{details}' WHERE message = '{message}'")
        await check_readers_agree(site.engine, site.settings)


async def test_columns_that_allow_no_null_get_something_empty(tmp_path: Path) -> None:
    """SQLAlchemy's `default=` is unknown to the database, which would refuse every entry without a step."""
    async with hosts_site(
        tmp_path / "logs.db",
        Column("step", String(50), nullable=False),
        Column("details", JSON, nullable=False),
        Column("duration_ms", Integer, nullable=False),
    ) as (site, table):
        assert await site.write(encoded(), encoded(step="s", duration_ms=7)) == WriteResult(stored=2)
        rows = await read_as_host(site, table)
        assert [(row["step"], row["details"], row["duration_ms"]) for row in rows] == [
            ("", {}, 0),
            ("s", {}, 7),
        ]


async def test_a_table_that_changes_under_a_writer_is_looked_at_again(tmp_path: Path) -> None:
    """A host migrates while the worker runs: entries fit at once, and none becomes a dead letter."""
    async with hosts_site(tmp_path / "logs.db", Column("step", String(50))) as (site, _):
        await upgrade(site.engine, site.settings)
        assert await site.write(encoded(step="s")) == WriteResult(stored=1)
        site.execute("ALTER TABLE execution_logs DROP COLUMN step")
        assert await site.write(encoded(step="t")) == WriteResult(stored=1)
        assert [row["details"] for row in site.rows()] == [None, '{"step":"t"}']


async def test_a_new_column_without_default_makes_entries_wait(tmp_path: Path) -> None:
    """It is refused by the database as if the entries were bad; they are not, and are kept."""
    async with hosts_site(tmp_path / "logs.db") as (site, _):
        await upgrade(site.engine, site.settings)
        assert await site.write(encoded()) == WriteResult(stored=1)
        site.execute(
            "DROP TABLE execution_logs; CREATE TABLE execution_logs (id VARCHAR(36) PRIMARY KEY NOT NULL, "
            "task_id TEXT, level TEXT, category TEXT, message TEXT, details JSON, created_at DATETIME, "
            "tenant TEXT NOT NULL)"
        )
        with pytest.raises(StoreUnavailableError, match='"tenant" allows no NULL'):
            await site.write(encoded())
        assert site.dead() == []


IDS = {
    "operation_id": "01a22505-c189-7200-be65-eeb94327379a",
    "parent_id": "01a22505-c189-7200-be65-eeb856039154",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
}


@pytest.mark.parametrize(
    "columns",
    [
        (),
        (Column("parent_id", Integer),),
        (Column("parent_id", String(36)),),
        (Column("trace_id", String(64)),),
        (Column("operation_id", String(36)), Column("parent_id", String(20))),
        (
            Column("operation_id", String(36)),
            Column("parent_id", String(36), server_default="", nullable=False),
        ),
        (Column("trace_id", String(32)), Column("span_id", String(15))),
        (
            Column("operation_id", String(36)),
            Column("parent_id", String(36), ForeignKey("execution_logs.id")),
        ),
    ],
    ids=[
        "none",
        "a number",
        "one of a pair",
        "one of the other pair",
        "too short",
        "never null",
        "a short span",
        "a reference",
    ],
)
async def test_a_hosts_column_that_is_called_like_an_id_is_the_hosts(
    tmp_path: Path, columns: tuple[Column[Any], ...]
) -> None:
    """The ids are in the details then, and are read from there."""
    async with hosts_site(tmp_path / "logs.db", *columns) as (site, table):
        await site.write(encoded(**IDS), encoded(details={"parent_id": "mine"}))
        (row, other) = await read_as_host(site, table)
        assert {row[column.name] for column in columns} <= {None, ""}
        assert row["details"] == IDS
        first, second = await Timeline(site.engine, site.settings, "t").last(2)
        assert {name: getattr(first, name) for name in IDS} == IDS
        assert (second.parent_id, second.details) == (None, other["details"])


@pytest.mark.parametrize("kind", [String(36), String(64), Text()], ids=str)
async def test_a_host_may_have_columns_for_the_tree(tmp_path: Path, kind: Any) -> None:
    """Of a type that holds them."""
    columns = (Column("operation_id", kind), Column("parent_id", kind))
    async with hosts_site(tmp_path / "logs.db", *columns) as (site, table):
        await site.write(encoded(**IDS))
        (row,) = await read_as_host(site, table)
        assert [str(row[name]) for name in ("operation_id", "parent_id")] == list(IDS.values())[:2]
        assert set(row["details"]) == {"trace_id", "span_id"}
        (entry,) = await Timeline(site.engine, site.settings, "t").last(1)
        assert {name: getattr(entry, name) for name in IDS} == IDS


async def test_a_host_may_have_columns_for_the_trace(tmp_path: Path) -> None:
    """As wide as the ids are, or padded."""
    columns = (Column("trace_id", CHAR(40)), Column("span_id", String(16)))
    async with hosts_site(tmp_path / "logs.db", *columns) as (site, table):
        await site.write(encoded(**IDS))
        site.execute("UPDATE execution_logs SET trace_id = trace_id || '        '")
        (row,) = await read_as_host(site, table)
        assert set(row["details"]) == {"operation_id", "parent_id"}
        (entry,) = await Timeline(site.engine, site.settings, "t").last(1)
        assert {name: getattr(entry, name) for name in IDS} == IDS


async def test_an_unknown_level_is_hidden_by_no_filter(tmp_path: Path) -> None:
    """A row of the host's may have none."""
    async with hosts_site(tmp_path / "logs.db", Column("level", String(20))) as (site, _):
        await site.write(encoded(level="debug"), encoded(level="loud"), encoded(level="error"))
        site.execute("UPDATE execution_logs SET level = NULL WHERE level = 'error'")
        timeline, only = Timeline(site.engine, site.settings, None), Only.at_least("error")
        found = await timeline.last(10, only)
        assert [entry.level for entry in found] == ["loud", None]
        assert [entry for entry in await timeline.last(10) if only.takes(entry)] == found
