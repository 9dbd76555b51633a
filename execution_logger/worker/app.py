"""The worker's Celery application and its configuration."""

import sys
from typing import Any

from celery import Celery

from execution_logger.broker.confirmations import result_backend_configuration, result_backend_url
from execution_logger.broker.connection import TASK_NAME, configured_url, tls_options, worker_options
from execution_logger.broker.queue import check_broker_url
from execution_logger.settings import BROKER, WORKER, Settings
from execution_logger.worker.schedule import JOBS, beat_schedule


def create_app(settings: Settings | None = None) -> Celery:
    """Return the Celery application that writes batches to the database.

    Raises:
        SettingsError: a variable is wrong, or a URL is missing or cannot be used. Nothing is connected.
    """
    # Beat and Flower need no database, nor the packages for it.
    from execution_logger.worker.tasks import register_tasks  # noqa: PLC0415

    settings = settings or Settings.from_environment(uses=WORKER)
    settings.require_database("the worker")
    app = create_client(settings)
    register_tasks(app, settings)
    return app


def create_client(settings: Settings | None = None) -> Celery:
    """Return the application without its tasks: for Beat and Flower, which send and look.

    Raises:
        SettingsError: a variable is wrong, or the broker's URL cannot be used. Nothing is connected.
    """
    settings = settings or Settings.from_environment(uses=BROKER)
    check_broker_url(settings)
    app = Celery("execution_logger", set_as_current=False)
    app.conf.update(configuration := worker_configuration(settings))
    # Celery prefers CELERY_RESULT_BACKEND, which may be for the host's tasks, to what is configured.
    app.backend_cls = configuration["result_backend"]
    return app


def worker_configuration(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration for the worker; docs/CELERY_SETUP.md says what each line prevents."""
    url, results_url = configured_url(settings.broker_url), result_backend_url(settings)
    return {
        # Read and write URL, because Celery prefers the variable CELERY_BROKER_URL to `broker_url`.
        "broker_url": url,
        "broker_read_url": url,
        "broker_write_url": url,
        # In the URL Flower would not find it.
        "broker_use_ssl": tls_options(settings.broker_url),
        "broker_transport_options": worker_options(settings),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": "disabled",
        **(result_backend_configuration(settings, results_url) if results_url else {}),
        # Nothing but JSON is ever decoded, so nothing on the queue can execute.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_default_queue": settings.queue,
        "task_routes": {
            name: {"queue": settings.queue} for name in (TASK_NAME, *(job.task for job in JOBS.values()))
        },
        "beat_schedule": beat_schedule(settings),
        "beat_scheduler": "execution_logger.worker.schedule:PatientScheduler",
        "result_expires": settings.confirmation_expires_seconds,
        "task_ignore_result": True,
        "task_track_started": settings.task_track_started,
        "task_time_limit": settings.task_time_limit,
        "task_soft_time_limit": settings.task_soft_time_limit,
        # A batch leaves the queue only after its rows are committed, and a killed child gives it back.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        **_pool_of(settings),
        "worker_concurrency": settings.worker_concurrency,
        # Events cost 45 % of the throughput.
        "worker_send_task_events": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": True,
    }


def _pool_of(settings: Settings) -> dict[str, str]:
    """The configured pool, unless the command line names one.

    Celery takes an explicit `-P prefork` for its own default, which a configured pool overrules.
    """
    named = any(word.startswith(("-P", "--pool")) for word in sys.argv[1:])
    return {} if named else {"worker_pool": settings.worker_pool}
