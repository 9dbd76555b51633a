"""structlog, recorded: `Processor`, one of the chain. Needs the extra `structlog`."""

import logging
import threading
from collections.abc import Mapping, MutableMapping
from typing import Any

from structlog import DropEvent

from execution_logger.api.context import with_exception
from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.integrations.records import (
    DEFAULT,
    Parts,
    Recorder,
    comes_of_sending,
    divide,
    level_named,
)

_OF_FORMATTER = ("_record", "_from_structlog")
"""What structlog's `ProcessorFormatter` adds for its own processors."""

_LEVELS = {"exception": "error"}
"""Methods that are not called as their level is."""


class Processor:
    """Makes each event an entry, by a call of the logger, and passes it on as it is.

    The message is the event. The level is what `add_log_level` has found, or the method that was called.
    `exc_info` means what it does there. Every other key becomes a column or a detail, with those that
    `merge_contextvars` has merged, and what processors before this one have made of it.

    Nothing is recorded of records that come from `logging`, by `ProcessorFormatter`, and that the library
    itself has caused by sending entries.

    Args:
        category: of events that have no `category`.
        task_id: of events outside any run.
        logger: whose entries they are; the ready `execution_logger` by default.
        is_last: nothing else is to be done with the event; without it, the last processor is another one,
            which renders.
    """

    def __init__(
        self,
        *,
        category: str = DEFAULT,
        task_id: str = DEFAULT,
        logger: ExecutionLogger | None = None,
        is_last: bool = False,
    ) -> None:
        self._recorder = Recorder(logger or execution_logger, category, task_id)
        self._is_last = is_last

    def __call__(
        self, _logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Record the event.

        Raises:
            SettingsError: a variable is wrong, as at any first call.
            DropEvent: it `is_last`; structlog's way to end the chain.
        """
        self._recorder.record((method_name, event_dict), self._read)
        if self._is_last:
            raise DropEvent
        return event_dict

    def _read(self, record: tuple[str, Mapping[str, Any]]) -> Parts | None:
        method_name, event_dict = record
        named = dict(event_dict)
        name, thread_name = "", threading.current_thread().name
        foreign: Any = named.get("_record")
        if issubclass(type(foreign), logging.LogRecord):
            name, thread_name = foreign.name, foreign.threadName or thread_name
            for key in _OF_FORMATTER:
                named.pop(key, None)
        if comes_of_sending(thread_name, name, self._recorder.logger):
            return None
        message = named.pop("event", "")
        level = level_named(named.pop("level", _LEVELS.get(method_name, method_name)))
        if "exc_info" in named:
            named = dict(with_exception(named))
        details: dict[str, Any] = {}
        return level, message, divide(named, details), details
