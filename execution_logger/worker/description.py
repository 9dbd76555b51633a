"""What a worker tells of itself when it is asked by remote control; Celery's own commands know none of it."""

import time
from typing import Any

from execution_logger.broker.confirmations import result_backend_url
from execution_logger.broker.connection import TASK_NAME
from execution_logger.settings import Settings
from execution_logger.urls import public_url

COMMAND = "execution_logger"
"""The name of the command: `celery -A tasks inspect execution_logger` asks, too."""


def describe(settings: Settings) -> dict[str, str | None]:
    """Where this worker writes to and where it leaves word; nothing in it is secret."""
    return {
        "broker": public_url(settings.broker_url),
        "queue": settings.queue,
        "database": public_url(settings.database_url or ""),
        "table": settings.table,
        "time_zone": settings.time_zone,
        "result_backend": public_url(result_backend_url(settings) or "") or None,
    }


def answer_when_asked() -> None:
    """Let this worker process know the command; called once it is a worker, before it listens."""
    # Imported here: an application that only sends tasks registers ours, too.
    from celery.worker.control import inspect_command  # noqa: PLC0415

    inspect_command(name=COMMAND, help="Where the execution log goes, and what time it is here.")(_answer)


def _answer(state: Any, **_: Any) -> dict[str, Any]:
    """The description that `register_tasks` has left on the task, and what only the process knows."""
    task, pool = state.app.tasks.get(TASK_NAME), type(state.consumer.pool).__module__
    return {**getattr(task, "description", {}), "pool": pool.rpartition(".")[2], "time": time.time()}
