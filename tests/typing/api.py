"""The public API as hosts call it. Nothing here is run: mypy checks it, the ignored errors included."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, assert_type

from fastapi import FastAPI

from execution_logger import (
    ExecutionLogger,
    ExecutionLoggerError,
    LogCategory,
    LogEntry,
    LogLevel,
    Report,
    Settings,
    SettingsError,
    SyncExecutionLogger,
    execution_logger,
)
from execution_logger.testing import MemoryDelivery, capture_entries


async def calls() -> None:
    """Every call, with what it needs and with all that it takes."""
    log = execution_logger
    assert_type(log, ExecutionLogger)
    assert_type(await log.log("t", LogLevel.INFO, LogCategory.AGENT, "m"), LogEntry)
    assert_type(await log.log("t", "fatal", "own", "m", "s", "a", "r", "c", {"x": 1}, 5), LogEntry)
    assert_type(await log.debug("t", "own", "m"), LogEntry)
    assert_type(await log.info("t", LogCategory.API, "m", step="s", duration_ms=5), LogEntry)
    assert_type(await log.warning("t", LogCategory.API, "m", details=None), LogEntry)
    assert_type(await log.error("t", LogCategory.API, "m", any_other_argument=object()), LogEntry)
    assert_type(await log.exception("t", LogCategory.API, "m", exc_info=ValueError()), LogEntry)  # noqa: LOG004 - it is not run
    assert_type(await log.critical("t", LogCategory.API, "m", any_other_argument=object()), LogEntry)
    assert_type(await log.log_error(task_id="t", category="x", message="m"), LogEntry)
    assert_type(await log.log_workflow_start("t", "s", "m", "r", {}), LogEntry)
    assert_type(await log.log_workflow_complete("t", "s", "m", 5, "r", {}), LogEntry)
    assert_type(await log.log_agent_start("t", "a", "m", "c", {}), LogEntry)
    assert_type(await log.log_agent_complete("t", "a", "m", 5, "c", {}), LogEntry)
    assert_type(await log.log_agent_error("t", "a", "m", "error", "c", {}), LogEntry)
    assert_type(await log.log_tool_call("t", "a", "tool", "m", 5, {}), LogEntry)
    assert_type(await log.log_retry_start("t", "m", "r", {}), LogEntry)
    assert_type(await log.log_retry_complete("t", "m", 5, "r", {}), LogEntry)


async def wrong_calls() -> None:
    """What a type checker finds before it is run."""
    log = execution_logger
    await log.info("t", "x")  # type: ignore[call-arg]
    await log.info(5, "x", "m")  # type: ignore[arg-type]
    await log.info("t", "x", "m", details=[1])  # type: ignore[arg-type]
    await log.info("t", "x", "m", duration_ms="5")  # type: ignore[arg-type]
    await log.log_agent_error("t", "a", "m")  # type: ignore[call-arg]
    log.timed_operation("t", "x")  # type: ignore[call-arg]
    log.info("t", "x", "m").message  # type: ignore[attr-defined]  # noqa: B018 - it is a coroutine
    log.sync.info("t", "x", "m", duration_ms="5")  # type: ignore[arg-type]
    log.sync.timed_operation("t", "x")  # type: ignore[call-arg]
    await log.sync.info("t", "x", "m")  # type: ignore[misc]
    Settings(batch_size="50")  # type: ignore[arg-type]
    Settings(language="fr")  # type: ignore[arg-type]
    Settings(50)  # type: ignore[call-arg]


def entry(recorded: LogEntry) -> None:
    """What a call returns."""
    assert_type(recorded.id, str)
    assert_type(recorded.task_id, str)
    assert_type(recorded.level, str)
    assert_type(recorded.step, str | None)
    assert_type(recorded.details, dict[str, Any] | None)
    assert_type(recorded.duration_ms, int | None)
    assert_type(recorded.created_at, datetime)
    recorded.message = "other"  # type: ignore[misc]


async def timed() -> None:
    """A block, with and without a loop."""
    async with execution_logger.timed_operation("t", LogCategory.TOOL, "search", concept_id="c") as timer:
        timer.set_details({"found": 3})
        assert_type(timer.details, dict[str, Any])
    with execution_logger.sync.timed_operation("t", "tool", "search", agent_name="a", model="x") as plain:
        plain.set_details({"found": 3})


async def fields_that_are_filled_in() -> None:
    """A bound logger is a logger."""
    assert_type(execution_logger.bind(step="s", model="x"), ExecutionLogger)
    assert_type(execution_logger.context(task_id="t"), AbstractContextManager[None])
    with execution_logger.context(task_id="t"):
        assert_type(await execution_logger.bind(step="s").info("t", "x", "m"), LogEntry)
    bound = execution_logger.bind(task_id="t")
    assert_type(await bound.log(None, "info", "x", "m"), LogEntry)
    assert_type(await bound.debug(None, "x", "m"), LogEntry)
    assert_type(await bound.info(None, "x", "m"), LogEntry)
    assert_type(await bound.warning(None, "x", "m"), LogEntry)
    assert_type(await bound.error(None, "x", "m"), LogEntry)
    assert_type(await bound.exception(None, "x", "m"), LogEntry)
    assert_type(await bound.critical(None, "x", "m"), LogEntry)
    assert_type(bound.sync.critical(None, "x", "m"), LogEntry)
    assert_type(bound.sync.exception(None, "x", "m"), LogEntry)


async def ending() -> None:
    """What flush and shutdown tell."""
    report = await execution_logger.flush()
    assert_type(report, Report)
    assert_type(report.complete, bool)
    assert_type(report.dropped, dict[str, int])
    assert_type(await execution_logger.shutdown(timeout=2.5), Report)
    assert_type(execution_logger.stats(), dict[str, Any])


def without_a_loop() -> None:
    """The same calls as plain functions."""
    sync = execution_logger.sync
    assert_type(sync, SyncExecutionLogger)
    assert_type(sync.info("t", LogCategory.API, "m", step="s", own=1), LogEntry)
    assert_type(sync.log_tool_call("t", "a", "tool", "m", duration_ms=5), LogEntry)
    assert_type(sync.bind(step="s"), SyncExecutionLogger)
    assert_type(sync.flush(1), Report)
    assert_type(sync.shutdown(), Report)
    with sync.context(task_id="t"):
        pass


def configured() -> None:
    """A logger of one's own, and the ready one."""
    settings = Settings(queue="other", language="en", sensitive_keys=("kennwort",))
    assert_type(ExecutionLogger(settings, make_delivery=MemoryDelivery).settings, Settings)
    try:
        execution_logger.configure(Settings.from_environment({}))
    except SettingsError as error:
        assert_type(error, SettingsError)
    except ExecutionLoggerError:
        raise
    FastAPI(lifespan=execution_logger.lifespan)


def tests_of_hosts() -> None:
    """What was logged, in a list."""
    with capture_entries() as entries:
        assert_type(entries, list[LogEntry])
