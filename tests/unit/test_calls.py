"""What each call records, and that nothing that is passed is lost."""

import inspect
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anything import Anything
from execution_logger import ExecutionLogger, LogCategory, LogEntry, LogLevel, Settings
from execution_logger.testing import capture_entries

LOGGER = ExecutionLogger(Settings())


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What is recorded."""
    with capture_entries(LOGGER) as recorded:
        yield recorded


def fields_of(entry: LogEntry) -> dict[str, Any]:
    """Those that have a value, apart from id and time."""
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return {
        name: value
        for name, value in fields.items()
        if value is not None and name not in ("id", "created_at")
    }


COMMON = {"task_id": "t", "message": "m"}
OPTIONAL: dict[str, Any] = {"roadmap_id": "r", "concept_id": "c", "details": {"a": 1}, "duration_ms": 5}

# Method: the arguments of its own, and what it adds to the entry.
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "log": ({"level": "fatal", "category": "x"}, {}),
    "debug": ({"category": "x"}, {"level": "debug"}),
    "info": ({"category": "x"}, {"level": "info"}),
    "warning": ({"category": "x"}, {"level": "warning"}),
    "error": ({"category": "x"}, {"level": "error"}),
    "log_error": ({"category": "x"}, {"level": "error"}),
    "log_workflow_start": ({"step": "s"}, {"level": "info", "category": "workflow"}),
    "log_workflow_complete": ({"step": "s"}, {"level": "info", "category": "workflow"}),
    "log_agent_start": ({"agent_name": "a"}, {"level": "info", "category": "agent"}),
    "log_agent_complete": ({"agent_name": "a"}, {"level": "info", "category": "agent"}),
    "log_agent_error": (
        {"agent_name": "a", "error": "e"},
        {"level": "error", "category": "agent", "details": {"error": "e"}},
    ),
    "log_tool_call": (
        {"agent_name": "a", "tool_name": "n"},
        {"level": "debug", "category": "tool", "details": {"tool_name": "n"}},
    ),
    "log_retry_start": ({}, {"level": "info", "category": "retry"}),
    "log_retry_complete": ({}, {"level": "info", "category": "retry"}),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_with_what_it_needs(name: str, entries: list[LogEntry]) -> None:
    """It returns the entry just recorded."""
    own, added = CALLS[name]
    entry = await getattr(LOGGER, name)(**COMMON, **own)
    passed = {key: value for key, value in own.items() if key not in ("error", "tool_name")}
    assert fields_of(entry) == COMMON | passed | added
    assert entries == [entry]
    assert entry.created_at.tzinfo is UTC


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_with_all_that_it_takes(name: str, entries: list[LogEntry]) -> None:
    """By keyword."""
    own, added = CALLS[name]
    taken = inspect.signature(getattr(LOGGER, name)).parameters
    optional = {
        key: value for key, value in (OPTIONAL | {"step": "s", "agent_name": "a"}).items() if key in taken
    }
    entry = await getattr(LOGGER, name)(**COMMON, **{**optional, **own})
    passed = {key: value for key, value in own.items() if key not in ("error", "tool_name")}
    details = {"details": {**added.get("details", {}), **optional["details"]}}
    assert fields_of(entry) == COMMON | optional | passed | added | details


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_with_all_that_it_takes_by_position(name: str, entries: list[LogEntry]) -> None:
    """In the order of the contract, the entry is the same."""
    values = {
        **COMMON,
        **OPTIONAL,
        "step": "s",
        "agent_name": "a",
        "level": "l",
        "category": "x",
        "error": "e",
        "tool_name": "n",
    }
    names = [name for name in inspect.signature(getattr(LOGGER, name)).parameters if name != "extra"]
    by_keyword = await getattr(LOGGER, name)(**{name: values[name] for name in names})
    by_position = await getattr(LOGGER, name)(*(values[name] for name in names))
    assert fields_of(by_keyword) == fields_of(by_position)


@pytest.mark.parametrize("name", CALLS)
async def test_extra_arguments_are_kept_in_details(name: str, entries: list[LogEntry]) -> None:
    """Whatever their names; a key of `details` wins."""
    own, added = CALLS[name]
    extra = {"self": 1, "logger": 2, "model": 3}
    entry = await getattr(LOGGER, name)(**COMMON, **own, details={"model": "mine"}, **extra)
    assert entry.details == {**added.get("details", {}), **extra, "model": "mine"}


@pytest.mark.parametrize(("name", "key"), [("log_agent_error", "error"), ("log_tool_call", "tool_name")])
async def test_details_of_the_call_win(name: str, key: str, entries: list[LogEntry]) -> None:
    """As in `{"error": error, **details}`; the caller's dict is not touched."""
    details = {key: "mine", "more": 1}
    entry = await getattr(LOGGER, name)(**COMMON, **CALLS[name][0], details=details)
    assert entry.details == details == {key: "mine", "more": 1}
    assert next(iter(entry.details or {})) == key


async def test_the_constants_are_accepted_everywhere(entries: list[LogEntry]) -> None:
    """As are their strings."""
    first = await LOGGER.log("t", LogLevel.ERROR, LogCategory.API, "m")
    second = await LOGGER.log("t", "error", "api", "m")
    assert fields_of(first) == fields_of(second)


async def test_entries_are_in_the_order_of_the_calls(entries: list[LogEntry]) -> None:
    """By time and by id."""
    for number in range(100):
        await LOGGER.info("t", "x", str(number))
    assert [entry.message for entry in sorted(entries, key=lambda entry: (entry.created_at, entry.id))] == [
        str(number) for number in range(100)
    ]


async def test_timed_operation_records_its_fields(entries: list[LogEntry]) -> None:
    """In both entries; the name is the step."""
    names = {"agent_name": "a", "concept_id": "c", "roadmap_id": "r"}
    async with LOGGER.timed_operation("t", LogCategory.AGENT, "search", **names, model="x", self=1) as timer:
        timer.set_details({"found": 3})
    begun, ended = entries
    common = {"task_id": "t", "category": "agent", "step": "search", "level": "info", **names}
    extra = {"model": "x", "self": 1}
    assert fields_of(begun) == {**common, "message": "search 开始", "details": extra}
    duration_ms = ended.duration_ms
    assert duration_ms is not None
    assert fields_of(ended) == {
        **common, "message": "search 完成", "details": {"found": 3, **extra}, "duration_ms": duration_ms,
    }  # fmt: skip


def test_timed_operation_speaks_the_language_of_the_settings() -> None:
    """English, if that is asked for."""
    logger = ExecutionLogger(Settings(language="en"))
    with capture_entries(logger) as entries, logger.timed_operation("t", "x", "search"):
        pass
    assert [entry.message for entry in entries] == ["search started", "search completed"]


@given(st.sampled_from(list(CALLS)), st.integers(0, 2**32))
def test_a_call_never_raises_because_of_its_data(name: str, seed: int) -> None:
    """Whatever is passed as whatever, bound fields and extra arguments included."""
    anything = Anything(seed)
    names = [name for name in inspect.signature(getattr(LOGGER, name)).parameters if name != "extra"]
    values = {name: anything.details() if name == "details" else anything.value() for name in names}
    logger = LOGGER.bind(step=anything.value(), bound=anything.value())
    with capture_entries(LOGGER) as entries, logger.context(in_context=anything.value()):
        entry = getattr(logger.sync, name)(**values, extra_argument=anything.value())
        with logger.sync.timed_operation(anything.value(), anything.value(), anything.value()) as timer:
            timer.set_details(anything.details())
    assert entries[0] == entry
    assert len(entries) == 3
