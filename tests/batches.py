"""Encoded entries and batches of them, good and bad, as they come out of a queue."""

import json
from collections.abc import Mapping
from typing import Any

from uuid_utils import uuid7

CREATED_AT = "2026-11-22T02:13:53.123456Z"


def fields(**changed: Any) -> dict[str, Any]:
    """An entry's fields, with an id of its own; a field that is changed to `...` is absent."""
    usual = {
        "id": str(uuid7()),
        "task_id": "t",
        "level": "info",
        "category": "agent",
        "message": "hello",
        "created_at": CREATED_AT,
    }
    return {name: value for name, value in {**usual, **changed}.items() if value is not ...}


def encoded(entry: Any = None, /, **changed: Any) -> str:
    """`fields(**changed)`, or anything else, as JSON."""
    return json.dumps(fields(**changed) if entry is None else entry)


def batch(*entries: str) -> str:
    """Encoded entries as one JSON array."""
    return f"[{','.join(entries)}]"


BAD: Mapping[str, str] = {
    "a number": "5",
    "a text": '"text"',
    "a text that is an entry": json.dumps(encoded()),
    "null": "null",
    "an array": "[[1]]",
    "an empty object": "{}",
    "no id": encoded(id=...),
    "an id that is null": encoded(id=None),
    "no task": encoded(task_id=...),
    "no level": encoded(level=None),
    "no category": encoded(category=...),
    "no message": encoded(message=...),
    "no time": encoded(created_at=...),
    "a time that is none": encoded(created_at="soon"),
    "NaN": encoded(details={"x": float("nan")}),
    "nothing JSON takes": '{"a": "\ud800"}',
}
"""Entries that no database takes, by what is wrong with them."""

BAD_ON_POSTGRESQL: Mapping[str, str] = {
    **BAD,
    "an id that is no UUID": encoded(id="x"),
    "a duration that is no number": encoded(duration_ms="long"),
    "a duration beyond 32 bits": encoded(duration_ms=2**31),
    "NUL in a text": encoded(message="\0"),
    "NUL in the details": encoded(details={"x": ["\0"]}),
    "a time that never comes": encoded(created_at="infinity"),
    "a time beyond Python's": encoded(created_at="20000-01-01T00:00:00Z"),
}
"""What its types refuse as well."""
