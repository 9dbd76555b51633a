"""Entries as text that other programs read."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from execution_logger import LogEntry
from execution_logger.read.formats import FORMATS, Csv, Format, Ndjson
from execution_logger.store.table import FIELDS

HOSTILE = 'said "x";\n=1+1,\t你好\r\n\0'


def entry(**changed: Any) -> LogEntry:
    """A bare entry."""
    usual = {"id": "i", "task_id": "t", "level": "info", "category": "c", "message": "m"}
    return LogEntry(**{**usual, "created_at": datetime(2026, 11, 22, 2, 13, 53, 123456, UTC), **changed})


def rows_of(*entries: LogEntry) -> list[dict[str, str]]:
    """What a spreadsheet reads."""
    text = (Csv().head() + Csv().body(entries)).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_ndjson_has_every_field() -> None:
    """One object a line, whatever is in the texts."""
    text = Ndjson().head() + Ndjson().body([entry(message=HOSTILE, details={"n": 2**70}), entry()])
    first, second = map(json.loads, text.splitlines())
    assert list(first) == list(FIELDS)
    assert first["message"] == HOSTILE
    assert first["details"] == {"n": 2**70}
    assert first["created_at"] == "2026-11-22T02:13:53.123456Z"
    assert second["step"] is second["duration_ms"] is None


def test_csv_has_every_field() -> None:
    """In a column of its own, whatever is in the texts; what is absent is empty."""
    first, second = rows_of(
        entry(message=HOSTILE, details={"名": [1, None]}, duration_ms=-7, step="s"), entry()
    )
    assert list(first) == list(FIELDS)
    assert first["message"] == HOSTILE
    assert json.loads(first["details"]) == {"名": [1, None]}
    assert (first["duration_ms"], first["step"]) == ("-7", "s")
    assert first["created_at"] == "2026-11-22T02:13:53.123456Z"
    assert (second["duration_ms"], second["step"], second["details"]) == ("", "", "")


def test_csv_says_that_it_is_utf_8() -> None:
    """Excel would take it for something else."""
    assert Csv().head().startswith(b"\xef\xbb\xbfid,task_id,")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(...)"])
def test_a_text_that_a_spreadsheet_would_calculate_gets_an_apostrophe(text: str) -> None:
    """In any field; other texts and numbers stay as they are."""
    (row,) = rows_of(entry(message=text, task_id=text, category="a=b", duration_ms=-1))
    assert (row["message"], row["task_id"]) == (f"'{text}", f"'{text}")
    assert (row["category"], row["duration_ms"]) == ("a=b", "-1")


@pytest.mark.parametrize("form", FORMATS.values())
def test_half_a_character_is_no_error(form: Any) -> None:
    """A host may have stored such JSON itself."""
    written: Format = form()
    assert written.body([entry(details={"a": "\ud800"}), entry()]).count(b"\n") == 2
