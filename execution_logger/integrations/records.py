"""From a record of another logger to an entry: what `logging`, structlog and loguru have in common here."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from execution_logger.api.context import block_here, innermost, not_left
from execution_logger.api.logger import ExecutionLogger
from execution_logger.entry.entry import known_level
from execution_logger.shipping.thread import THREAD_NAME

DEFAULT = "app"
"""The category of records that name none, and the `task_id` of those outside any run."""

_TREE = ("operation_id", "parent_id")
_OWN = "execution_logger"
_SQLITE = "aiosqlite"
_NOTHING: Mapping[str, Any] = {}

_MOST_NESTED = 2
"""A record that is made while another one of the same thread is read is taken, and one within that is not.

An object's `__str__` may log, a destructor, a signal handler. One that logs itself would never end."""


class _Here(threading.local):
    depth = 0


_here = _Here()


class Recorder(ABC):
    """Makes an entry of each record, as a call of the logger does.

    Args:
        logger: whose entries they are.
        category: of records that name none.
        task_id: of records outside any run: no run is filled in by the context or the logger, nor named.
    """

    def __init__(self, logger: ExecutionLogger, category: str, task_id: str) -> None:
        self._logger = logger
        self._category = category
        self._task_id = None if logger._bound.get("task_id") is not None else task_id  # noqa: SLF001 - one of us

    @abstractmethod
    def read(self, record: Any) -> tuple[Any, Any, dict[str, Any], dict[str, Any]] | None:
        """Level, message, what the caller has named, and what the other logger knows; None for no entry.

        Both dicts are new ones.
        """

    def record(self, record: Any) -> None:
        """Record an entry, unless the record comes of recording or sending entries.

        Raises:
            SettingsError: a variable is wrong, as at any first call.
        """
        here = _here
        if here.depth >= _MOST_NESTED:
            return
        here.depth += 1
        try:
            if (parts := self.read(record)) is not None:
                self._write(*parts)
        finally:
            here.depth -= 1

    def _write(self, level: Any, message: Any, named: dict[str, Any], known: dict[str, Any]) -> None:
        task_id = step = agent_name = roadmap_id = concept_id = duration_ms = None
        category, extra = self._category, _NOTHING
        if named:
            take = named.pop
            task_id, step, agent_name = take("task_id", None), take("step", None), take("agent_name", None)
            roadmap_id, concept_id = take("roadmap_id", None), take("concept_id", None)
            duration_ms = take("duration_ms", None)
            category = take("category", None) or category
            if "operation_id" in named or "parent_id" in named:
                extra = {key: take(key) for key in _TREE if key in named}
            known = _joined(named, known)
        if is_outside := task_id is None and self._task_id is not None and not _has_run():
            task_id = self._task_id
        self._logger._record(  # noqa: SLF001 - one of us
            task_id, level, category, message,
            step, agent_name, roadmap_id, concept_id, known or None, duration_ms, extra,
            always=is_outside,  # of no run: neither chosen nor limited as one
        )  # fmt: skip


def _joined(named: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Both, none of which is lost where they have the same key."""
    for key, value in known.items():
        free = key
        while free in named:
            free = f"_{free}"
        named[free] = value
    return named


def _has_run() -> bool:
    """Whether the context fills in the `task_id`."""
    block = innermost.get()
    return (
        block is not None
        and (block := not_left(block)) is not None
        and block.fields.get("task_id") is not None
    )


def comes_of_sending(thread_name: object, logger_name: str, logger: ExecutionLogger) -> bool:
    """Whether a record would have entries sent that would make the next one, and so on.

    That is what the library says about itself, and what Celery, Redis or SQLAlchemy say in the thread that
    sends, which is told by its name: a queue may have taken the record to another thread. aiosqlite works in
    a thread of its own: what it says counts as ours where entries go straight to the database.
    """
    if thread_name == THREAD_NAME:
        return True
    if not logger_name.startswith((_OWN, _SQLITE)):
        return False
    top = logger_name.partition(".")[0]
    return top == _OWN or (top == _SQLITE and not logger.settings.celery_enabled)


def level_named(name: Any) -> Any:
    """A known level by its own name; of another one the name in lower case, as those are."""
    level = known_level(name)
    return level.lower() if level is name and type(level) is str else level


def context_here() -> dict[str, Any]:
    """What the context fills in here, by names: for a record that is made into an entry elsewhere."""
    block = block_here()
    parent = {} if block.operation_id is None else {"parent_id": block.operation_id}
    return {**block.fields, **parent}
