"""The statements, as files: what stands in braces is filled in for the database and the table as they are."""

import importlib.resources
from collections.abc import Mapping
from functools import cache

from sqlalchemy import Dialect, Table

_WORDS: Mapping[str, Mapping[str, str]] = {
    "postgresql": {
        "moment": "timestamptz",
        "least": "least",
        "greatest": "greatest",
        "age": "date_part('epoch', now() - stored_at)",
        "delay": "date_part('epoch', stored_at - newest_at)",
        "day": "CAST(stored_at AT TIME ZONE 'UTC' AS date)",
        "ids": "array_agg(batch_id)",
        "lock": "FOR UPDATE SKIP LOCKED",
    },
    "sqlite": {
        "moment": "text",
        "least": "min",
        "greatest": "max",
        "age": "(julianday('now') - julianday(stored_at)) * 86400.0",
        "delay": "(julianday(stored_at) - julianday(newest_at)) * 86400.0",
        "day": "date(stored_at)",
        "ids": "json_group_array(batch_id)",
        "lock": "",
    },
}
"""What the two databases call differently."""


def statement(name: str, dialect: Dialect, **parts: str | Table) -> str:
    """The text of the file `<name>.sql`, with these parts."""
    shown = {key: quoted(part, dialect) if isinstance(part, Table) else part for key, part in parts.items()}
    return _read(name).format_map({**_WORDS[dialect.name], **shown})


def quoted(table: Table, dialect: Dialect) -> str:
    """The name of a table as it stands in a statement."""
    return dialect.identifier_preparer.format_table(table)


@cache
def _read(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(f"{name}.sql").read_text("utf-8")
