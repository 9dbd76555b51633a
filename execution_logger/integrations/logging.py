"""The standard library's logging, recorded: `Handler`, by its class name in `dictConfig`."""

import logging
from typing import Any

from execution_logger.api.context import with_exception
from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.entry.entry import LogLevel
from execution_logger.integrations.records import (
    COLUMNS,
    DEFAULT,
    OWN,
    Parts,
    Recorder,
    comes_of_sending,
    context_here,
    divide,
    level_named,
)
from execution_logger.shipping.thread import THREAD_NAME
from execution_logger.text import is_hostile

_LEVELS = dict(zip((10, 20, 30, 40, 50), (level.value for level in LogLevel), strict=True))

_LAST = list(vars(logging.makeLogRecord({})))[-1]
"""What a record gets last, before `extra`."""

RESERVED = frozenset({*vars(logging.makeLogRecord({})), "asctime", "message", "taskName"})
"""What a record has of its own, or from formatters; `taskName` from Python 3.12 on."""


class Handler(logging.Handler):
    """Makes each record an entry, by a call of the logger, which waits for no network.

    The level is the record's, one of the host's own by its name in lower case. The message is formatted; if
    that fails, the raw one is kept, with its arguments. What `extra` names becomes columns and details. The
    details have the exception with its traceback, `stack_info`, the logger's name and the line as well, and
    the thread and the process unless they are the main ones.

    Not recorded is what the library itself says, and what others say while it sends entries. `flush()` and
    `close()` do nothing and wait for nothing: an entry is on the disk when it is recorded, and the process
    delivers at its end. A formatter is not used. `emit` hands an error to `handleError`, as others do.

    Args:
        level: the least one that is recorded.
        category: of records whose `extra` has no `category`.
        task_id: of records outside any run.
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    def __init__(
        self,
        level: int | str = logging.NOTSET,
        *,
        category: str = DEFAULT,
        task_id: str = DEFAULT,
        logger: ExecutionLogger | None = None,
    ) -> None:
        super().__init__(level)
        self._recorder = Recorder(logger or execution_logger, category, task_id)

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """Have none: the logger's calls need none, and may be interrupted by a signal handler that logs."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """Record it if the filters pass it, and say so."""
        passed = self.filter(record) if self.filters else True
        if passed:
            # From Python 3.12 on a filter may return another record.
            self.emit(record if passed is True else _passed(passed, record))
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Record it."""
        try:
            self._recorder.record(record, self._read)
        except Exception:  # noqa: BLE001 - logging's way: it says what has failed, and the host goes on
            self.handleError(record)

    def _read(self, record: logging.LogRecord) -> Parts | None:
        # Each line here is paid by each line that the host logs: hence no calls where nothing is to be done.
        name, thread = record.name, record.threadName
        may_be_ours = thread == THREAD_NAME or (type(name) is str and name.startswith(OWN))
        if may_be_ours and comes_of_sending(thread, name, self._recorder.logger):
            return None
        form = _form(record)
        try:
            message: Any = record.getMessage()
        except BaseException as error:
            if not is_hostile(error):
                raise
            level, columns, details = _parts(record)
            return level, record.msg, columns, {**details, "args": record.args}
        if form is not None and self._recorder.fill_in(form, message):
            return None
        level, columns, details = _parts(record)
        if form is not None:
            self._recorder.know(form, level, details)
        return level, message, columns, details


class ContextFilter(logging.Filter):
    """Gives each record the run, the operation and the fields of the context it is made in.

    For a `QueueHandler` in front: its listener is a thread, which has another context.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record."""
        for key, value in context_here().items():
            vars(record).setdefault(f"_{key}" if key in RESERVED else key, value)
        return True


def _passed(passed: Any, record: logging.LogRecord) -> logging.LogRecord:
    return passed if isinstance(passed, logging.LogRecord) else record


def _form(record: logging.LogRecord) -> tuple[Any, ...] | None:
    """All that tells one record from another but the message, where that is little: nearly always."""
    if type(record) is not logging.LogRecord:
        return None
    for key in reversed(record.__dict__):
        if key == _LAST:
            break
        if key not in RESERVED:  # as those that the formatter of another handler has left are
            return None
    if record.exc_info is not None or record.exc_text or record.stack_info:
        return None
    name, module, line = record.name, record.module, record.lineno
    thread, process = record.threadName, record.processName
    # What makes a record may have put anything there; two texts that are equal are written alike.
    if not (type(name) is type(module) is type(thread) is type(process) is str and type(line) is int):
        return None
    level = _LEVELS.get(record.levelno)
    return None if level is None else (name, module, line, level, thread, process)


def _parts(record: logging.LogRecord) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Level, columns and details."""
    details: dict[str, Any] = {"logger": record.name, "source": f"{record.module}:{record.lineno}"}
    level = _LEVELS.get(record.levelno)
    if level is None:
        level, details["levelno"] = level_named(record.levelname), record.levelno
    if record.exc_info is not None or record.exc_text or record.stack_info:
        details.update(_trace(record))
    if record.threadName != "MainThread":
        details["thread"] = record.threadName
    if record.processName != "MainProcess":
        details["process"] = record.processName
    return level, _columns(record, details), details


def _trace(record: logging.LogRecord) -> dict[str, Any]:
    """The exception, or its text where a record that was pickled has only that, and the stack."""
    found = dict(with_exception({"exc_info": record.exc_info}))
    if not found and record.exc_text:
        found["exception"] = record.exc_text
    if record.stack_info:
        found["stack_info"] = record.stack_info
    return found


def _columns(record: logging.LogRecord, details: dict[str, Any]) -> dict[str, Any]:
    """Put what `extra` names into the details, and return what has a column: what `divide` does, at once."""
    attributes = record.__dict__
    if type(record) is not logging.LogRecord:
        return divide({key: attributes[key] for key in attributes if key not in RESERVED}, details)
    columns: dict[str, Any] = {}
    taken: dict[str, Any] = {}
    for key in reversed(attributes):  # two dozen attributes come before: not to look at them is much cheaper
        if key == _LAST:
            break
        if key in COLUMNS:
            columns[key] = attributes[key]
        elif key in details:
            taken[key] = attributes[key]
        elif key not in RESERVED:
            details[key] = attributes[key]
    if taken:
        divide(taken, details)
    return columns
