"""The sink for loguru: each message is an entry, by way of a queue, too."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger as log

from anything import Anything, plain_texts
from documents import Document
from execution_logger import LogEntry, execution_logger
from execution_logger.integrations.loguru import Sink
from execution_logger.shipping.thread import THREAD_NAME
from execution_logger.testing import capture_entries

if TYPE_CHECKING:
    from loguru import Record

PAGE = Document("docs/integrations/loguru.md")


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What the ready instance records."""
    with capture_entries() as entries:
        yield entries


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Loguru's only logger has no sinks and no patcher, before and after."""
    log.remove()
    yield
    log.remove()
    log.configure(patcher=_unpatched)


def _unpatched(record: "Record") -> None: ...


def details(entry: LogEntry) -> dict[str, Any]:
    """Those of the caller, without the place in the code."""
    rest = dict(entry.details or {})
    assert "test_loguru_sink" in rest.pop("logger")
    assert rest.pop("source").startswith("test_loguru_sink:")
    return rest


def test_the_example_of_the_page(entries: list[LogEntry]) -> None:
    """Messages of a run are its entries."""
    PAGE.run_example("loguru")["handle"]("task-1")
    begun, packed, failed, _ = entries
    assert {entry.task_id for entry in entries} == {"task-1"}
    assert packed.parent_id == failed.parent_id == begun.operation_id is not None
    assert (packed.level, packed.category, packed.message, packed.step) == (
        "info",
        "app",
        "3 items packed",
        "pack",
    )
    assert packed.details is not None
    assert packed.details["customer"] == "c-1"
    assert failed.level == "error"
    assert failed.details is not None
    assert failed.details["exception"]["type"] == "ConnectionError"
    assert "in handle" in failed.details["exception"]["traceback"]


def test_the_context_of_messages_that_go_through_a_queue(entries: list[LogEntry]) -> None:
    """They keep their run, and what loguru has written of the traceback."""
    PAGE.run_example("loguru-context")
    log.add(Sink(), format="{message}", enqueue=True)
    with execution_logger.context(tenant="acme"), execution_logger.sync.run("t") as run:
        log.bind(step="s").info("m")
        try:
            int("no")
        except ValueError:
            log.exception("failed")
    log.info("outside")
    log.complete()
    named = {entry.message: entry for entry in entries}
    assert [(named[m].task_id, named[m].parent_id) for m in ("m", "failed", "outside")] == [
        ("t", run.operation_id),
        ("t", run.operation_id),
        ("app", None),
    ]
    assert (named["m"].step, details(named["m"])) == ("s", {"tenant": "acme"})
    text = details(named["failed"])["exception"]
    assert text.startswith("Traceback")
    assert "ValueError" in text


def test_extra_fills_columns_and_details(entries: list[LogEntry]) -> None:
    """By `bind`, by `contextualize` and by the call."""
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
    log.add(Sink())
    with log.contextualize(**columns):
        log.bind(items=[1], logger="theirs").info("{n} items", n=1)
    (entry,) = entries
    assert {name: getattr(entry, name) for name in columns} == columns
    assert entry.message == "1 items"
    assert entry.details is not None
    assert (entry.details["items"], entry.details["n"]) == ([1], 1)
    assert entry.details["logger"] == "theirs"
    assert "test_loguru_sink" in entry.details["_logger"]


def test_levels(entries: list[LogEntry]) -> None:
    """Loguru's own and the host's keep their names, and their numbers."""
    log.add(Sink(), level=0)
    log.level("notice", no=23)
    for level in ("TRACE", "DEBUG", "INFO", "SUCCESS", "notice", "WARNING", "ERROR", "CRITICAL"):
        log.log(level, "m")
    levels = [entry.level for entry in entries]
    assert levels == ["trace", "debug", "info", "success", "notice", "warning", "error", "critical"]
    numbers = [details(entry).get("levelno") for entry in entries]
    assert numbers == [5, None, None, 25, 23, None, None, None]


def test_outside_any_run(entries: list[LogEntry]) -> None:
    """The `task_id` and the category are the sink's."""
    log.add(Sink(task_id="host-1", category="web"))
    log.info("m")
    with execution_logger.context(task_id="t"):
        log.info("m")
    assert [(entry.task_id, entry.category) for entry in entries] == [("host-1", "web"), ("t", "web")]


def test_records_of_logging(entries: list[LogEntry]) -> None:
    """Passed on as loguru's documentation has it, those that sending entries has caused are left out."""

    def patched(name: str, thread_name: str) -> Any:
        def patch(record: "Record") -> None:
            record["name"] = name
            record["thread"].name = thread_name

        return log.patch(patch)

    log.add(Sink())
    for name, thread_name in (
        ("host", "MainThread"),
        ("execution_logger", "MainThread"),
        ("kombu", THREAD_NAME),
    ):
        patched(name, thread_name).log(logging.getLevelName(30), "m")
    assert [(entry.details or {})["logger"] for entry in entries] == ["host"]


@given(st.integers(0, 2**32), st.dictionaries(plain_texts, st.none()))
def test_anything_is_recorded(seed: int, names: dict[str, None]) -> None:
    """Whatever `extra` holds: one entry, and no error."""
    anything = Anything(seed)
    extra = {name: anything.value() for name in [*names, "task_id", "category", "duration_ms", "exception"]}
    sink = log.add(Sink(), format="{message}", catch=False)
    with capture_entries() as entries:
        log.patch(lambda record: record["extra"].update(extra)).info("m")
    log.remove(sink)
    assert len(entries) == 1
