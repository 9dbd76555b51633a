"""ExecutionLogger: the calls that hosts make."""

import atexit
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex, cast
from uuid import uuid4
from weakref import WeakSet, WeakValueDictionary

from execution_logger.api.asgi import Application, WithLifespan
from execution_logger.api.calls import LoggingCalls
from execution_logger.api.context import (
    FILLED,
    TRACING,
    block_here,
    context,
    innermost,
    merged,
    not_left,
    scopes,
    with_exception,
    with_ids,
    with_trace,
)
from execution_logger.api.sync import SyncExecutionLogger
from execution_logger.broker.connection import broker_url_of
from execution_logger.delivery import Delivery
from execution_logger.delivery.select import select_delivery
from execution_logger.entry.entry import NO_TREE, LogCategory, LogEntry, LogLevel, TreeIds
from execution_logger.entry.volume import Volume
from execution_logger.errors import ExecutionLoggerError
from execution_logger.journal import find_destination
from execution_logger.settings import BROKER, NOTHING, Settings, parsed
from execution_logger.shipping.flush import Flush, Report
from execution_logger.shipping.forks import begin_in_child, may_have_children, survive_forks, undivided
from execution_logger.shipping.pipeline import Pipeline
from execution_logger.text import text_of

if TYPE_CHECKING:
    from threading import RLock

    from celery import Celery


_WARNING, _WORKFLOW = LogLevel.WARNING.value, LogCategory.WORKFLOW.value

_hosts: "WeakSet[_Host]" = WeakSet()


class _Host:
    """What loggers bound to different fields share: settings, and the pipeline once there is one.

    Copies of it are itself. Pickled it is a key, and what it was made with: a process that has no host with
    this key makes one, so that copies of a logger never ship beside each other.
    """

    pipeline: Pipeline | None = None
    volume: Volume | None = None
    """None while every entry is recorded."""
    known_volume: Volume | None = None
    key = ""

    def __init__(
        self,
        settings: Settings | None,
        make_delivery: Callable[[], Delivery] | None,
        celery_app: "Celery | None",
    ) -> None:
        self.configure(settings, make_delivery, celery_app)
        survive_forks(self)
        _hosts.add(self)

    # A default is there when the interpreter takes its modules apart; by then the exit hooks have delivered.
    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.pipeline is not None and not is_finalizing():
            self.pipeline.retire()

    def fork_locks(self) -> "tuple[RLock, ...]":
        return () if self.pipeline is None else self.pipeline.fork_locks()

    def begin_in_child(self) -> None:
        if self.pipeline is not None:
            self.pipeline = self.pipeline.in_this_process()
        if self.known_volume is not None:
            self.limit(self.known_volume.settings)  # what the parent has left out is the parent's

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self is execution_logger._host:  # noqa: SLF001 - it is one of us
            return "execution_logger._host"
        self.key = self.key or uuid4().hex
        _pickled_hosts[self.key] = self
        return _unpickled_host, (self.key, self.settings, self.make_delivery, self.celery_app)

    def ship_for_children(self) -> None:
        """At the end of a process that has recorded nothing itself, send what its children have left."""
        try:
            pipeline = self.pipeline or self.start()
        except ExecutionLoggerError:  # its children could not log, either
            return
        if not pipeline.has_exit_hooks:
            pipeline.at_exit()

    def configure(
        self,
        settings: Settings | None,
        make_delivery: Callable[[], Delivery] | None,
        celery_app: "Celery | None",
    ) -> None:
        if self.pipeline is not None:
            raise ExecutionLoggerError(
                "configure() comes before the first call: this logger is in use already"
            )
        self.settings = settings
        self.make_delivery = make_delivery
        self.celery_app = celery_app

    def start(self) -> Pipeline:
        if not undivided[0]:
            begin_in_child()
        if self.pipeline is not None:
            return self.pipeline
        settings = self.settings or Settings.from_environment(uses=self._uses)
        make_delivery = self.make_delivery or select_delivery(settings, self.celery_app)
        destination = None
        # A delivery of the host's own may lead anywhere: whose entries to adopt is for the host to say.
        if settings.journal and (self.make_delivery is None or settings.journal_directory):
            destination = find_destination(settings, self._broker_url)
        pipeline = Pipeline(settings, make_delivery, destination)
        if self.known_volume is None:  # before there is a pipeline, which says that all is ready
            self.limit(settings)
        # Atomic: threads that make the first call at once get the pipeline of one of them. Without a
        # lock, which a signal handler could meet, and a fork could leave locked.
        return cast("Pipeline", vars(self).setdefault("pipeline", pipeline))

    def limit(self, settings: Settings, left_out: int = 0) -> None:
        """Record from now on what these settings say; so many entries were left out before."""
        self.known_volume = volume = Volume(settings, left_out)
        self.volume = None if volume.is_all else volume

    @property
    def left_out(self) -> int:
        return 0 if self.known_volume is None else self.known_volume.left_out

    @property
    def _uses(self) -> Collection[str] | None:
        """What of the environment leads to the delivery, as far as the host has not said it in code."""
        if self.make_delivery is not None:
            return NOTHING
        return None if self.celery_app is None else BROKER - {"broker_url"}

    @property
    def _broker_url(self) -> str | None:
        """The broker of the host's application, if it has handed one in."""
        return None if self.celery_app is None else broker_url_of(self.celery_app)

    def replace(self, pipeline: Pipeline | None) -> Pipeline | None:
        """Use another pipeline, or make one at the next call, and return the one used so far."""
        used = self.pipeline
        vars(self).pop("pipeline", None)
        if pipeline is not None:
            self.pipeline = pipeline
        return used


