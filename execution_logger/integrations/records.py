"""From a record of another logger to an entry: what `logging`, structlog and loguru have in common here."""

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from execution_logger.api.context import FILLED, block_here, innermost, operation_here
from execution_logger.api.logger import ExecutionLogger
from execution_logger.levels import known_level
from execution_logger.shipping.thread import THREAD_NAME

DEFAULT = "app"
"""The category of records that name none, and the `task_id` of those outside any run."""

_TREE = ("operation_id", "parent_id")
COLUMNS = frozenset({*FILLED, *_TREE, "category", "duration_ms"})
"""What has a column, by its name; all else that a record names is a detail."""
_LIBRARY, _SQLITE = "execution_logger", "aiosqlite"
OWN = (_LIBRARY, _SQLITE)
"""What the names of loggers begin with that `comes_of_sending` has to look at."""

_NOTHING: Mapping[str, Any] = {}
_NO_TREE = frozenset(_TREE).isdisjoint
_R = TypeVar("_R")

_MOST_NESTED = 2
"""A record that is made while another one of the same thread is read is taken, and one within that is not.

An object's `__str__` may log, a destructor, a signal handler. One that logs itself would never end."""


class _Here(threading.local):
    def __init__(self) -> None:
        self.read: list[object] = []


_here = _Here()

Parts = tuple[Any, Any, dict[str, Any], dict[str, Any]]
"""Level, message, columns by their names, and details: a dict that nobody else has."""


class Recorder:
    """Makes an entry of each record, as a call of the logger does.

    Args:
        logger: whose entries they are.
        category: of records that name none.
        task_id: of records outside any run: no run is filled in by the context or the logger, nor named.
    """

    def __init__(self, logger: ExecutionLogger, category: str, task_id: str) -> None:
        self.logger = logger
        self._category = category
        is_bound = logger._bound.get("task_id") is not None  # noqa: SLF001 - one of us
        self._task_id = None if is_bound else task_id

    def record(self, record: _R, read: Callable[[_R], Parts | None]) -> None:
        """Record an entry, unless there is nothing to be read, or too many records are being read here.

        Raises:
            SettingsError: a variable is wrong, as at any first call.
        """
        being_read = _here.read  # a list, as each look at what is a thread's own takes its time
        if len(being_read) >= _MOST_NESTED:
            return
        being_read.append(record)
        try:
            if (parts := read(record)) is None:
                return
            level, message, columns, details = parts
            if columns or self._task_id is None or innermost.get() is not None:
                self._write(level, message, columns, details)
            else:  # nearly all: of no run, and with nothing named
                self.logger._record(  # noqa: SLF001 - one of us
                    self._task_id, level, self._category, message,
                    None, None, None, None, details or None, None, _NOTHING, always=True,
                )  # fmt: skip
        finally:
            being_read.pop()

    def fill_in(self, form: Hashable, message: str) -> bool:
        """Record a message of no run, whose entry differs in nothing else from others of its form.

        False when that cannot be done, and nothing is recorded.
        """
        pipeline = self.logger._unfilled()  # noqa: SLF001 - one of us
        if pipeline is None or (encoded := pipeline.fill_in((self, form), message)) is None:
            return False
        return pipeline.accept(encoded)

    def know(self, form: Hashable, level: str, details: dict[str, Any]) -> None:
        """Have such a record filled in from the next one on."""
        pipeline = self.logger._unfilled()  # noqa: SLF001 - one of us
        if pipeline is not None and self._task_id is not None:
            pipeline.know((self, form), self._task_id, level, self._category, details)

    def is_outside(self, columns: Mapping[str, Any]) -> bool:
        """Whether neither the record nor the context nor an operation nor the logger tells the run."""
        return columns.get("task_id") is None and self._task_id is not None and _task_id_here() is None

    def _write(self, level: Any, message: Any, columns: dict[str, Any], details: dict[str, Any]) -> None:
        named = columns.get
        category, task_id, is_outside = named("category"), named("task_id"), False
        if task_id is None and self._task_id is not None and (task_id := _task_id_here()) is None:
            task_id, is_outside = self._task_id, True
        ids = _NOTHING if _NO_TREE(columns) else {key: columns[key] for key in _TREE if key in columns}
        self.logger._record(  # noqa: SLF001 - one of us
            task_id, level,
            self._category if category is None else category, message,
            named("step"), named("agent_name"), named("roadmap_id"), named("concept_id"),
            details or None, named("duration_ms"), ids,
            always=is_outside,  # of no run: neither chosen nor limited as one
        )  # fmt: skip


def divide(named: Mapping[str, Any], details: dict[str, Any]) -> dict[str, Any]:
    """Put what the caller has named into the details, and return what has a column.

    Where both have a key, that in the details goes on with a `_` before it: none is lost.
    """
    columns: dict[str, Any] = {}
    for key, value in named.items():
        if key in COLUMNS:
            columns[key] = value
            continue
        if key in details:
            free = f"_{key}"
            while free in named or free in details:
                free = f"_{free}"
            details[free] = details[key]
        details[key] = value
    return columns


def _task_id_here() -> Any:
    """The `task_id` that the context fills in, or that of the operation."""
    block = block_here()
    task_id = block.fields.get("task_id")
    return block.task_id if task_id is None else task_id


def comes_of_sending(thread_name: object, logger_name: str, logger: ExecutionLogger) -> bool:
    """Whether a record would have entries sent that would make the next one, and so on.

    That is what the library says about itself, and what Celery, Redis or SQLAlchemy say in the thread that
    sends, which is told by its name: a queue may have taken the record to another thread. aiosqlite works in
    a thread of its own: what it says counts as ours where entries go straight to the database.
    """
    if thread_name == THREAD_NAME:
        return True
    if not logger_name.startswith(OWN):
        return False
    top = logger_name.partition(".")[0]
    return top == _LIBRARY or (top == _SQLITE and not logger.settings.celery_enabled)


def level_named(name: Any) -> Any:
    """A known level by its own name; of another one the name in lower case, as those are."""
    level = known_level(name)
    return level.lower() if level is name and type(level) is str else level


def context_here() -> dict[str, Any]:
    """What the context fills in here, by names: for a record that is made into an entry elsewhere."""
    own = {"task_id": _task_id_here(), "parent_id": operation_here()}
    return {**block_here().fields, **{key: value for key, value in own.items() if value is not None}}
