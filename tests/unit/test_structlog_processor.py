"""The processor for structlog: each event is an entry, and goes on as it was."""

import copy
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from anything import Anything, plain_texts
from documents import Document
from execution_logger import LogEntry, execution_logger
from execution_logger.integrations.structlog import Processor
from execution_logger.shipping.thread import THREAD_NAME
from execution_logger.testing import capture_entries

PAGE = Document("docs/integrations/structlog.md")


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What the ready instance records."""
    with capture_entries() as entries:
        yield entries


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The configuration of structlog is the process's, and what is bound the thread's."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def bound(*processors: Any, logger: Any = None) -> Any:
    """A logger of structlog's with these processors, which returns what it would write."""
    return structlog.wrap_logger(
        logger or structlog.ReturnLogger(),
        processors=list(processors),
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )


@pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")  # of structlog's, on Python 3.12
def test_the_example_of_the_page(entries: list[LogEntry], capsys: pytest.CaptureFixture[str]) -> None:
    """Events of a run are its entries, with what the context variables have, and are written as ever."""
    PAGE.run_example("structlog")["handle"]("task-1")
    begun, packed, failed, _ = entries
    assert {entry.task_id for entry in entries} == {"task-1"}
    assert packed.parent_id == failed.parent_id == begun.operation_id is not None
    assert (packed.level, packed.category, packed.message, packed.step) == ("info", "app", "packed", "pack")
    assert packed.details == {"items": 3, "customer": "c-1"}
    assert failed.level == "error"
    assert failed.details is not None
    assert failed.details["exception"]["type"] == "ConnectionError"
    assert "in handle" in failed.details["exception"]["traceback"]
    written = capsys.readouterr().out
    assert "packed" in written
    assert "Traceback" in written


def test_keys_fill_columns_and_details(entries: list[LogEntry]) -> None:
    """And the event dict goes on unchanged."""
    columns = {
        "task_id": "t",
        "step": "s",
        "agent_name": "a",
        "roadmap_id": "r",
        "concept_id": "c",
        "duration_ms": 5,
        "category": "tool",
        "operation_id": str(uuid4()),
        "parent_id": str(uuid4()),
    }
    event_dict = {"event": "m", **columns, "items": [1], "level": "warn"}
    before = copy.deepcopy(event_dict)
    assert Processor()(None, "info", event_dict) is event_dict
    assert event_dict == before
    (entry,) = entries
    assert {name: getattr(entry, name) for name in columns} == columns
    assert (entry.message, entry.level, entry.details) == ("m", "warning", {"items": [1]})


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("debug", "debug"),
        ("warn", "warning"),
        ("exception", "error"),
        ("fatal", "critical"),
        ("trace", "trace"),
    ],
)
def test_levels(entries: list[LogEntry], method: str, level: str) -> None:
    """That of the method, unless a processor has found one."""
    Processor()(None, method, {"event": "m"})
    Processor()(None, method, {"event": "m", "level": "NOTICE"})
    Processor()(None, method, {"event": "m", "level": 40})
    assert [entry.level for entry in entries] == [level, "notice", "error"]


def test_tracebacks(entries: list[LogEntry]) -> None:
    """In each form that structlog knows, before and after its own processors."""
    log, formatted = bound(Processor()), bound(structlog.processors.format_exc_info, Processor())
    try:
        int("no")
    except ValueError as error:
        log.exception("m")
        log.info("m", exc_info=error)
        log.info("m", exc_info=(ValueError, error, error.__traceback__))
        formatted.exception("m")
    log.info("m", exc_info=False)
    found = [(entry.details or {}).get("exception") for entry in entries]
    assert found[0] == found[1] == found[2]
    assert found[0] is not None
    assert "test_tracebacks" in found[0]["traceback"]
    assert "test_tracebacks" in str(found[3])
    assert found[4] is None


def test_as_the_last_one(entries: list[LogEntry]) -> None:
    """Nothing else is done with the event, and the host's call returns."""
    assert bound(Processor(is_last=True), logger=structlog.PrintLogger()).info("m", a=1) is None
    assert [(entry.message, entry.details) for entry in entries] == [("m", {"a": 1})]


def test_outside_any_run(entries: list[LogEntry]) -> None:
    """The `task_id` and the category are the processor's."""
    bound(Processor(task_id="host-1", category="web")).info("m")
    with execution_logger.context(task_id="t"):
        bound(Processor(task_id="host-1", category="web")).info("m")
    assert [(entry.task_id, entry.category) for entry in entries] == [("host-1", "web"), ("t", "web")]


async def test_calls_that_are_awaited(entries: list[LogEntry]) -> None:
    """Processors run in another thread then, in the context of the call."""
    async with execution_logger.run("t"):
        await bound(Processor()).ainfo("m")
    assert [entry.task_id for entry in entries] == ["t", "t", "t"]


def test_records_of_logging(entries: list[LogEntry]) -> None:
    """In a chain for them, those that sending entries has caused are left out."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, Processor()],
        processors=[structlog.processors.JSONRenderer()],
    )
    for name, thread_name in (
        ("host", "MainThread"),
        ("execution_logger", "MainThread"),
        ("kombu", THREAD_NAME),
    ):
        record = logging.LogRecord(name, 30, __file__, 1, "%s", ("m",), None)
        record.threadName = thread_name
        formatter.format(record)
    (entry,) = entries
    assert (entry.message, entry.level, entry.details) == ("m", "warning", None)


@given(st.integers(0, 2**32), st.dictionaries(plain_texts, st.none()))
def test_anything_is_recorded(seed: int, names: dict[str, None]) -> None:
    """Whatever the event and its keys are: one entry, and no error."""
    anything = Anything(seed)
    event_dict = {
        name: anything.value()
        for name in [*names, "event", "level", "task_id", "category", "exc_info", "_record"]
    }
    with capture_entries() as entries:
        Processor()(None, "info", dict(event_dict))
    assert len(entries) == 1
