"""Celery's tasks in the tree of the run that has sent them, by Celery's signals.

>>> bind_celery(app)    # in the module that makes the application, which hosts and workers import

Whoever publishes a task puts the run, the operation and the fields of its context into a header of the
message, as OpenTelemetry puts its `traceparent` there. The worker takes them up again around the task, which
is an operation of its own. Celery catches and logs what a receiver of its signals raises.
"""

import sys
from collections.abc import Callable, Mapping
from contextvars import Token
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from celery import Celery, signals
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry

from execution_logger.api.context import Block, innermost, leave, new_block
from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.api.operations import Record, TimedOperation
from execution_logger.api.propagation import extract, inject
from execution_logger.broker import embedded
from execution_logger.broker.connection import TASK_NAME
from execution_logger.entry.entry import LogCategory, LogEntry, LogLevel
from execution_logger.entry.masking import SensitiveKeys
from execution_logger.text import text_of

HEADER = "execution_logger"
"""The name of the header: a text, which every broker can carry."""

TaskId = Callable[[Context], str | None]
"""Tells the run of a task from its request, which has `args`, `kwargs`, `id` and `headers`."""

_OURS = TASK_NAME.partition(".")[0] + "."
"""What the names of the library's own tasks begin with."""

_CHORD_UNLOCK = "celery.chord_unlock"
"""What looks whether a chord's header has ended, where the result backend cannot tell: nobody's work."""

_REASON_CHARS = 100

_OUTCOMES: Mapping[type[Exception], tuple[LogLevel, str]] = {
    Retry: (LogLevel.WARNING, "retried"),
    Reject: (LogLevel.WARNING, "rejected"),
    Ignore: (LogLevel.INFO, "ignored"),
}

_TEXTS: Mapping[str, Mapping[str, str]] = {
    "zh": {
        "retried": "{} 将重试{}",
        "rejected": "{} 被拒绝{}",
        "ignored": "{} 已忽略{}",
        "revoked": "{} 已撤销{}",
        "lost": "{} 失败{}",
    },
    "en": {
        "retried": "{} to be retried{}",
        "rejected": "{} rejected{}",
        "ignored": "{} ignored{}",
        "revoked": "{} revoked{}",
        "lost": "{} failed{}",
    },
}


def bind_celery(
    app: Celery | None = None,
    *,
    logger: ExecutionLogger = execution_logger,
    operation: bool = True,
    task_id: TaskId | None = None,
    flush: bool = False,
) -> None:
    """Carry the run, the operation and the context of whoever sends a task over to the worker that runs it.

    Within a task `task_id` is filled in by that of its sender, else by the id of the task that Celery began
    with, and so are the fields of the sender's `context()`: texts, numbers and UUIDs, no secrets, 4 KB in
    all. In every pool, and with `task_always_eager`. A later call for the same application replaces this one.
    From then on a broker of `embedded:///folder` works, too: for trying out, without a server.

    Args:
        app: whose tasks are bound; those of all applications of the process by default.
        logger: records the operations.
        operation: make each task an operation: an entry at its start, one at its end.
        task_id: tells the run of a task, as `lambda request: request.kwargs.get("task_id")`; if it is not
            None, it wins.
        flush: deliver at the end of each task, and wait for it as `flush()` does. A worker that ends
            delivers without it.
    """
    embedded.register()
    binding = _Binding(app, logger, operation, task_id, flush)
    name = f"{HEADER}-{id(app)}"
    for signal, receiver in (
        (signals.before_task_publish, binding.publish),
        (signals.task_received, binding.receive),
        (signals.task_prerun, binding.begin),
        (signals.task_postrun, _end),
        (signals.task_failure, binding.failed),
        (signals.task_revoked, binding.revoked),
    ):
        signal.disconnect(dispatch_uid=name)
        signal.connect(receiver, weak=False, dispatch_uid=name)


