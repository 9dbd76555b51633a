"""What a call returns."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from execution_logger import LogCategory, LogEntry, LogLevel
from execution_logger.entry.entry import (
    IDENTIFIERS,
    MAX_DURATION_MS,
    MAX_IDENTIFIER_CHARS,
    REQUIRED,
    TREE,
)
from execution_logger.levels import known_level

NOW = datetime(2026, 11, 22, 2, 13, 53, 123456, UTC)
UNKNOWN: list[Any] = ["notice", "NOTICE", "", "warn ", 35, None, True, 2.5, ("error",), {}]
ENTRY = LogEntry("id", NOW, "task", "info", "agent", "message")


def test_levels_are_their_strings() -> None:
    """Hosts compare them with texts, and write them into texts."""
    assert list(LogLevel) == ["debug", "info", "warning", "error", "critical"]
    assert [level.name for level in LogLevel] == ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    assert f"{LogLevel.INFO} {LogLevel.INFO!s}" == "info info"
    assert {"info": 1}[LogLevel.INFO] == 1


@pytest.mark.parametrize(
    ("passed", "level"),
    [
        *((name, name) for name in ("debug", "info", "warning", "error", "critical")),
        *((name.upper(), name) for name in ("debug", "info", "warning", "error", "critical")),
        ("Warning", "warning"),
        ("warn", "warning"),
        ("WARN", "warning"),
        ("fatal", "critical"),
        ("FATAL", "critical"),
        ("err", "error"),
        ("crit", "critical"),
        (logging.DEBUG, "debug"),
        (logging.WARNING, "warning"),
        (logging.CRITICAL, "critical"),
        *((level, level) for level in UNKNOWN),
    ],
)
def test_known_levels(passed: Any, level: Any) -> None:
    """Whatever another logger calls them; what nobody knows stays as it is."""
    assert known_level(passed) == level
    assert type(known_level(passed)) is type(level)


def test_a_level_is_made_of_any_of_its_names() -> None:
    """As a filter of the page's API is; what nobody knows is none."""
    assert LogLevel("WARN") is LogLevel.WARNING
    assert LogLevel("Fatal") is msgspec.convert("fatal", LogLevel) is LogLevel.CRITICAL
    with pytest.raises(ValueError, match="notice"):
        LogLevel("notice")


def test_categories_are_their_strings() -> None:
    """Hosts compare them with texts, and write them into texts."""
    assert list(LogCategory) == ["workflow", "agent", "tool", "database", "api", "retry"]
    assert [category.name for category in LogCategory] == [
        "WORKFLOW",
        "AGENT",
        "TOOL",
        "DATABASE",
        "API",
        "RETRY",
    ]
    assert json.dumps({LogCategory.API: LogCategory.API}) == '{"api": "api"}'


def test_all_fields_are_readable() -> None:
    """Those of a row; what was not passed is None."""
    assert {name: getattr(ENTRY, name) for name in ENTRY.__struct_fields__} == {
        "id": "id", "created_at": NOW, "task_id": "task", "level": "info", "category": "agent",
        "message": "message", "step": None, "agent_name": None, "roadmap_id": None, "concept_id": None,
        "details": None, "duration_ms": None, "operation_id": None, "parent_id": None, "trace_id": None,
        "span_id": None,
    }  # fmt: skip


def test_it_does_not_change() -> None:
    """What is recorded is recorded."""
    with pytest.raises(AttributeError):
        ENTRY.message = "other"  # type: ignore[misc]


def test_what_is_none_is_not_in_the_json_and_what_is_empty_is() -> None:
    """A duration of 0 ms is one."""
    more = msgspec.structs.replace(ENTRY, details={}, duration_ms=0, step="")
    added = {"details": {}, "duration_ms": 0, "step": ""}
    assert json.loads(msgspec.json.encode(more)) == json.loads(msgspec.json.encode(ENTRY)) | added


def test_a_time_without_a_fraction_has_none_in_the_json() -> None:
    """Whoever parses it must expect both."""
    whole = msgspec.structs.replace(ENTRY, created_at=NOW.replace(microsecond=0))
    assert json.loads(msgspec.json.encode(whole))["created_at"] == "2026-11-22T02:13:53Z"


def test_limits_fit_the_database() -> None:
    """An index of PostgreSQL takes 2,704 bytes, its integer 32 bits."""
    assert len(("😀" * MAX_IDENTIFIER_CHARS).encode()) < 2704
    assert MAX_DURATION_MS == 0x7FFFFFFF


def test_identifiers_are_fields() -> None:
    """All texts but the message, and those that are never None are among them."""
    assert set(REQUIRED) <= set(IDENTIFIERS) < set(LogEntry.__struct_fields__)
    assert set(LogEntry.__struct_fields__) - set(IDENTIFIERS) - set(TREE) == {
        "id", "created_at", "message", "details", "duration_ms",
    }  # fmt: skip
