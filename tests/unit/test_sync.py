"""The calls without `await`: the same entries, in hosts without a loop and in coroutines alike."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from execution_logger import ExecutionLogger, LogEntry, Settings, SettingsError, SyncExecutionLogger
from execution_logger.api.calls import LoggingCalls
from execution_logger.api.sync import _plain
from execution_logger.testing import MemoryDelivery, capture_entries

MakeLogger = Callable[..., ExecutionLogger]


@pytest.fixture
def logger() -> ExecutionLogger:
    """A logger with the settings' defaults."""
    return ExecutionLogger(Settings())


@pytest.fixture
def entries(logger: ExecutionLogger) -> Iterator[list[LogEntry]]:
    """What is recorded."""
    with capture_entries(logger) as recorded:
        yield recorded


def test_a_call_returns_the_entry(logger: ExecutionLogger, entries: list[LogEntry]) -> None:
    """At once, not a coroutine."""
    entry = logger.sync.info("t", "x", "m", details={"a": 1}, more=2)
    assert entries == [entry]
    assert (entry.level, entry.message, entry.details) == ("info", "m", {"a": 1, "more": 2})


async def test_both_ways_may_be_mixed(logger: ExecutionLogger, entries: list[LogEntry]) -> None:
    """Helper functions of a coroutine need no `await` either."""
    logger.sync.info("t", "x", "first")
    await logger.info("t", "x", "second")
    await asyncio.to_thread(logger.sync.info, "t", "x", "third")
    assert [entry.message for entry in entries] == ["first", "second", "third"]


def test_an_extra_argument_may_be_called_self(logger: ExecutionLogger, entries: list[LogEntry]) -> None:
    """As in the coroutines."""
    assert logger.sync.error("t", "x", "m", self=1).details == {"self": 1}
    with logger.sync.timed_operation("t", "x", "n", self=1):
        pass
    assert [entry.details for entry in entries] == [{"self": 1}] * 3


def test_a_timed_operation_is_a_plain_context_manager(
    logger: ExecutionLogger, entries: list[LogEntry]
) -> None:
    """Where there is no loop."""
    with logger.sync.timed_operation("t", "agent", "search") as timer:
        timer.set_details({"found": 3})
    assert [(entry.message, entry.details) for entry in entries] == [
        ("search 开始", None),
        ("search 完成", {"found": 3}),
    ]


def test_fields_are_filled_in(logger: ExecutionLogger, entries: list[LogEntry]) -> None:
    """By `bind` and by `context`, and stay so in loggers made of bound ones."""
    bound = logger.sync.bind(step="s", self=1).bind(model="x")
    with logger.sync.context(agent_name="a"):
        entry = bound.info("t", "x", "m")
    assert isinstance(bound, SyncExecutionLogger)
    assert (entry.step, entry.agent_name, entry.details) == ("s", "a", {"self": 1, "model": "x"})
    assert logger.bind(step="b").sync.info("t", "x", "m").step == "b"
    assert logger.sync.info("t", "x", "m").step is None


def test_flush_and_shutdown_wait_in_the_calling_thread(make_logger: MakeLogger) -> None:
    """And report."""
    delivery = MemoryDelivery()
    sync = make_logger(delivery).sync
    sync.info("t", "x", "first")
    report = sync.flush(10)
    assert (report.complete, report.delivered) == (True, 1)
    sync.info("t", "x", "second")
    assert sync.shutdown(10).complete
    assert [entry["message"] for entry in delivery.entries] == ["first", "second"]
    assert sync.stats()["delivered"] == 2


def test_what_raises_in_a_call_raises(logger: ExecutionLogger) -> None:
    """A call with too few arguments is a mistake of the program, not of its data."""
    with pytest.raises(TypeError, match="message"):
        logger.sync.info("t", "x")  # type: ignore[call-arg]


def test_a_call_that_waits_is_refused(logger: ExecutionLogger) -> None:
    """There is nothing that could go on with it."""

    async def waiting(_: LoggingCalls) -> Any:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waiting suspended"):
        _plain(waiting)(logger.sync)


def test_a_sync_logger_knows_its_logger(logger: ExecutionLogger) -> None:
    """For what it does not offer itself."""
    assert logger.sync.logger is logger


def test_a_host_without_a_lifespan_starts_with_one_call() -> None:
    """The delivery is made before the first request; asked again, nothing happens."""
    made: list[MemoryDelivery] = []

    def make_delivery() -> MemoryDelivery:
        made.append(MemoryDelivery())
        return made[-1]

    log = ExecutionLogger(Settings(journal=False), make_delivery=make_delivery).sync
    log.start()
    assert len(made) == 1
    log.start()
    log.info("t", "x", "m")
    assert log.shutdown().complete
    assert len(made) == 1


def test_the_start_names_every_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Flask or Django host stops there, and not with its first request."""
    monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "many")
    monkeypatch.setenv("CELERY_BROKER_URL", "redi://host/0")
    with pytest.raises(SettingsError, match=r"BATCH_SIZE='many'.*CELERY_BROKER_URL=\(hidden\): redi://"):
        ExecutionLogger().sync.start()
