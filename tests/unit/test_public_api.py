"""The contract: names, parameters, their order and defaults, as hosts use them already."""

import inspect
import subprocess
import sys
from typing import Any

import pytest

import execution_logger
from execution_logger import ExecutionLogger, LogEntry, SyncExecutionLogger

FIELDS = ("step", "agent_name", "roadmap_id", "concept_id", "details", "duration_ms")

# Method: its required parameters, and those with a default of None.
CALLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "log": (("task_id", "level", "category", "message"), FIELDS),
    "debug": (("task_id", "category", "message"), FIELDS),
    "info": (("task_id", "category", "message"), FIELDS),
    "warning": (("task_id", "category", "message"), FIELDS),
    "error": (("task_id", "category", "message"), FIELDS),
    "critical": (("task_id", "category", "message"), FIELDS),
    "log_error": (("task_id", "category", "message"), FIELDS),
    "log_workflow_start": (("task_id", "step", "message"), ("roadmap_id", "details")),
    "log_workflow_complete": (("task_id", "step", "message"), ("duration_ms", "roadmap_id", "details")),
    "log_agent_start": (("task_id", "agent_name", "message"), ("concept_id", "details")),
    "log_agent_complete": (("task_id", "agent_name", "message"), ("duration_ms", "concept_id", "details")),
    "log_agent_error": (("task_id", "agent_name", "message", "error"), ("concept_id", "details")),
    "log_tool_call": (("task_id", "agent_name", "tool_name", "message"), ("duration_ms", "details")),
    "log_retry_start": (("task_id", "message"), ("roadmap_id", "details")),
    "log_retry_complete": (("task_id", "message"), ("duration_ms", "roadmap_id", "details")),
}
TIMED = (("task_id", "category", "operation_name"), ("agent_name", "concept_id", "roadmap_id"))

TYPES = {"details": "dict[str, Any] | None", "duration_ms": "int | None"}


def parameters_of(kind: type, name: str) -> list[tuple[str, Any, str]]:
    """The parameters of a method without `self`: name, default and kind."""
    found = list(inspect.signature(getattr(kind, name)).parameters.values())[1:]
    return [(parameter.name, parameter.default, parameter.kind.description) for parameter in found]


def wanted(required: tuple[str, ...], optional: tuple[str, ...]) -> list[tuple[str, Any, str]]:
    """Parameters that are passed by position or keyword, and any others by keyword."""
    empty = inspect.Parameter.empty
    return [
        *((name, empty, "positional or keyword") for name in required),
        *((name, None, "positional or keyword") for name in optional),
        ("extra", empty, "variadic keyword"),
    ]


@pytest.mark.parametrize("kind", [ExecutionLogger, SyncExecutionLogger])
@pytest.mark.parametrize("name", CALLS)
def test_the_parameters_of_a_call(kind: type, name: str) -> None:
    """Their names, order and defaults are fixed; anything else is accepted by keyword."""
    assert parameters_of(kind, name) == wanted(*CALLS[name])


@pytest.mark.parametrize("kind", [ExecutionLogger, SyncExecutionLogger])
def test_the_parameters_of_exception(kind: type) -> None:
    """Those of `error`, and which exception."""
    *fields, extra = wanted(*CALLS["error"])
    assert parameters_of(kind, "exception") == [*fields, ("exc_info", True, "keyword-only"), extra]


@pytest.mark.parametrize("kind", [ExecutionLogger, SyncExecutionLogger])
def test_the_parameters_of_timed_operation(kind: type) -> None:
    """As those of a call."""
    assert parameters_of(kind, "timed_operation") == wanted(*TIMED)


@pytest.mark.parametrize("kind", [ExecutionLogger, SyncExecutionLogger])
@pytest.mark.parametrize("name", [*CALLS, "timed_operation"])
def test_extra_may_have_any_name(kind: type, name: str) -> None:
    """A host's own `self` among the extra keyword arguments too."""
    own = next(iter(inspect.signature(getattr(kind, name)).parameters.values()))
    assert own.kind is inspect.Parameter.POSITIONAL_ONLY


