"""The calls of ExecutionLogger as plain functions, made from its coroutines."""

import functools
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from execution_logger.api.calls import LoggingCalls
from execution_logger.shipping.flush import Report

if TYPE_CHECKING:
    from execution_logger.api.logger import ExecutionLogger

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _plain(
    method: Callable[Concatenate[LoggingCalls, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate["SyncExecutionLogger", _P], _R]:
    """The method as a function: a coroutine that never suspends has its result after one step."""

    @functools.wraps(method)
    def call(self: "SyncExecutionLogger", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            method(self.logger, *args, **kwargs).send(None)
        except StopIteration as finished:
            return cast("_R", finished.value)
        raise RuntimeError(f"{method.__name__} suspended, and must not")

    return cast("Callable[Concatenate[SyncExecutionLogger, _P], _R]", call)


def _same(
    method: Callable[Concatenate[LoggingCalls, _P], _R],
) -> Callable[Concatenate["SyncExecutionLogger", _P], _R]:
    """The method as it is: it is a plain one already."""

    @functools.wraps(method)
    def call(self: "SyncExecutionLogger", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return method(self.logger, *args, **kwargs)

    return cast("Callable[Concatenate[SyncExecutionLogger, _P], _R]", call)


class SyncExecutionLogger:
    """What `ExecutionLogger.sync` returns: the same calls without `await`.

    `logger` is the logger whose calls these are.
    """

    def __init__(self, logger: "ExecutionLogger") -> None:
        self.logger = logger

    log = _plain(LoggingCalls.log)
    debug = _plain(LoggingCalls.debug)
    info = _plain(LoggingCalls.info)
    warning = _plain(LoggingCalls.warning)
    error = _plain(LoggingCalls.error)
    exception = _plain(LoggingCalls.exception)
    critical = _plain(LoggingCalls.critical)
    log_error = _plain(LoggingCalls.log_error)
    log_workflow_start = _plain(LoggingCalls.log_workflow_start)
    log_workflow_complete = _plain(LoggingCalls.log_workflow_complete)
    log_agent_start = _plain(LoggingCalls.log_agent_start)
    log_agent_complete = _plain(LoggingCalls.log_agent_complete)
    log_agent_error = _plain(LoggingCalls.log_agent_error)
    log_tool_call = _plain(LoggingCalls.log_tool_call)
    log_retry_start = _plain(LoggingCalls.log_retry_start)
    log_retry_complete = _plain(LoggingCalls.log_retry_complete)
    end_run = _plain(LoggingCalls.end_run)

    timed_operation = _same(LoggingCalls.timed_operation)
    operation = _same(LoggingCalls.operation)
    run = _same(LoggingCalls.run)

    def context(self, /, **fields: Any) -> AbstractContextManager[None]:
        """See ExecutionLogger.context."""
        return self.logger.context(**fields)

    def bind(self, /, **fields: Any) -> "SyncExecutionLogger":
        """See ExecutionLogger.bind."""
        return SyncExecutionLogger(self.logger.bind(**fields))

    def stats(self) -> dict[str, Any]:
        """See ExecutionLogger.stats."""
        return self.logger.stats()

    def start(self) -> None:
        """Get ready before the first call, as `ExecutionLogger.lifespan` does; it may be called again.

        For the start of a host without a lifespan: the settings are checked, what the delivery needs is
        imported in the background thread, and what dead processes have left is sent. Waits for the imports,
        5 seconds at most, and for no server. The end needs no call: a process that exits flushes.

        Raises:
            SettingsError: naming every variable that cannot be used, its value and what is allowed.
        """
        self.logger._host.start().begin().wait()  # noqa: SLF001 - it is one of us

    def flush(
        self, timeout: float | None = None, *, until: Literal["delivered", "stored"] = "delivered"
    ) -> Report:
        """See ExecutionLogger.flush; waits in the calling thread."""
        return self.logger.begin_flush(timeout, until=until).wait()

    def shutdown(self, timeout: float | None = None) -> Report:
        """See ExecutionLogger.shutdown; waits in the calling thread."""
        return self.logger.begin_shutdown(timeout).wait()
