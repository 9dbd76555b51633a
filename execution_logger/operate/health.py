"""Whether a worker does what it is for: takes from the queue, with a database behind it."""

import asyncio
import socket
from dataclasses import replace

from execution_logger.errors import ExecutionLoggerError
from execution_logger.operate.workers import workers_online
from execution_logger.settings import Settings
from execution_logger.store import create_engine
from execution_logger.store.faults import attempt
from execution_logger.store.table import look_up_table

_DATABASE_SECONDS = 3.0


class UnhealthyError(ExecutionLoggerError):
    """The worker does not answer, or takes from other queues."""

    exit_code = 1


def worker_name() -> str:
    """What Celery calls the worker of this machine, unless it is given another name."""
    return f"celery@{socket.gethostname()}"


def check_worker(settings: Settings, name: str) -> None:
    """Ask a worker, and then the database; takes a few seconds at most.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        UnhealthyError: the worker does not answer, or does not take from the queue.
        StoreUnavailableError: the database does not answer, or has no table for the entries.
        SettingsError: there is no such database.
    """
    if name not in (online := workers_online(settings)):
        others = f"; others do: {', '.join(online)}" if online else ""
        raise UnhealthyError(f"{name} does not take from the queue {settings.queue!r}{others}")
    settings.require_database("health")
    asyncio.run(_look_at_table(settings))


async def _look_at_table(settings: Settings) -> None:
    timeout_seconds = min(_DATABASE_SECONDS, settings.database_timeout_seconds)
    engine = create_engine(replace(settings, database_timeout_seconds=timeout_seconds), pool_size=1)
    try:
        async with attempt(engine, timeout_seconds), engine.connect() as connection:
            await look_up_table(connection, settings)
    finally:
        await engine.dispose()