@pytest.mark.parametrize("name", [*CALLS, "exception", "flush", "shutdown"])
def test_calls_are_coroutines(name: str) -> None:
    """They are awaited by their callers; those of `sync` are not."""
    assert inspect.iscoroutinefunction(getattr(ExecutionLogger, name))
    assert not inspect.iscoroutinefunction(getattr(SyncExecutionLogger, name))


def test_timed_operation_is_no_coroutine() -> None:
    """It is used in `async with` without `await`."""
    assert not inspect.iscoroutinefunction(ExecutionLogger.timed_operation)
    operation = ExecutionLogger.timed_operation
    assert inspect.signature(operation).return_annotation.__name__ == "TimedOperation"


@pytest.mark.parametrize("name", ["flush", "shutdown"])
@pytest.mark.parametrize("kind", [ExecutionLogger, SyncExecutionLogger])
def test_flush_and_shutdown_need_no_argument(kind: type, name: str) -> None:
    """And take a timeout; a flush can also wait until all is stored."""
    until = [("until", "delivered", "keyword-only")] if name == "flush" else []
    assert parameters_of(kind, name) == [("timeout", None, "positional or keyword"), *until]


@pytest.mark.parametrize("name", CALLS)
def test_calls_return_the_entry(name: str) -> None:
    """With what was recorded."""
    signature = inspect.signature(getattr(ExecutionLogger, name))
    assert signature.return_annotation is LogEntry
    for parameter in signature.parameters.values():
        if parameter.name in TYPES:
            assert str(parameter.annotation).replace("typing.", "") == TYPES[parameter.name]


def test_the_entry_has_all_fields() -> None:
    """Those that hosts read."""
    fields = {"id", "task_id", "level", "category", "message", *FIELDS, "created_at"}
    fields |= {"operation_id", "parent_id", "trace_id", "span_id"}
    assert set(LogEntry.__struct_fields__) == fields


@pytest.mark.parametrize("kind", [ExecutionLogger, SyncExecutionLogger])
def test_every_call_is_documented(kind: type) -> None:
    """What an editor shows."""
    public = [name for name in vars(kind) if not name.startswith("_")]
    assert set(public) >= {"flush", "shutdown", "bind", "context", "stats"}
    assert [name for name in (*public, *CALLS) if not inspect.getdoc(getattr(kind, name))] == []


def test_the_names() -> None:
    """All of them are there, and no others are meant to be used."""
    assert set(execution_logger.__all__) == {
        "ExecutionLogger", "ExecutionLoggerError", "LogCategory", "LogEntry", "LogLevel", "Report",
        "Settings", "SettingsError", "SyncExecutionLogger", "execution_logger",
    }  # fmt: skip
    assert all(hasattr(execution_logger, name) for name in execution_logger.__all__)
    assert isinstance(execution_logger.execution_logger, ExecutionLogger)


def test_the_names_are_imported_with_a_star() -> None:
    """And nothing else is."""
    names: dict[str, Any] = {}
    exec("from execution_logger import *", names)
    assert set(names) - {"__builtins__"} == set(execution_logger.__all__)


CHECKS = {
    "loads nothing that it does not need": """
import sys, execution_logger
heavy = {"celery", "kombu", "redis", "sqlalchemy", "asyncpg", "aiosqlite", "alembic", "rich"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
""",
    "starts no thread": """
import threading, execution_logger
assert threading.active_count() == 1
""",
    "reads no environment": """
import os
os.environ["EXECUTION_LOGGER_BATCH_SIZE"] = "nonsense"
import execution_logger
try:
    execution_logger.execution_logger.settings
except execution_logger.SettingsError as error:
    assert "nonsense" in str(error)
else:
    raise AssertionError
""",
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_importing_it(check: str) -> None:
    """A host that only imports it pays for nothing else."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", check], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
