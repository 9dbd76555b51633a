"""The Celery side: the application, its task, and what a worker process holds.

`celery -A tasks worker -Q logs` in the repository and `execution-logger worker` run
`create_app()`; a host's own worker takes the tasks with `register_tasks(app)`, and its own Beat
the schedules of the jobs with `beat_schedule(settings)`.
"""

from execution_logger.worker.app import create_app
from execution_logger.worker.jobs.schedule import beat_schedule
from execution_logger.worker.tasks import register_tasks

__all__ = ["beat_schedule", "create_app", "register_tasks"]