_pickled_hosts: WeakValueDictionary[str, _Host] = WeakValueDictionary()


@atexit.register
def _ship_for_children() -> None:
    if may_have_children():
        for host in tuple(_hosts):
            host.ship_for_children()


def _unpickled_host(key: str, *made_with: Any) -> _Host:
    host = _pickled_hosts.get(key) or _pickled_hosts.setdefault(key, _Host(*made_with))
    host.key = key
    return host


class ExecutionLogger(LoggingCalls):
    """Records the steps of workflows and agents without waiting for anything.

    Every call returns the entry just recorded, or one without an id where the volume's settings leave it
    out; delivering it is a background thread's work. The calls are coroutines that never suspend: they need
    no event loop of a certain kind, and `logger.sync` offers the same ones as plain functions.

    A deep copy of a logger is itself. The process-wide one is pickled by its name, as those of the
    standard library are: unpickled, it is the one of that process. Any other one is pickled with what it
    was made with, passwords in its settings included; however often a process unpickles it, it is one.

    Args:
        settings: all settings; read from the environment at the first call when absent.
        make_delivery: makes another delivery than the one that the settings choose. With it there is a
            journal only where `journal_directory` is set, one for each place that it delivers to.
        celery_app: the host's own Celery application; batches go to its broker, over a connection
            of ours, and none of its settings are touched.

    Raises:
        SettingsError: at the first call, or at the start of `lifespan`, when a variable is wrong.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        make_delivery: Callable[[], Delivery] | None = None,
        celery_app: "Celery | None" = None,
    ) -> None:
        self._host = _Host(settings, make_delivery, celery_app)
        self._bound: Mapping[str, Any] = {}

    def configure(
        self,
        settings: Settings | None = None,
        *,
        make_delivery: Callable[[], Delivery] | None = None,
        celery_app: "Celery | None" = None,
    ) -> None:
        """Set what the constructor sets, for the ready instance; before its first call.

        Raises:
            ExecutionLoggerError: when this logger is in use already.
        """
        self._host.configure(settings, make_delivery, celery_app)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Nothing in it is the copier's own, and what it is bound to may be anything.
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return "execution_logger" if self is execution_logger else super().__reduce_ex__(protocol)

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
        host = self._host
        pipeline = host.pipeline
        if pipeline is None or not undivided[0]:
            pipeline = host.start()
        bound = self._bound
        block = innermost.get()
        if block is not None and (block := not_left(block)) is not None:
            if tree is NO_TREE and block.operation_id is not None:
                tree = (None, block.operation_id, None, None)
            bound = {**block.fields, **bound} if block.fields else bound
        if (volume := host.volume) is not None:  # before anything is done for an entry that is left out
            run = task_id if task_id is not None else bound.get("task_id")
            if not self._is_wanted(volume, run, level, category, always=always):
                return _left_out(run, level, category, message)
        if TRACING in sys.modules or scopes:
            tree = with_trace(tree)
        if bound or extra:
            if extra:
                extra = with_exception(extra) if "exc_info" in extra else extra
                tree, extra = with_ids(tree, extra)
            task_id = task_id if task_id is not None else bound.get("task_id")
            step = step if step is not None else bound.get("step")
            agent_name = agent_name if agent_name is not None else bound.get("agent_name")
            roadmap_id = roadmap_id if roadmap_id is not None else bound.get("roadmap_id")
            concept_id = concept_id if concept_id is not None else bound.get("concept_id")
            rest = {key: value for key, value in bound.items() if key not in FILLED}
            details = merged(details, extra, rest)
        # Not `*fields`: a call with all names spelt out is half a microsecond cheaper.
        entry, encoded = pipeline.make_entry(
            task_id,
            level,
            category,
            message,
            step,
            agent_name,
            roadmap_id,
            concept_id,
            details,
            duration_ms,
            tree,
        )
        if not pipeline.accept(encoded):
            pipeline.drop(entry)
        return entry

    def _unfilled(self) -> Pipeline | None:
        """The pipeline, where a call of no run has nothing filled in, and nothing left out; else None."""
        host = self._host
        pipeline = host.pipeline
        if pipeline is None or not undivided[0] or host.volume is not None:
            return None
        if self._bound or not_left(innermost.get()) is not None:
            return None
        if (TRACING in sys.modules or scopes) and with_trace(NO_TREE) is not NO_TREE:
            return None
        return pipeline

    def _is_wanted(self, volume: Volume, task_id: Any, level: Any, category: Any, *, always: bool) -> bool:
        is_wanted = volume.takes(None if always else task_id, level, category)
        over = volume.over(task_id, level) if is_wanted and not always else 0
        if is_wanted and not over:
            return True
        volume.leave_out()
        if over and str(over).strip("0") == "1":  # the first, the tenth, the hundredth
            message = _LEFT_OUT[self.settings.language].format(limit=volume.most, number=over)
            details = {"left_out": over, "limit": volume.most}
            self._record(task_id, _WARNING, _WORKFLOW, message, None, None, None, None, details, None, {})
        return False

    def _run_of(self, task_id: Any) -> Any:
        if task_id is not None:
            return task_id
        return {**block_here().fields, **self._bound}.get("task_id")

    def _end_run(self, task_id: Any) -> int:
        volume = self._host.volume
        return 0 if volume is None else volume.end(task_id)

    def set_volume(
        self,
        *,
        level: str | None = None,
        debug_share: float | None = None,
        run_max_entries: int | None = None,
    ) -> None:
        """Change what is recorded, from now on and in this process; what is not passed stays as it is.

        Args:
            level: the least grave level that is recorded, and those of categories: `"info,tool=warning"`.
            debug_share: share of the runs whose debug entries are recorded, from 0.0 to 1.0.
            run_max_entries: most debug and info entries of a run, counted anew; 0 for no limit.

        Raises:
            SettingsError: a value that is none of these.
        """
        settings = self._host.start().settings
        changes = {"level": level, "debug_share": debug_share, "run_max_entries": run_max_entries}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        if isinstance(level, str):
            given["level"] = parsed(tuple[str, ...], level)
        host = self._host
        before = host.known_volume
        host.limit(replace(settings if before is None else before.settings, **given), host.left_out)

    # Fields that are filled in ---------------------------------------------------------------

    def bind(self, /, **fields: Any) -> "ExecutionLogger":
        """Return a logger whose calls have `fields` filled in where they leave them out.

        `task_id`, `step`, `agent_name`, `roadmap_id` and `concept_id` fill in their columns (pass
        `None` as `task_id` to use the bound one); anything else goes into `details`.
        """
        bound = object.__new__(type(self))
        vars(bound).update(vars(self), _bound={**self._bound, **fields})
        return bound

    def context(self, /, **fields: Any) -> AbstractContextManager[None]:
        """Fill in `fields` for all calls within a `with` block, in every coroutine and task it starts too."""
        return context(**fields)

    # Delivering ------------------------------------------------------------------------------

    async def flush(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the report is the result
        *,
        until: Literal["delivered", "stored"] = "delivered",
    ) -> Report:
        """Deliver what was recorded so far; wait for it, at most `timeout` seconds (default: a setting).

        Never raises because of a broker or a database, and never takes longer than the timeout.
        What is not delivered by then stays, and is sent when that is possible again. The loop, asyncio's
        or trio's, goes on meanwhile. In a signal handler that has interrupted a logging call of its thread
        nothing is waited for, and the report says so.

        Args:
            timeout: seconds.
            until: wait until the broker has taken all, or until the worker has stored all. Without
                confirmations (`stats()["guarantee"]` is "accepted") both are the same.
        """
        return await self.begin_flush(timeout, until=until).wait_in_loop()

    async def shutdown(self, timeout: float | None = None) -> Report:  # noqa: ASYNC109 - as above
        """Flush, and end the background thread. May be called twice; a later call starts it again."""
        return await self.begin_shutdown(timeout).wait_in_loop()

    def begin_flush(
        self, timeout: float | None = None, *, until: Literal["delivered", "stored"] = "delivered"
    ) -> Flush:
        """Start what `flush` waits for, and return at once with the object to wait on."""
        pipeline = self._host.start()
        seconds = pipeline.settings.flush_timeout_seconds if timeout is None else timeout
        return pipeline.flush(seconds, until_stored=until == "stored")

    def begin_shutdown(self, timeout: float | None = None) -> Flush:
        """Start what `shutdown` waits for, and return at once with the object to wait on."""
        pipeline = self._host.start()
        seconds = pipeline.settings.shutdown_timeout_seconds if timeout is None else timeout
        return pipeline.flush(seconds, then_stop=True)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002 - frameworks pass it
        """The hook for an application's lifespan: gets ready at the start, shuts down at the end.

        At the start the settings are checked, and what the delivery needs is imported, in the background
        thread. Otherwise that is done during the first calls.

        Alone, `FastAPI(lifespan=execution_logger.lifespan)`, or inside the host's own,
        `async with execution_logger.lifespan(): yield`.
        """
        pipeline = self._host.start()
        try:
            await pipeline.begin().wait_in_loop()
            yield
        finally:
            await self.shutdown()

    def asgi(self, app: Application) -> WithLifespan:
        """Wrap any ASGI application, so that its server lets the logger get ready and deliver what is left.

        `application = execution_logger.asgi(get_asgi_application())` is what Django needs under uvicorn. An
        application with a lifespan of its own keeps it; the logger delivers after that has ended.
        """
        return WithLifespan(app, self)

    @property
    def sync(self) -> SyncExecutionLogger:
        """The same calls as plain functions, for hosts without an event loop."""
        return SyncExecutionLogger(self)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._host.start().settings

    def stats(self) -> dict[str, Any]:
        """Where this process's entries are.

        `accepted` is the sum of `delivered`, `waiting` and `dropped`; `delivered` that of `stored`,
        `dead_lettered`, `unconfirmed` and `handed_over`. What the volume's settings leave out is in
        `left_out` alone.
        """
        return {**self._host.start().stats(), "left_out": self._host.left_out}


_LEFT_OUT: Mapping[str, str] = {
    "zh": "该运行已超过 {limit} 条: 不再记录 debug 和 info 条目, 目前已略去 {number} 条",
    "en": "This run has more than {limit} entries: debug and info entries are left out, {number} so far",
}


def _left_out(task_id: Any, level: Any, category: Any, message: Any) -> LogEntry:
    """What a call returns that has recorded nothing."""
    run = "" if task_id is None else text_of(task_id)
    return LogEntry("", datetime.now(UTC), run, text_of(level), text_of(category), text_of(message))


execution_logger = ExecutionLogger()
"""The process-wide logger, ready at import; it reads the environment at its first call."""
