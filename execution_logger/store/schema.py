"""The library's own tables, beside that of the entries: what they are called, and their columns."""

import json
import re
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from execution_logger.settings import Settings

USUAL_NAME = "execution_logs"
DEAD_LETTERS = "execution_log_dead_letters"
BATCHES = "execution_log_batches"
JOB_RUNS = "execution_log_job_runs"
STATISTICS = "execution_log_statistics"

_MOST_NAME_BYTES = 63
_DIGEST_CHARS = 8
_MAX_BATCH_ID_CHARS = 255


class Moment(TypeDecorator[datetime]):
    """An aware time. SQLite keeps it without its time zone, which is UTC then."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What it is in Python."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Bring what is written to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Bring what is read to UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class _Now(FunctionElement[datetime]):
    """The time, with fractions of a second; SQLite's CURRENT_TIMESTAMP has none."""

    inherit_cache = True


@compiles(_Now)
def _now(_element: _Now, compiler: SQLCompiler, **_: object) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))" if compiler.dialect.name == "sqlite" else "now()"


@cache
def dead_letter_table(settings: Settings) -> sa.Table:
    """What the database has refused for good.

    One object for each settings, as of the others: SQLAlchemy keeps 500 compiled statements, and each new
    table has its own.
    """
    return _table(
        settings,
        DEAD_LETTERS,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("batch_id", sa.Text, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False, server_default=_Now()),
    )


@cache
def ledger_table(settings: Settings) -> sa.Table:
    """A row for each stored batch, or for several that were merged."""
    _, name = table_beside(settings, BATCHES)
    return _table(
        settings,
        BATCHES,
        sa.Column("batch_id", sa.Text, primary_key=True),
        sa.Column("process", sa.Text, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("dead_lettered", sa.Integer, nullable=False),
        sa.Column("deliveries", sa.Integer, nullable=False, server_default="1"),
        sa.Column("oldest_at", Moment),
        sa.Column("newest_at", Moment),
        sa.Column("stored_at", Moment, nullable=False, server_default=_Now()),
        # What was stored last; and an audit, though deleted rows may have left most of the table empty.
        sa.Index(identifier(f"ix_{name}_stored_at"), "stored_at"),
        sa.Index(identifier(f"ix_{name}_place"), "process", "first"),
    )


@cache
def job_run_table(settings: Settings) -> sa.Table:
    """A row for each scheduled job."""
    return _table(
        settings,
        JOB_RUNS,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("known_since", Moment, nullable=False, server_default=_Now()),
        sa.Column("owner", sa.Text),  # of the version before, as `handed_to` and `interruptions`
        sa.Column("handed_to", sa.Text),
        sa.Column("held_until", Moment),
        sa.Column("started_at", Moment),
        sa.Column("finished_at", Moment),
        sa.Column("succeeded_at", Moment),
        sa.Column("outcome", sa.Text),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("slices", sa.Integer, nullable=False),
        sa.Column("interruptions", sa.Integer, nullable=False),
        sa.Column("past_runs", sa.JSON, nullable=False),
    )


@cache
def statistics_table(settings: Settings) -> sa.Table:
    """A few rows for each hour, which are read instead of millions."""
    return _table(
        settings,
        STATISTICS,
        sa.Column("hour", Moment, primary_key=True),
        sa.Column("dimension", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.BigInteger, nullable=False),
        sa.Column("runs", sa.BigInteger),
        sa.Column("timed", sa.BigInteger, nullable=False),
        sa.Column("p50_ms", sa.Float),
        sa.Column("p95_ms", sa.Float),
    )


OWN_TABLES = {
    DEAD_LETTERS: dead_letter_table,
    BATCHES: ledger_table,
    JOB_RUNS: job_run_table,
    STATISTICS: statistics_table,
}
"""By their usual names."""


def _table(settings: Settings, usual_name: str, *parts: sa.Column[Any] | sa.Index) -> sa.Table:
    schema, name = table_beside(settings, usual_name)
    return sa.Table(name, sa.MetaData(), *parts, schema=schema)


def schema_and_name(name: str) -> tuple[str | None, str]:
    """The two parts of a table's name; a name without schema is looked for on the search path."""
    schema, _, table = name.rpartition(".")
    return schema or None, table


def table_beside(settings: Settings, name: str) -> tuple[str | None, str]:
    """Schema and name of a table of the library's: next to that of the entries, and for that one alone.

    Two tables of entries in one schema share nothing: where theirs is not the usual name, it is appended.
    """
    schema, entries = schema_and_name(settings.table)
    return schema, name if entries == USUAL_NAME else identifier(f"{name}_{entries}")


def index_names(table: str) -> tuple[str, str]:
    """Those of the table of the entries that `db upgrade` makes: a run's timeline, and the time."""
    return identifier(f"ix_{table}_timeline"), identifier(f"ix_{table}_created_at")


def identifier(name: str) -> str:
    """A name that PostgreSQL takes; a longer one is cut, and still differs from all others."""
    encoded = name.encode()
    if len(encoded) <= _MOST_NAME_BYTES:
        return name
    digest = sha256(encoded).hexdigest()[:_DIGEST_CHARS]
    return f"{encoded[: _MOST_NAME_BYTES - _DIGEST_CHARS - 1].decode(errors='ignore')}_{digest}"


def storable(text: str) -> str:
    """The text as every database takes it: lone surrogates and NUL become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")


def escape(text: str) -> str:
    """The text in ASCII, for a database of any encoding; JSON stays the same JSON."""
    return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)


def batch_key(batch_id: str) -> str:
    """What a batch is known by in the tables; a forged id may be any text."""
    return escape(storable(batch_id))[:_MAX_BATCH_ID_CHARS]
