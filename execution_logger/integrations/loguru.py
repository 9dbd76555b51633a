"""loguru, recorded: `Sink`, for `logger.add`. Needs the extra `loguru`."""

from typing import TYPE_CHECKING, Any

from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.integrations.records import (
    DEFAULT,
    Parts,
    Recorder,
    comes_of_sending,
    context_here,
    divide,
    level_named,
)

if TYPE_CHECKING:
    from loguru import Message, Record


_LEVELS = (10, 20, 30, 40, 50)
"""The usual ones; those of loguru's own, and of the host's, are between them."""


class Sink:
    """Makes each message an entry, by a call of the logger: `logger.add(Sink(), format="{message}")`.

    The level is the message's, one of loguru's or the host's own by its name in lower case. What `extra` has
    becomes columns and details, and so do the exception with its traceback, the module's name, the line, and
    the thread and the process unless they are the main ones.

    With `enqueue=True` loguru calls it in a thread of its own, which has another context: see `keep_context`.

    Args:
        category: of messages whose `extra` has no `category`.
        task_id: of messages outside any run.
        logger: whose entries they are; the ready `execution_logger` by default.
    """

    def __init__(
        self, *, category: str = DEFAULT, task_id: str = DEFAULT, logger: ExecutionLogger | None = None
    ) -> None:
        self._recorder = Recorder(logger or execution_logger, category, task_id)

    def __call__(self, message: "Message") -> None:
        """Record it.

        Raises:
            SettingsError: a variable is wrong, as at any first call.
        """
        self._recorder.record(message, self._read)

    def _read(self, record: "Message") -> Parts | None:
        about = record.record
        thread, process, level = about["thread"].name, about["process"].name, about["level"]
        if comes_of_sending(thread, about["name"] or "", self._recorder.logger):
            return None
        details: dict[str, Any] = {"logger": about["name"], "source": f"{about['module']}:{about['line']}"}
        if level.no not in _LEVELS:
            details["levelno"] = level.no
        if about["exception"] is not None:
            details["exception"] = _exception(record)
        if thread != "MainThread":
            details["thread"] = thread
        if process != "MainProcess":
            details["process"] = process
        return level_named(level.name), about["message"], divide(about["extra"], details), details


def keep_context(record: "Record") -> None:
    """Give a message the run, the operation and the fields of the context it is made in.

    For `logger.configure(patcher=keep_context)`, where a sink has `enqueue=True`.
    """
    for key, value in context_here().items():
        record["extra"].setdefault(key, value)


def _exception(message: "Message") -> Any:
    """The exception; of one that came through a queue, without its traceback, what loguru has written."""
    about = message.record
    error = about["exception"].value if about["exception"] is not None else None
    if error is not None and error.__traceback__ is not None:
        return error
    return str(message).partition(about["message"])[2].strip() or error