@dataclass(frozen=True)
class _Binding:
    """The receivers of the signals, for one application."""

    app: Celery | None
    logger: ExecutionLogger
    operation: bool
    task_id: TaskId | None
    flush: bool

    def publish(self, sender: str, headers: dict[str, Any], **_: Any) -> None:
        """Add the header; a retry has that of the first attempt, so that attempts are siblings."""
        if sender.startswith(_OURS) or headers.get("retries"):
            return
        text = inject(self._keys)
        if text is not None:
            headers[HEADER] = text

    def receive(self, request: Any, **_: Any) -> None:
        """Keep what a worker's main process was given: before Celery 5.7 its failure is told without it."""
        _received[request.id] = request

    def begin(self, task: Any, **_: Any) -> None:
        """Enter the context of the sender, and the operation."""
        request = task.request
        if self._binds(task) and request not in _executions:
            _executions[request] = _Execution(self, request)

    def failed(self, sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
        """Record what a worker says of its child that was killed: that one cannot."""
        if not self._binds(sender) or sender.request in _executions or isinstance(exception, Reject):
            return
        request = _received.pop(task_id, None)
        if request is not None:
            self._record(Context(request.request_dict), LogLevel.ERROR, "lost", text_of(exception))

    def revoked(
        self, sender: Any, request: Context, *, terminated: bool, signum: Any, expired: bool, **_: Any
    ) -> None:
        """Record that a task was called off, before it has begun or while it ran."""
        if self._binds(sender):
            reason = f"terminated by {signum}" if terminated else "expired" if expired else ""
            self._record(request, LogLevel.WARNING, "revoked", reason)

    def block(self, request: Context) -> Block:
        """What is filled in within a task."""
        # A task that is called and not sent is within whatever is around the call.
        block = (
            new_block({}) if request.is_eager else extract(request.get(HEADER)) or Block({}, None, None, None)
        )
        told = None if self.task_id is None else self.task_id(request)
        run = told or block.fields.get("task_id") or request.root_id or request.id
        if run != block.fields.get("task_id"):  # another one than that of who has sent it
            block.run, block.run_goes_on = None, False
        block.fields = {**block.fields, "task_id": run}
        return block

    def _binds(self, task: Any) -> bool:
        return not task.name.startswith(_OURS) and (self.app is None or self.app == task.app)

    def _record(self, request: Context, level: LogLevel, event: str, reason: str) -> None:
        text = _TEXTS[self.logger.settings.language][event].format(request.task, _after_colon(reason))
        details = {**_details(request), **({"reason": reason} if reason else {})}
        block = self.block(request)
        token = innermost.set(block)
        try:
            self.logger.sync.log(None, level, LogCategory.WORKFLOW, text, step=request.task, details=details)
        finally:
            leave(block, token)

    @cached_property
    def _keys(self) -> SensitiveKeys:
        return SensitiveKeys(self.logger.settings.sensitive_keys)


class _Execution:
    """A task that runs."""

    _operation: "_TaskOperation | None" = None
    _token: Token[Block | None]

    def __init__(self, binding: _Binding, request: Context) -> None:
        self._logger = logger = binding.logger
        self._has_flush = binding.flush
        if binding.operation and request.task != _CHORD_UNLOCK:
            record = logger._recorder(  # noqa: SLF001 - it is one of us
                None, LogCategory.WORKFLOW, request.task, None, None, None, _details(request)
            )
            self._operation = _TaskOperation(record, request.task, logger.settings.language)
        self._block = binding.block(request)
        self._token = innermost.set(self._block)
        if self._operation is not None:
            self._operation.__enter__()

    def end(self, error: BaseException | None) -> None:
        if self._operation is not None:
            self._operation.__exit__(None if error is None else type(error), error, None)
        leave(self._block, self._token)
        if self._has_flush:
            self._logger.sync.flush()


_executions: WeakKeyDictionary[Context, _Execution] = WeakKeyDictionary()
"""Those that run now, whatever has bound them: a task is recorded once."""

_received: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""The requests that wait or run in this worker, by their ids."""


def _end(task: Any, state: str | None = None, retval: Any = None, **_: Any) -> None:
    execution = _executions.pop(task.request, None)
    if execution is None:
        return
    # Without a state the exception is on its way through Celery, to the caller of an eager task for instance.
    error = sys.exception() if state is None else retval
    execution.end(error if isinstance(error, BaseException) and state != "SUCCESS" else None)


class _TaskOperation(TimedOperation):
    """An operation that may end in the ways of Celery's tasks, too."""

    def __init__(self, record: Record, name: str, language: str) -> None:
        super().__init__(record, name, language)
        self._texts = {**self._texts, **_TEXTS[language]}

    def _end(self, error: BaseException | str | None) -> LogEntry:
        outcome = next((_OUTCOMES[kind] for kind in _OUTCOMES if isinstance(error, kind)), None)
        if outcome is None:
            # The text of what ends a process or a greenlet is a number, or nothing.
            is_told = error is None or isinstance(error, Exception)
            return super()._end(error if is_told else SystemExit(text_of(error, repr)))
        level, event = outcome
        # The text of a Reject is that of its arguments.
        reason = text_of(error.reason or "" if isinstance(error, Reject) else error)
        return self._write(level, event, self._duration_ms(), {"reason": reason}, _after_colon(reason))


def _details(request: Context) -> dict[str, Any]:
    """What Celery knows of a task, in its words."""
    queue = (request.delivery_info or {}).get("routing_key")
    known = {"id": request.id, "task": request.task, "queue": queue, "retries": request.retries}
    return {"celery": {name: value for name, value in known.items() if value is not None}}


def _after_colon(reason: str) -> str:
    return f": {reason[:_REASON_CHARS]}" if reason else ""
