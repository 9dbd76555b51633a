"""Entries as text that other programs read: newline-delimited JSON, and CSV."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from execution_logger.entry.entry import LogEntry
from execution_logger.store.table import FIELDS
from execution_logger.text import printable_json

_BYTE_ORDER_MARK = "\ufeff"
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")

_encode = msgspec.json.Encoder().encode


class Format(Protocol):
    """A way to write entries."""

    def head(self) -> bytes:
        """What comes before them."""

    def body(self, entries: Iterable[LogEntry]) -> bytes:
        """Some of them."""


class Ndjson:
    """Each entry as a JSON object on a line of its own, with every field, in UTF-8.

    Times are in UTC, as in "2026-11-22T02:13:53.123456Z"; a field without a value is null. What would steer
    a terminal is an escape.
    """

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def body(self, entries: Iterable[LogEntry]) -> bytes:
        """A line for each."""
        return b"".join(map(_line, entries))


class Csv:
    """A row for each entry and a column for each field, as spreadsheets read it: RFC 4180, in UTF-8.

    It begins with a byte order mark, without which Excel takes UTF-8 for something else. Details are
    JSON. A text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe in
    front: a spreadsheet would take it for a formula, and whoever can log could have it calculate
    (https://owasp.org/www-community/attacks/CSV_Injection).
    """

    def head(self) -> bytes:
        """The names of the fields."""
        return (_BYTE_ORDER_MARK + _rows([FIELDS])).encode()

    def body(self, entries: Iterable[LogEntry]) -> bytes:
        """A row for each."""
        return _rows([_cell(getattr(entry, field)) for field in FIELDS] for entry in entries).encode(
            errors="replace"
        )


FORMATS: Mapping[str, Callable[[], Format]] = {"ndjson": Ndjson, "csv": Csv}


def _line(entry: LogEntry) -> bytes:
    fields = {field: getattr(entry, field) for field in FIELDS}
    try:
        text = _encode(fields).decode()
    except UnicodeEncodeError:  # half a character in JSON that a host has stored itself
        text = json.dumps(msgspec.to_builtins(fields))
    return printable_json(text).encode() + b"\n"


def _rows(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> str | int | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    text = value if isinstance(value, str) else str(msgspec.to_builtins(value))
    return f"'{text}" if text.startswith(_FORMULA_BEGINS) else text
