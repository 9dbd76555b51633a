"""Drop-in asynchronous logging for long workflows and agents.

`from execution_logger import execution_logger, LogCategory`, then
`await execution_logger.info(task_id, LogCategory.WORKFLOW, "started")`. Importing this loads
neither Celery nor SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from execution_logger.api.logger import ExecutionLogger, execution_logger
    from execution_logger.api.sync import SyncExecutionLogger
    from execution_logger.entry.entry import LogCategory, LogEntry, LogLevel
    from execution_logger.errors import ExecutionLoggerError, SettingsError
    from execution_logger.settings import Settings
    from execution_logger.shipping.flush import Report

__version__ = "0.1.0"

__all__ = [
    "ExecutionLogger",
    "ExecutionLoggerError",
    "LogCategory",
    "LogEntry",
    "LogLevel",
    "Report",
    "Settings",
    "SettingsError",
    "SyncExecutionLogger",
    "execution_logger",
]

_HOMES = {
    "ExecutionLogger": "api.logger",
    "ExecutionLoggerError": "errors",
    "LogCategory": "entry.entry",
    "LogEntry": "entry.entry",
    "LogLevel": "entry.entry",
    "Report": "shipping.flush",
    "Settings": "settings",
    "SettingsError": "errors",
    "SyncExecutionLogger": "api.sync",
    "execution_logger": "api.logger",
}


def __getattr__(name: str) -> Any:
    # The first name loads them all: a logging call must import nothing, and the command's help needs none.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = {each: getattr(import_module(f"{__name__}.{home}"), each) for each, home in _HOMES.items()}
    globals().update(found)
    return found[name]
