"""The task that writes a batch. Whatever happens, the batch is written or goes back to the queue."""

from dataclasses import asdict
from typing import Any

from billiard import current_process
from celery import Celery, Task
from celery.backends.base import DisabledBackend
from celery.exceptions import Reject
from celery.signals import (
    celeryd_after_setup,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)

from execution_logger.broker.connection import TASK_NAME
from execution_logger.diagnostics import logger
from execution_logger.errors import SettingsError, StoreUnavailableError
from execution_logger.settings import BROKER, DATABASE, Settings
from execution_logger.store import create_engine
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.inspection import answer_when_asked, describe
from execution_logger.worker.jobs import register_jobs
from execution_logger.worker.pool import check_green
from execution_logger.worker.runtime import Runtime


def register_tasks(app: Celery, settings: Settings | None = None) -> Task:
    """Add the task `execution_logger.write_batch` to an application, a host's own for instance.

    With it come the tasks of the jobs, which run when somebody sends them: `beat_schedule` is for Beat.
    Each task brings what it needs (late acknowledgement, a result backend of its own); what belongs to the
    broker's connection, such as the visibility timeout, stays the application's.

    Raises:
        SettingsError: a setting cannot be used: said at the start, and not with each batch.
    """
    settings = settings or Settings.from_environment(uses=BROKER | DATABASE)
    settings.require_database("the worker")
    create_engine(settings, pool_size=1)  # connects to nothing
    runtime = Runtime(settings)
    backend = DisabledBackend(_without_results())
    _follow_the_worker(runtime, settings.queue)
    register_jobs(app, settings, runtime, backend)
    if settings.metrics_port:
        # Only who wants metrics needs the package.
        from execution_logger.worker.metrics import show_metrics  # noqa: PLC0415

        show_metrics(app, settings, runtime.counters)

    @app.task(  # type: ignore[untyped-decorator] # Celery has no types
        name=TASK_NAME,
        bind=True,
        acks_late=True,
        reject_on_worker_lost=True,
        acks_on_failure_or_timeout=False,  # a time limit that is too short must not lose batches
        Request="execution_logger.worker.batch:BatchRequest",
        # The runtime confirms a batch itself: Celery would fail the task when its backend fails.
        backend=backend,
        ignore_result=True,
        serializer="json",
        typing=False,  # a forged message with other arguments is a dead letter, not a crash
        shared=False,  # or every other application of the process would have it, with this database
        description=describe(settings),  # what the worker says by remote control
    )
    def write_batch(self: Any, /, *args: Any, **kwargs: Any) -> dict[str, int]:
        # An exception that escaped would acknowledge the message, and the batch would be gone.
        try:
            return asdict(runtime.write(ReceivedBatch.of(self.request, args, kwargs)))
        except StoreUnavailableError as error:
            raise Reject(str(error), requeue=True) from None
        except Exception as error:
            logger.exception("batch %s goes back to the queue after an unexpected error", self.request.id)
            runtime.pause()
            raise Reject(repr(error), requeue=True) from error

    return write_batch


def _without_results() -> Celery:
    """An application for the backend to belong to: that of the host is not configured yet."""
    return Celery("execution_logger.no_results", set_as_current=False, fixups=(), config_source={})


def _follow_the_worker(runtime: Runtime, queue: str) -> None:
    """Let the runtime know what the worker that hosts it does: start, shut down, end."""

    def on_setup(instance: Any = None, **_: Any) -> None:
        # The command line's -c and -P win over the settings. A prefork child writes one batch at a time.
        pool = getattr(instance.pool_cls, "__module__", "")
        if queue in instance.app.amqp.queues.consume_from:  # others of the application may be as they like
            try:
                check_green(pool, "--pool")
            except SettingsError as error:
                raise SystemExit(f"execution-logger: {error}") from None
        in_children = "prefork" in pool
        runtime.connections = 1 if in_children else instance.concurrency
        answer_when_asked()

    def on_child(**_: Any) -> None:
        runtime.counters.enter(1 + getattr(current_process(), "index", 0))

    def on_shutting_down(**_: Any) -> None:
        runtime.stopping = True

    def on_end(**_: Any) -> None:
        runtime.close()

    # weak=False: Celery would forget these closures at once.
    celeryd_after_setup.connect(on_setup, weak=False)
    worker_process_init.connect(on_child, weak=False)
    worker_shutting_down.connect(on_shutting_down, weak=False)
    worker_process_shutdown.connect(on_end, weak=False)
    worker_shutdown.connect(on_end, weak=False)
