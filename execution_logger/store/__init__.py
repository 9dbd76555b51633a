"""The store: the table of the entries, the statements on it, and the way back.

Raises:
    SettingsError: on import, when a package that it needs is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from execution_logger.errors import SettingsError

try:
    from execution_logger.store.engine import create_engine
    from execution_logger.store.migrate import include_name, upgrade
    from execution_logger.store.writer import Writer, WriteResult
except ModuleNotFoundError as error:
    raise SettingsError(
        f'The database needs {error.name}: pip install "celery-execution-logger[worker]"'
    ) from error

if TYPE_CHECKING:
    from execution_logger.read.overview import Overview, overview
    from execution_logger.read.repository import ExecutionLogRepository

__all__ = [
    "ExecutionLogRepository",
    "Overview",
    "WriteResult",
    "Writer",
    "create_engine",
    "include_name",
    "overview",
    "upgrade",
]

# Readers stand above what they read. Hosts know them by this name all the same.
_READERS = {"ExecutionLogRepository": "repository", "Overview": "overview", "overview": "overview"}


def __getattr__(name: str) -> Any:
    if name not in _READERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"execution_logger.read.{_READERS[name]}"), name)
