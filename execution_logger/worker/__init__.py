"""The Celery side: the application, its task, and what a worker process holds.

`celery -A tasks worker -Q logs` in the repository and `execution-logger worker` run
`create_app()`; a host's own worker takes the task with `register_tasks(app)`.
"""

from execution_logger.worker.app import create_app
from execution_logger.worker.tasks import register_tasks

__all__ = ["create_app", "register_tasks"]
