"""The Celery application and its tasks: `celery -A flask_host.tasks worker --queues tests`."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
from billiard import current_process
from celery import Celery, Task, signals
from celery.exceptions import SoftTimeLimitExceeded
from celery.schedules import crontab
from sqlalchemy.exc import OperationalError

from execution_logger import LogCategory, Settings, execution_logger
from execution_logger.integrations.celery import bind_celery
from execution_logger.worker import beat_schedule
from flask_host import perf_test, runs, web_test
from flask_host.database import create_tables
from flask_host.settings import BROKER_URL, REDELIVERY_SECONDS, RUN_SECONDS

HIGHEST_PRIORITY = 9

log = execution_logger.sync
app = Celery("flask_host", broker=BROKER_URL)
app.conf.update(
    task_default_queue="tests",
    task_ignore_result=True,  # what came of a run is in the database
    task_acks_late=True,  # with the next line: what a killed worker had in hand is done by another one
    task_reject_on_worker_lost=True,
    task_soft_time_limit=RUN_SECONDS + 5,
    task_time_limit=RUN_SECONDS + 10,
    worker_prefetch_multiplier=1,  # what a worker has fetched cannot be overtaken
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        # Redis: a list for each priority (by default, four for all ten), read from the first to the last.
        "priority_steps": list(range(HIGHEST_PRIORITY + 1)),
        "queue_order_strategy": "priority",
        "visibility_timeout": REDELIVERY_SECONDS,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 2,  # with the next line: who starts a run does not wait for a lost Redis
        "max_retries": 1,
    },
    beat_schedule={
        "clean-up": {"task": "tasks.cleanup_old_results", "schedule": crontab(hour="2", minute="0")},
        **beat_schedule(Settings.from_environment()),  # the logger's own jobs, for its own queue
    },
)
signals.worker_init.connect(lambda **_: create_tables(), weak=False)
bind_celery(app, task_id=lambda request: request.kwargs.get("run_id"))


class RunTask(Task):  # type: ignore[misc] # Celery has no types
    """A task whose run says how it went, and which is tried again when something is away."""

    autoretry_for = (httpx.TransportError, OperationalError)
    max_retries = 6
    retry_backoff, retry_backoff_max = 1, 30  # seconds, doubled each time
    retry_jitter = False  # Celery's draws from 0 on: all retries may be over before anything is back

    def on_retry(self, exc: Exception, _task: str, _args: Any, kwargs: dict[str, Any], _info: Any) -> None:
        """Note it in the run; where the database is away, the next attempt does."""
        log.log_retry_start(None, f"attempt {self.request.retries + 1} failed: {exc}")
        with suppress(OperationalError):
            runs.note_failure(kwargs["run_id"], f"to be tried again: {exc}", is_final=False)

    def on_failure(self, exc: Exception, _task: str, _args: Any, kwargs: dict[str, Any], _info: Any) -> None:
        """Note it in the run."""
        with suppress(OperationalError):
            runs.note_failure(kwargs["run_id"], f"{type(exc).__name__}: {exc}", is_final=True)


@app.task(base=RunTask, name="tasks.run_web_test")
def run_web_test(*, run_id: str) -> None:
    """Make the requests of a script."""
    _perform(run_id, "web-test", web_test.run)


@app.task(base=RunTask, name="tasks.run_perf_test")
def run_perf_test(*, run_id: str) -> None:
    """Put the load of a scenario on the host."""
    _perform(run_id, "perf-test", perf_test.run)


@app.task(name="tasks.cleanup_old_results")
def cleanup_old_results(days: int = 30) -> None:
    """Delete what ended so many days ago."""
    deleted = runs.delete_old(days)
    log.info(None, LogCategory.DATABASE, f"{deleted} runs older than {days} days deleted")


def _perform(run_id: str, name: str, work: Callable[[runs.Attempt], dict[str, Any]]) -> None:
    attempt = runs.claim(run_id, is_terminable=current_process().name != "MainProcess")
    if attempt is None:
        log.info(None, LogCategory.WORKFLOW, "nothing to do: the run is over")
        return
    try:
        with log.run(run_id, name):
            try:
                result = work(attempt)
            except SoftTimeLimitExceeded:
                attempt.report()  # it may be the signal of somebody who has stopped the run
                raise
    except runs.StoppedError:
        attempt.end("stopped")
    else:
        attempt.end("failed" if result["failed"] else "passed", **result)
