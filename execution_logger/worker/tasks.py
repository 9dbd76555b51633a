"""The tasks: that which writes a batch, those of the jobs, and in which of Celery's pools they can run.

Whatever happens, a batch is written or goes back to the queue.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
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
from kombu.exceptions import OperationalError

from execution_logger.broker import embedded
from execution_logger.broker.connection import TASK_NAME
from execution_logger.diagnostics import logger
from execution_logger.errors import ExecutionLoggerError, SettingsError, StoreUnavailableError
from execution_logger.settings import BROKER, DATABASE, Settings
from execution_logger.store import create_engine
from execution_logger.store.job_runs import JobRun
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.inspection import answer_when_asked, describe
from execution_logger.worker.jobs import Result, most_seconds, run_tick
from execution_logger.worker.runtime import Runtime
from execution_logger.worker.schedule import JOBS, OLD_REPORT_TASK, Job, beat_schedule

_OPTIONS: dict[str, Any] = {
    "Request": "execution_logger.worker.batch:BatchRequest",
    "ignore_result": True,
    "serializer": "json",
    "typing": False,  # a forged message with other arguments is a dead letter, not a crash
    "shared": False,  # or every other application of the process would have it, with this database
}
_GREEN = ("gevent", "eventlet")


def register_tasks(app: Celery, settings: Settings | None = None) -> Task:
    """Add the task `execution_logger.write_batch` to an application, a host's own for instance.

    With it come the tasks of the jobs, which run when somebody sends them: `beat_schedule` is for Beat.
    Each task brings what it needs (late acknowledgement, a result backend of its own); what belongs to the
    broker's connection, such as the visibility timeout, stays the application's. Its broker may be
    `embedded:///folder`, too: for trying out, without a server.

    Raises:
        SettingsError: a setting cannot be used: said at the start, and not with each batch.
    """
    settings = settings or Settings.from_environment(uses=BROKER | DATABASE)
    settings.require_database("the worker")
    embedded.register()
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
        # The runtime confirms a batch itself: Celery would fail the task when its backend fails.
        backend=backend,
        description=describe(settings),  # what the worker says by remote control
        **_OPTIONS,
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


def register_jobs(app: Celery, settings: Settings, runtime: Runtime, backend: DisabledBackend) -> None:
    """Add the task of each job to an application.

    Raises:
        SettingsError: a schedule is no crontab entry: said at the start, and not when it is due.
    """
    beat_schedule(settings)
    jobs = JobTasks(app, settings, runtime)
    for job in JOBS.values():
        _register(app, job.task, partial(jobs.run, job), backend)
    _register(app, OLD_REPORT_TASK, _ignore_report, backend)


def _register(app: Celery, name: str, run: Callable[[], str], backend: DisabledBackend) -> None:
    @app.task(  # type: ignore[untyped-decorator] # Celery has no types
        name=name,
        # A tick that kills its worker must not come again and again; the next one is sent when it is due.
        acks_late=False,
        reject_on_worker_lost=False,
        backend=backend,
        **_OPTIONS,
    )
    def run_job(*_args: Any, **_kwargs: Any) -> str:
        return run()


def _ignore_report() -> str:
    """A Beat of the version before sends it until it is replaced."""
    logger.warning("the weekly report is not made any more: examples/weekly_report.py is a task for hosts")
    return "ignored"


class JobTasks:
    """Runs ticks for the tasks, and says once what is wrong with each job.

    No exception leaves it: what has failed is noted, and tried again when the job is due again.
    """

    def __init__(self, app: Celery, settings: Settings, runtime: Runtime) -> None:
        self._app = app
        self._settings = settings
        self._runtime = runtime
        self._problems: dict[str, str] = {}

    def run(self, job: Job) -> str:
        """Run a tick; a short word on what became of it, for Celery's log."""
        try:
            result = self._tick(job)
        except ExecutionLoggerError as error:
            self._say(job, f"not done, and not noted: {error}")
            return "not done"
        except Exception:  # noqa: BLE001 - logged; raised it would be logged by Celery as well
            logger.exception("job %s: unexpected error", job.name)
            return "not done"
        if result.outcome == "failed":
            self._say(job, f"failed: {result.run.error}")
        elif result.outcome == "succeeded":
            self._say_recovered(job)
            self._send_missed(result.run)
        return result.outcome

    def _tick(self, job: Job) -> Result:
        tick = run_tick(self._settings, job, lambda: self._runtime.stopping, self._app)
        return self._runtime.run(tick, most_seconds(self._settings))

    def _send_missed(self, run: JobRun) -> None:
        """Send the jobs that the health check has missed, and those that have more to do."""
        for name in run.summary.get("missed", ()):
            if name in JOBS:
                self._send(JOBS[name])

    def _send(self, job: Job) -> None:
        try:
            self._app.tasks[job.task].apply_async(queue=self._settings.queue, expires=job.expires_seconds)
        except (OperationalError, OSError) as error:
            logger.error("job %s is sent by the next health check: %s", job.name, error)

    def _say(self, job: Job, problem: str) -> None:
        if self._problems.get(job.name) != problem:
            self._problems[job.name] = problem
            logger.error("job %s %s", job.name, problem)

    def _say_recovered(self, job: Job) -> None:
        if self._problems.pop(job.name, None):
            logger.warning("job %s succeeds again", job.name)


def named_pool(options: Sequence[str]) -> str | None:
    """The pool that options of `celery worker` name, as Celery reads them: the last one counts."""
    pool = None
    for option, following in pairwise([*options, ""]):
        if option in ("-P", "--pool"):
            pool = following
        elif option.startswith("--pool="):
            pool = option.removeprefix("--pool=")
        elif option.startswith("-P"):
            pool = option.removeprefix("-P").removeprefix("=")
    return pool


def check_green(pool: str, where: str) -> None:
    """See whether a pool has threads.

    Args:
        pool: its name, or its module's.
        where: who has named it.

    Raises:
        SettingsError: it has greenlets: the thread that writes to the database would never run.
    """
    for name in _GREEN:
        if name in pool:
            raise SettingsError(
                f"{where}={name}: cannot store batches; use threads, prefork or solo, or let a worker of "
                "its own take this queue: execution-logger worker"
            )


def check_pool(settings: Settings, options: Sequence[str], platform: str = sys.platform) -> None:
    """See whether this machine can run the pool.

    Raises:
        SettingsError: it is one of greenlets, or prefork on Windows: Celery starts, takes batches, and
            stores none.
    """
    check_green(named_pool(options) or "", "--pool")
    if platform == "win32" and (named_pool(options) or settings.worker_pool) in ("prefork", "processes"):
        where = "--pool" if named_pool(options) else "EXECUTION_LOGGER_WORKER_POOL"
        raise SettingsError(f"{where}=prefork: does not run on Windows; use threads (the default) or solo")
