"""The host's own tables, beside those of the log: what was collected, and the full-text index of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite

from pipeline_host import settings

AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError)
"""What is raised when the database cannot be had."""

metadata = sa.MetaData()
documents = Table(
    "pipeline_documents", metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("url", sa.Text, nullable=False, unique=True),
    Column("source", sa.Text, nullable=False, index=True),
    Column("title", sa.Text, nullable=False),
    Column("text", sa.Text, nullable=False),
    Column("content_hash", sa.String(64), nullable=False, index=True),
    Column("collected_at", sa.DateTime(timezone=True), nullable=False),
    Column("duplicate_of", sa.ForeignKey("pipeline_documents.id")),
    Column("similarity", sa.Float),
)  # fmt: skip
_LOCK = 7_411_836  # which of PostgreSQL's advisory locks is ours


@cache
def engine() -> Engine:
    """The engine of this process, whose tables are there; one that was not reached is tried again."""
    url = sa.make_url(settings.DATABASE_URL)
    driver, options = "postgresql+psycopg", {"connect_timeout": 5}
    if url.get_backend_name() == "sqlite":
        driver, options = "sqlite+pysqlite", {"timeout": 30}
    made = sa.create_engine(url.set(drivername=driver), connect_args=options, pool_pre_ping=True)
    with alone(made) as connection:
        metadata.create_all(connection)
        connection.exec_driver_sql(_sql("index", made))
    return made


@contextmanager
def alone(on: Engine | None = None) -> Iterator[Connection]:
    """A transaction that no other one of this kind runs beside."""
    with (on or engine()).begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield connection


def save(url: str, source: str, title: str, text: str, content_hash: str) -> None:
    """Store a document as it is now; one that has changed is nobody's duplicate until the next look."""
    insert = sqlite.insert if engine().dialect.name == "sqlite" else postgresql.insert
    row: dict[str, Any] = {"source": source, "title": title, "text": text, "content_hash": content_hash}
    row |= {"collected_at": datetime.now(UTC), "duplicate_of": None, "similarity": None}
    is_new = documents.c.content_hash != content_hash
    statement = insert(documents).values(url=url, **row)
    statement = statement.on_conflict_do_update(index_elements=["url"], set_=row, where=is_new)
    with engine().begin() as connection:
        connection.execute(statement)


def rebuild_index() -> int:
    """Index every document that is nobody's duplicate; readers see the old index until it is done."""
    with alone() as connection:
        connection.exec_driver_sql("DELETE FROM pipeline_index")
        return connection.exec_driver_sql(
            "INSERT INTO pipeline_index (rowid, title, text)"
            " SELECT id, title, text FROM pipeline_documents WHERE duplicate_of IS NULL"
        ).rowcount


def search(query: str, limit: int) -> list[dict[str, Any]]:
    """The documents that hold all these words, in any of their forms, the best first."""
    # Quoted for SQLite, to which NOT would be a command; PostgreSQL sees no word in a quotation mark.
    text = " ".join(f'"{word}"' for word in re.findall(r"\w+", query))
    return rows(sa.text(_sql("search", engine())), {"query": text, "limit": limit})


def rows(statement: Any, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What a query finds."""
    with engine().connect() as connection:
        return [dict(row) for row in connection.execute(statement, values or {}).mappings()]


def _sql(name: str, of: Engine) -> str:
    return (Path(__file__).parent / "sql" / f"{name}.{of.dialect.name}.sql").read_text("utf-8")
