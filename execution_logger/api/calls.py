"""The calls that hosts make: their names, parameters, order and defaults are a contract."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from execution_logger.api.context import merged
from execution_logger.api.operations import Record, RunOperation, TimedOperation, decorated
from execution_logger.entry.entry import NO_TREE, LogCategory, LogEntry, LogLevel, TreeIds
from execution_logger.levels import known_level
from execution_logger.settings import Settings

_DEBUG, _INFO, _WARNING, _ERROR, _CRITICAL = (level.value for level in LogLevel)
_WORKFLOW, _AGENT, _TOOL = (c.value for c in (LogCategory.WORKFLOW, LogCategory.AGENT, LogCategory.TOOL))
_RETRY = LogCategory.RETRY.value

_F = TypeVar("_F", bound=Callable[..., Any])


class LoggingCalls(ABC):
    """Every call that records an entry, in terms of one `_record`.

    All of them take `self` by position only, because `extra` may well hold a "self".
    """

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The settings in force."""

    @abstractmethod
    def _record(
        self,
        task_id: Any,
        level: Any,
        category: Any,
        message: Any,
        step: Any,
        agent_name: Any,
        roadmap_id: Any,
        concept_id: Any,
        details: Any,
        duration_ms: Any,
        extra: Mapping[str, Any],
        tree: TreeIds = NO_TREE,
        *,
        always: bool = False,
    ) -> LogEntry:
        """Record an entry: its columns in their order, what else was passed, and its ids.

        With `always` whichever run it is of, and however many entries that has.
        """

    @abstractmethod
    def _run_of(self, task_id: Any) -> Any:
        """The run of a call: the one that it names, or that which is filled in."""

    @abstractmethod
    def _end_run(self, task_id: Any) -> int:
        """Stop to count a run's entries; how many were left out because it had too many."""

    async def log(
        self,
        /,
        task_id: str | None,
        level: str,
        category: str,
        message: str,
        step: str | None = None,
        agent_name: str | None = None,
        roadmap_id: str | None = None,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        duration_ms: int | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record an entry of any level. `duration_ms` is in milliseconds; `extra` is kept in `details`.

        A known level is recorded by its own name, whether it comes as `"ERROR"`, `"warn"` or `logging.ERROR`.
        In every call `exc_info` means what it does in the standard library: the exception that is being
        handled, or the one that is passed, is in the details as `exception`, with its traceback.
        """
        return self._record(
            task_id, known_level(level), category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms, extra,
        )  # fmt: skip

    async def debug(
        self,
        /,
        task_id: str | None,
        category: str,
        message: str,
        step: str | None = None,
        agent_name: str | None = None,
        roadmap_id: str | None = None,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        duration_ms: int | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record a debug entry; see `log`."""
        return self._record(
            task_id, _DEBUG, category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms, extra,
        )  # fmt: skip

    async def info(
        self,
        /,
        task_id: str | None,
        category: str,
        message: str,
        step: str | None = None,
        agent_name: str | None = None,
        roadmap_id: str | None = None,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        duration_ms: int | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record an info entry; see `log`."""
        return self._record(
            task_id, _INFO, category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms, extra,
        )  # fmt: skip

    async def warning(
        self,
        /,
        task_id: str | None,
        category: str,
        message: str,
        step: str | None = None,
        agent_name: str | None = None,
        roadmap_id: str | None = None,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        duration_ms: int | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record a warning entry; see `log`."""
        return self._record(
            task_id, _WARNING, category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms, extra,
        )  # fmt: skip

    async def error(
        self,
        /,
        task_id: str | None,
        category: str,
        message: str,
        step: str | None = None,
        agent_name: str | None = None,
        roadmap_id: str | None = None,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        duration_ms: int | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record an error entry; see `log`."""
        return self._record(
            task_id, _ERROR, category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms, extra,
        )  # fmt: skip

    async def exception(
        self,
        /,
        task_id: str | None,
        category: str,
        message: str,
        step: str | None = None,
        agent_name: str | None = None,
        roadmap_id: str | None = None,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        duration_ms: int | None = None,
        *,
        exc_info: Any = True,
        **extra: Any,
    ) -> LogEntry:
        """Record an error entry with the exception that is being handled, or another one; see `log`."""
        return self._record(
            task_id, _ERROR, category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms, {"exc_info": exc_info, **extra},
        )  # fmt: skip

    async def critical(
        self,
        /,
        task_id: str | None,
        category: str,
        message: str,
        step: str | None = None,
        agent_name: str | None = None,
        roadmap_id: str | None = None,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        duration_ms: int | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record a critical entry, graver than an error; see `log`."""
        return self._record(
            task_id, _CRITICAL, category, message,
            step, agent_name, roadmap_id, concept_id, details, duration_ms, extra,
        )  # fmt: skip

    log_error = error
    """The same under the name that streaming endpoints use."""

    async def log_workflow_start(
        self,
        /,
        task_id: str | None,
        step: str,
        message: str,
        roadmap_id: str | None = None,
        details: dict[str, Any] | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that a step of a workflow began: info, category workflow."""
        return self._record(
            task_id, _INFO, _WORKFLOW, message, step, None, roadmap_id, None, details, None, extra
        )

    async def log_workflow_complete(
        self,
        /,
        task_id: str | None,
        step: str,
        message: str,
        duration_ms: int | None = None,
        roadmap_id: str | None = None,
        details: dict[str, Any] | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that a step of a workflow ended: info, category workflow."""
        return self._record(
            task_id, _INFO, _WORKFLOW, message, step, None, roadmap_id, None, details, duration_ms, extra
        )

    async def log_agent_start(
        self,
        /,
        task_id: str | None,
        agent_name: str,
        message: str,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that an agent began: info, category agent."""
        return self._record(
            task_id, _INFO, _AGENT, message, None, agent_name, None, concept_id, details, None, extra
        )

    async def log_agent_complete(
        self,
        /,
        task_id: str | None,
        agent_name: str,
        message: str,
        duration_ms: int | None = None,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that an agent ended: info, category agent."""
        return self._record(
            task_id, _INFO, _AGENT, message, None, agent_name, None, concept_id, details, duration_ms, extra
        )

    async def log_agent_error(
        self,
        /,
        task_id: str | None,
        agent_name: str,
        message: str,
        error: str,
        concept_id: str | None = None,
        details: dict[str, Any] | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that an agent failed: error, category agent, with `error` in the details."""
        details = merged(details, {"error": error})
        return self._record(
            task_id, _ERROR, _AGENT, message, None, agent_name, None, concept_id, details, None, extra
        )

    async def log_tool_call(
        self,
        /,
        task_id: str | None,
        agent_name: str,
        tool_name: str,
        message: str,
        duration_ms: int | None = None,
        details: dict[str, Any] | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that an agent called a tool: debug, category tool, with `tool_name` in the details."""
        details = merged(details, {"tool_name": tool_name})
        return self._record(
            task_id, _DEBUG, _TOOL, message, None, agent_name, None, None, details, duration_ms, extra
        )

    async def log_retry_start(
        self,
        /,
        task_id: str | None,
        message: str,
        roadmap_id: str | None = None,
        details: dict[str, Any] | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that a retry began: info, category retry."""
        return self._record(
            task_id, _INFO, _RETRY, message, None, None, roadmap_id, None, details, None, extra
        )

    async def log_retry_complete(
        self,
        /,
        task_id: str | None,
        message: str,
        duration_ms: int | None = None,
        roadmap_id: str | None = None,
        details: dict[str, Any] | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that a retry ended: info, category retry."""
        return self._record(
            task_id, _INFO, _RETRY, message, None, None, roadmap_id, None, details, duration_ms, extra
        )

    def timed_operation(
        self,
        /,
        task_id: str | None,
        category: str,
        operation_name: str,
        agent_name: str | None = None,
        concept_id: str | None = None,
        roadmap_id: str | None = None,
        **extra: Any,
    ) -> TimedOperation:
        """Time a block: `async with logger.timed_operation(...) as timer`, or `with` where there is no loop.

        Records an entry at the start and one at the end, with `duration_ms` and what
        `timer.set_details({...})` gathered; an error entry if the body raised, a warning if it was
        cancelled. The texts are Chinese or English by the setting `language`.
        """
        record = self._recorder(task_id, category, operation_name, agent_name, concept_id, roadmap_id, extra)
        return TimedOperation(record, operation_name, self.settings.language)

    @overload
    def operation(self, function: _F, /) -> _F: ...

    @overload
    def operation(
        self,
        name: str | None = None,
        /,
        *,
        category: str = ...,
        task_id: str | None = ...,
        agent_name: str | None = ...,
        concept_id: str | None = ...,
        roadmap_id: str | None = ...,
        **extra: Any,
    ) -> Callable[[_F], _F]: ...

    def operation(
        self,
        name: Any = None,
        /,
        *,
        category: str = _WORKFLOW,
        task_id: str | None = None,
        agent_name: str | None = None,
        concept_id: str | None = None,
        roadmap_id: str | None = None,
        **extra: Any,
    ) -> Any:
        """Make each call of a function an operation, as `timed_operation` does with a block.

        For functions and generators, sync and async; of a generator it lasts from its first step to its end.
        The name is the function's by default, and the run is that of the code around it:

        >>> @execution_logger.operation
        ... async def plan(goal: str) -> Plan: ...

        >>> @execution_logger.operation("search", category="tool", agent_name="researcher")
        ... def search(query: str) -> list[str]: ...
        """

        def decorate(function: _F) -> _F:
            # A `functools.partial`, or an object that can be called, has no name of its own.
            title = name if isinstance(name, str) else getattr(function, "__name__", type(function).__name__)
            record = self._recorder(task_id, category, title, agent_name, concept_id, roadmap_id, extra)
            return decorated(function, lambda: TimedOperation(record, title, self.settings.language))

        return decorate if name is None or isinstance(name, str) else decorate(name)

    def run(
        self,
        /,
        task_id: str | None,
        name: str = "run",
        *,
        ends: bool = True,
        category: str = _WORKFLOW,
        roadmap_id: str | None = None,
        **extra: Any,
    ) -> RunOperation:
        """Mark where a run begins and ends: `async with logger.run(task_id)`, or `with`.

        It is an operation like any other, the root of the run's tree. Within it `task_id` is filled in, and
        its entries tell everybody who reads runs whether this one is running, done, failed or cancelled.

        Args:
            task_id: the run's name; None for that of the context, or of `bind()`.
            name: stands in the messages of its entries.
            ends: the run ends with the block. With False it goes on: `end_run` ends it, in any process. A
                block that raises ends it all the same, because what was to end it may never begin; not
                so `Ignore` and `Retry` of Celery, by which a task goes on in another one.
            category: of its entries.
            roadmap_id: of its entries.
            extra: kept in the details of its entries.
        """
        task_id = self._run_of(task_id)
        record = self._recorder(task_id, category, None, None, None, roadmap_id, extra)
        return RunOperation(record, name, self.settings.language, task_id, self._end_run, ends=ends)

    async def end_run(
        self,
        /,
        task_id: str | None,
        name: str = "run",
        *,
        error: BaseException | str | None = None,
        details: dict[str, Any] | None = None,
        category: str = _WORKFLOW,
        roadmap_id: str | None = None,
        **extra: Any,
    ) -> LogEntry:
        """Record that a run has ended which another block began: `logger.run(task_id, ends=False)`.

        That may have been in another process: both know the run by its `task_id`. It is done without an
        error, cancelled by an exception that says so, and failed by any other one, or by a text. Of a run
        that is ended more than once the newest word counts.
        """
        task_id = self._run_of(task_id)
        record = self._recorder(task_id, category, None, None, None, roadmap_id, extra)
        run = RunOperation(record, name, self.settings.language, task_id, self._end_run, ends=False)
        if details is not None:
            run.set_details(details)
        return run.end(error)

    def _recorder(
        self,
        task_id: str | None,
        category: str,
        step: str | None,
        agent_name: str | None,
        concept_id: str | None,
        roadmap_id: str | None,
        extra: Mapping[str, Any],
    ) -> Record:
        def record(
            level: LogLevel,
            message: str,
            duration_ms: int | None,
            details: Any,
            tree: TreeIds,
            always: bool,  # noqa: FBT001 - a callback has no keywords
        ) -> LogEntry:
            return self._record(
                task_id, level, category, message,
                step, agent_name, roadmap_id, concept_id, details, duration_ms, extra, tree, always=always,
            )  # fmt: skip

        return record
