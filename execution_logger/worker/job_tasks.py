"""The tasks of the jobs, which Celery Beat sends and which go on by messages of their own."""

from typing import Any

from celery import Celery
from celery.backends.base import DisabledBackend
from kombu.exceptions import OperationalError
from uuid_utils import uuid7

from execution_logger.diagnostics import logger
from execution_logger.errors import ExecutionLoggerError
from execution_logger.settings import Settings
from execution_logger.worker.jobs.job import JOBS, Job
from execution_logger.worker.jobs.runner import Result
from execution_logger.worker.jobs.schedule import beat_schedule
from execution_logger.worker.runtime import Runtime


def register_jobs(app: Celery, settings: Settings, runtime: Runtime, backend: DisabledBackend) -> None:
    """Add the task of each job to an application.

    Raises:
        SettingsError: a schedule is no crontab entry: said at the start, and not when it is due.
    """
    beat_schedule(settings)
    jobs = JobTasks(app, settings, runtime)
    for job in JOBS.values():
        _register(app, jobs, job, backend)


def _register(app: Celery, jobs: "JobTasks", job: Job, backend: DisabledBackend) -> None:
    @app.task(  # type: ignore[untyped-decorator] # Celery has no types
        name=job.task,
        bind=True,
        acks_late=True,
        reject_on_worker_lost=True,
        Request="execution_logger.worker.request:BatchRequest",
        backend=backend,
        ignore_result=True,
        serializer="json",
        typing=False,
        shared=False,
    )
    def run_job(self: Any, /, *_args: Any, **_kwargs: Any) -> str:
        return jobs.run(job, str(self.request.id))


class JobTasks:
    """Runs jobs for their tasks, and says once what is wrong with each.

    No exception leaves it: what has failed is noted, and tried again when the job is due again.
    """

    def __init__(self, app: Celery, settings: Settings, runtime: Runtime) -> None:
        self._app = app
        self._settings = settings
        self._runtime = runtime
        self._problems: dict[str, str] = {}

    def run(self, job: Job, message_id: str) -> str:
        """Do a slice; a short word on what became of it, for Celery's log."""
        next_id = str(uuid7())
        try:
            result = self._runtime.run_slice(job, message_id, next_id)
        except ExecutionLoggerError as error:
            self._say(job, f"not done, and not noted: {error}")
            return "not done"
        except Exception:  # noqa: BLE001 - logged; raised it would be Celery's, and the message gone as well
            logger.exception("job %s: unexpected error", job.name)
            return "not done"
        if result.outcome == "failed":
            self._say(job, f"failed: {result.run.error}")
        elif result.outcome == "succeeded":
            self._say_recovered(job)
        elif result.outcome == "handed over":
            self._send(job, next_id)
        self._send_missed(result)
        return result.outcome

    def _send_missed(self, result: Result) -> None:
        """Send the jobs again that the health check has missed."""
        if result.outcome == "succeeded":
            for name in result.run.summary.get("missed", ()):
                if name in JOBS:
                    self._send(JOBS[name], str(uuid7()))

    def _send(self, job: Job, message_id: str) -> None:
        try:
            self._app.tasks[job.task].apply_async(
                task_id=message_id, queue=self._settings.queue, expires=job.expires_seconds
            )
        except (OperationalError, OSError) as error:
            logger.error("job %s cannot go on, until the health check sends it: %s", job.name, error)

    def _say(self, job: Job, problem: str) -> None:
        if self._problems.get(job.name) != problem:
            self._problems[job.name] = problem
            logger.error("job %s %s", job.name, problem)

    def _say_recovered(self, job: Job) -> None:
        if self._problems.pop(job.name, None):
            logger.warning("job %s succeeds again", job.name)
