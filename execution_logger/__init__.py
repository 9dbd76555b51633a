"""Drop-in asynchronous logging for long workflows and agents.

`from execution_logger import execution_logger, LogCategory`, then
`await execution_logger.info(task_id, LogCategory.WORKFLOW, "started")`. Importing this loads
neither Celery nor SQLAlchemy.
"""

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
