"""What each call records, and that nothing that is passed is lost."""

import inspect
import logging
from collections.abc import Iterator
from datetime import UTC
from enum import Enum
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
    "log": ({"level": "notice", "category": "x"}, {}),
    "debug": ({"category": "x"}, {"level": "debug"}),
    "info": ({"category": "x"}, {"level": "info"}),
    "warning": ({"category": "x"}, {"level": "warning"}),
    "error": ({"category": "x"}, {"level": "error"}),
    "critical": ({"category": "x"}, {"level": "critical"}),
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
    common["operation_id"] = timer.operation_id
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


class Kind(Enum):
    """A host's own levels."""

    BAD = "ERROR"


class Text(str, Enum):  # noqa: UP042 - hosts have them
    """The same, as texts."""

    BAD = "ERROR"


@pytest.mark.parametrize("level", ["ERROR", "Err", logging.ERROR, LogLevel.ERROR, Kind.BAD, Text.BAD])
async def test_a_known_level_is_recorded_by_its_own_name(level: Any, entries: list[LogEntry]) -> None:
    """However another logger calls it."""
    assert (await LOGGER.log("t", level, "x", "m")).level == "error"
    assert LOGGER.sync.log(task_id="t", level=level, category="x", message="m").level == "error"


def exception_of(entry: LogEntry) -> dict[str, Any]:
    """What is in its details of an exception."""
    assert entry.details is not None
    exception: dict[str, Any] = entry.details["exception"]
    return exception


class TestExceptions:
    """The exception that is handled, with its traceback."""

    async def test_exception(self, entries: list[LogEntry]) -> None:
        """An error entry; in both ways of calling."""
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            await LOGGER.exception("t", "x", "it failed")
            LOGGER.sync.exception("t", "x", "it failed")
        assert len(entries) == 2
        for entry in entries:
            assert (entry.level, entry.message) == ("error", "it failed")
            exception = exception_of(entry)
            assert (exception["type"], exception["message"]) == ("ZeroDivisionError", "division by zero")
            assert exception["traceback"].startswith("Traceback (most recent call last)")
            assert "test_calls.py" in exception["traceback"]

    @pytest.mark.parametrize("name", CALLS)
    def test_every_call_takes_exc_info(self, name: str, entries: list[LogEntry]) -> None:
        """As those of the standard library do."""
        try:
            raise KeyError("k")  # noqa: TRY301 - it is what is logged
        except KeyError:
            getattr(LOGGER.sync, name)(**COMMON, **CALLS[name][0], exc_info=True)
        assert exception_of(entries[0])["type"] == "KeyError"
        assert "exc_info" not in (entries[0].details or {})

    def test_which_one(self, entries: list[LogEntry]) -> None:
        """One that is passed, or the middle of `sys.exc_info()`."""
        error = ValueError("passed")
        LOGGER.sync.info("t", "x", "m", exc_info=error)
        LOGGER.sync.exception("t", "x", "m", exc_info=(ValueError, error, None))
        assert [exception_of(entry)["message"] for entry in entries] == ["passed", "passed"]

    @pytest.mark.parametrize("exc_info", [1, 2, "yes", 1.0, object()])
    def test_any_true_value_asks_for_the_one_that_is_handled(
        self, exc_info: Any, entries: list[LogEntry]
    ) -> None:
        """As in the standard library, where `exc_info=1` is usual."""
        try:
            raise KeyError("k")  # noqa: TRY301 - it is what is logged
        except KeyError:
            LOGGER.sync.error("t", "x", "m", exc_info=exc_info)
        assert exception_of(entries[0])["type"] == "KeyError"
        assert "exc_info" not in (entries[0].details or {})

    @pytest.mark.parametrize("exc_info", [None, False, 0, (), (None, None, None)])
    def test_no_false_value_does(self, exc_info: Any, entries: list[LogEntry]) -> None:
        """Whatever is handled."""
        try:
            raise KeyError("k")  # noqa: TRY301 - it is not logged
        except KeyError:
            LOGGER.sync.error("t", "x", "m", exc_info=exc_info)
        assert entries[0].details is None

    @pytest.mark.parametrize("exc_info", [None, False, True, 0, 1, (None, None, None), ()])
    def test_none(self, exc_info: Any, entries: list[LogEntry]) -> None:
        """Where none is handled, none is stored."""
        LOGGER.sync.exception("t", "x", "m", exc_info=exc_info)
        assert entries[0].details is None

    def test_somebody_elses_word(self, entries: list[LogEntry]) -> None:
        """It is kept as any other argument is, where no exception is handled."""
        LOGGER.sync.info("t", "x", "m", exc_info="text", other=1)
        assert entries[0].details == {"exc_info": "text", "other": 1}

    def test_secrets_and_size(self, entries: list[LogEntry]) -> None:
        """Masked and cut like any other value."""
        try:
            raise ValueError("password=hunter2 " + "x" * 1_000_000)  # noqa: TRY301 - as above
        except ValueError:
            LOGGER.sync.exception("t", "x", "m")
        assert len(str(entries[0].details)) < 300_000
        assert "hunter2" not in str(entries[0].details)
