"""What hosts use in their own tests."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, LogCategory, Settings, execution_logger
from execution_logger.entry.masking import MASK
from execution_logger.shipping.thread import THREAD_NAME
from execution_logger.testing import MemoryDelivery, assert_operations, capture_entries, operations_of

MakeLogger = Callable[..., ExecutionLogger]


async def workflow(logger: ExecutionLogger = execution_logger) -> None:
    """Code of a host's, to be tested."""
    await logger.info("t", LogCategory.WORKFLOW, "started", api_key="secret")
    with pytest.raises(ZeroDivisionError):
        async with logger.timed_operation("t", LogCategory.TOOL, "search"):
            raise ZeroDivisionError
    await logger.flush()


async def test_the_ready_logger() -> None:
    """Without any argument: what the code under test logs is in the list, as it would be stored."""
    before = execution_logger._host.pipeline
    with capture_entries() as entries:
        await workflow()
    assert [(entry.level, entry.category) for entry in entries] == [
        ("info", "workflow"),
        ("info", "tool"),
        ("error", "tool"),
    ]
    assert entries[0].details == {"api_key": MASK}
    assert execution_logger._host.pipeline is before, "nothing is left of it"


def test_the_list_is_filled_at_the_call(make_logger: MakeLogger) -> None:
    """Nothing has to be waited for, and a call returns the very entry."""
    logger = make_logger()
    with capture_entries(logger) as entries:
        assert entries == []
        entry = logger.sync.info("t", "agent", "hello")
        assert entries[0] is entry


async def test_all_ways_to_a_logger(make_logger: MakeLogger) -> None:
    """Bound, plain, in tasks and in threads."""
    logger = make_logger()
    bound = logger.bind(step="s")
    with capture_entries(logger) as entries:
        await bound.info("t", "agent", "bound")
        logger.sync.info("t", "agent", "plain")
        await asyncio.create_task(logger.info("t", "agent", "in a task"))
        await asyncio.to_thread(bound.sync.info, "t", "agent", "in a thread")
    assert [(entry.message, entry.step) for entry in entries] == [
        ("bound", "s"),
        ("plain", None),
        ("in a task", None),
        ("in a thread", "s"),
    ]


def test_nothing_is_delivered_and_no_thread_is_needed(make_logger: MakeLogger) -> None:
    """Flush and shutdown have nothing to do."""
    delivery = MemoryDelivery()
    logger = make_logger(delivery, batch_size=1)
    with capture_entries(logger):
        logger.sync.info("t", "agent", "captured")
        assert logger.sync.flush().complete
        assert logger.sync.shutdown().complete
        assert not [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
    assert delivery.batches == []


def test_what_comes_before_and_after_is_delivered(make_logger: MakeLogger) -> None:
    """The logger goes on as if nothing had been."""
    delivery = MemoryDelivery()
    logger = make_logger(delivery, flush_interval_seconds=1000.0)
    logger.sync.info("t", "agent", "before")
    with capture_entries(logger) as entries:
        logger.sync.info("t", "agent", "captured")
    logger.sync.info("t", "agent", "after")
    assert logger.sync.flush(DEADLINE_SECONDS).delivered == 2
    assert [entry["message"] for entry in delivery.entries] == ["before", "after"]
    assert [entry.message for entry in entries] == ["captured"]


def test_it_ends_with_an_error_too(make_logger: MakeLogger) -> None:
    """As a failing test does."""
    logger = make_logger()

    def fail() -> None:
        with capture_entries(logger):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    logger.sync.info("t", "agent", "hello")
    assert logger.sync.flush(DEADLINE_SECONDS).delivered == 1


def test_one_within_another(make_logger: MakeLogger) -> None:
    """The inner one takes what is logged within it."""
    logger = make_logger()
    with capture_entries(logger) as outer:
        logger.sync.info("t", "agent", "1")
        with capture_entries(logger) as inner:
            logger.sync.info("t", "agent", "2")
        logger.sync.info("t", "agent", "3")
    assert [entry.message for entry in outer] == ["1", "3"]
    assert [entry.message for entry in inner] == ["2"]


def test_other_loggers_are_not_concerned(make_logger: MakeLogger) -> None:
    """Each has its own entries."""
    delivery = MemoryDelivery()
    one, other = make_logger(), make_logger(delivery)
    with capture_entries(one) as entries:
        other.sync.info("t", "agent", "hello")
        other.sync.flush(DEADLINE_SECONDS)
    assert entries == []
    assert len(delivery.entries) == 1


def test_the_settings_are_those_of_the_logger() -> None:
    """What they do to an entry is done; the logger may still be configured afterwards."""
    logger = ExecutionLogger(Settings(language="en"))
    with capture_entries(logger) as entries:
        with logger.sync.timed_operation("t", LogCategory.TOOL, "search"):
            pass
        assert logger.settings.language == "en"
    assert [entry.message for entry in entries] == ["search started", "search completed"]
    logger.configure(Settings(language="zh"))


def test_from_many_threads(make_logger: MakeLogger) -> None:
    """All of it, whoever logs."""
    logger, barrier = make_logger(), threading.Barrier(8)

    def log(number: int) -> None:
        barrier.wait(DEADLINE_SECONDS)
        for _ in range(100):
            logger.sync.info(str(number), "agent", "hello")

    with capture_entries(logger) as entries, ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(8)))
    assert len({entry.id for entry in entries}) == 800


async def test_the_operations_of_a_run(make_logger: MakeLogger) -> None:
    """Each before those within it, in the order of their beginnings; without other runs and entries."""
    logger = make_logger()
    with capture_entries(logger) as entries:
        async with logger.run("t", "report"):
            with logger.timed_operation(None, "agent", "research"):
                with logger.timed_operation(None, "tool", "search"):
                    await logger.info(None, "tool", "3 hits")
                with logger.timed_operation(None, "tool", "search"):
                    pass
            with logger.timed_operation(None, "agent", "write"):
                pass
        with logger.run("other"):
            pass
    expected = ["report", "  research", "    search", "    search", "  write"]
    assert operations_of(entries, "t") == expected
    assert_operations(entries, "t", expected)


def test_other_operations_than_expected(make_logger: MakeLogger) -> None:
    """The message shows what there was, and how it went."""
    logger = make_logger().sync
    with capture_entries(logger.logger) as entries:
        with pytest.raises(ZeroDivisionError), logger.run("t", "report"):
            raise ZeroDivisionError
        with logger.run("other"):
            pass
    with pytest.raises(AssertionError) as failure:
        assert_operations(entries, "t", ["report", "  search"])
    assert str(failure.value).splitlines() == [
        "run 't' has other operations than expected",
        "expected:",
        "  report",
        "    search",
        "found:",
        "  report: failed",
        "other runs: other",
    ]


def test_a_run_that_has_none() -> None:
    """Nor does anything else; a misspelt run is found."""
    assert_operations([], "t", [])
    with pytest.raises(AssertionError, match="found: none"):
        assert_operations([], "t", ["report"])
