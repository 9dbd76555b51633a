"""The store: the table of the entries, the statements on it, and the way back.

Raises:
    SettingsError: on import, when a package that it needs is not installed.
"""

from execution_logger.errors import SettingsError

try:
    from execution_logger.read.overview import Overview, overview
    from execution_logger.read.repository import ExecutionLogRepository
    from execution_logger.store.engine import create_engine
    from execution_logger.store.migrate import include_name, upgrade
    from execution_logger.store.writer import Writer, WriteResult
except ModuleNotFoundError as error:
    raise SettingsError(
        f'The database needs {error.name}: pip install "celery-execution-logger[worker]"'
    ) from error

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
