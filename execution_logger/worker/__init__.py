"""The Celery side: the application, its task, and what a worker process holds.

`celery -A tasks worker -Q logs` in the repository and `execution-logger worker` run
`create_app()`; a host's own worker takes the tasks with `register_tasks(app)`, and its own Beat
the schedules of the jobs with `beat_schedule(settings)`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from execution_logger.worker.app import create_app, create_client
    from execution_logger.worker.schedule import beat_schedule
    from execution_logger.worker.tasks import register_tasks

__all__ = ["beat_schedule", "create_app", "create_client", "register_tasks"]

_MODULES = {
    "beat_schedule": "execution_logger.worker.schedule",
    "create_app": "execution_logger.worker.app",
    "create_client": "execution_logger.worker.app",
    "register_tasks": "execution_logger.worker.tasks",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: supervisors and commands need neither Celery nor SQLAlchemy (40 MB)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
