"""The workers: whether any takes the batches, and what each really runs with."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from execution_logger.broker.connection import TASK_NAME
from execution_logger.broker.depth import BrokerUnavailableError
from execution_logger.operate.doctor.clocks import compare_clocks
from execution_logger.operate.doctor.elsewhere import compare_databases, compare_result_backends
from execution_logger.operate.doctor.finding import Finding, Subject, error, ok, warning
from execution_logger.operate.doctor.redis import is_forbidden
from execution_logger.settings import Settings
from execution_logger.worker.inspection import Inspected, inspect_workers

_CELERYS_VISIBILITY_TIMEOUT = 3600
_TESTED_POOLS = ("thread", "prefork", "solo")
_PICKLE = frozenset(("pickle", "application/x-python-serialize"))
_REDIS = ("redis", "rediss", "sentinel")


def examine_workers(subject: Subject) -> Iterator[Finding]:
    """Ask all workers of the broker by remote control, and judge what they say.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    try:
        workers = inspect_workers(subject.settings, subject.now)
    except BrokerUnavailableError as problem:
        if not is_forbidden(str(problem)):
            raise
        yield ok("workers.online", f"not asked, which is not for this user to do: {problem}")
        return
    yield from judge_workers(workers, subject)


def judge_workers(workers: Sequence[Inspected], subject: Subject) -> Iterator[Finding]:
    """Those that take from the queue must be able to write batches, and should be set up for it."""
    settings = subject.settings
    listening = [worker for worker in workers if settings.queue in worker.queues]
    ours = [worker for worker in listening if worker.has_task]
    if not workers:
        yield error(
            "workers.online",
            "no worker answers: batches stay in the queue",
            "start one: execution-logger worker; if one runs, it hangs, or has another CELERY_BROKER_URL",
        )
    elif not listening:
        queues = "; ".join(f"{worker.name}: {', '.join(worker.queues) or 'none'}" for worker in workers)
        yield error(
            "workers.queues",
            f"no worker takes from queue {settings.queue!r}; they take from others ({queues})",
            f"run execution-logger worker, or add the queue: celery -A APP worker -Q {settings.queue},...",
        )
    yield from _without_task(listening, settings)
    for worker in ours:
        yield from _judge(worker, subject)
    yield from _names(workers)
    yield from _neighbours(ours, [worker for worker in workers if worker not in ours])
    if ours:
        names = ", ".join(worker.name for worker in ours)
        yield ok("workers.online", f"batches of queue {settings.queue!r} are written by {names}")


def _without_task(listening: Sequence[Inspected], settings: Settings) -> Iterator[Finding]:
    for worker in listening:
        if not worker.has_task:
            yield error(
                "workers.task",
                f"{worker.name} takes from queue {settings.queue!r} and does not know {TASK_NAME}: "
                "it throws batches away",
                f"remove {settings.queue} from its -Q, or call register_tasks(app) in its application",
            )


def _judge(worker: Inspected, subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    for check in (_content, _pool, _time_limit):
        yield from check(worker, settings)
    elsewhere = list(compare_result_backends(worker, settings)) if worker.description else []
    if urlsplit(settings.broker_url).scheme.partition("+")[0] in _REDIS and worker.configuration is not None:
        confirms = bool(worker.description.get("result_backend")) and not elsewhere
        yield from _redeliveries(worker, settings, confirms=confirms)
        yield from _half_open(worker)
    if told := worker.description:
        whose = f"worker {worker.name}'s"
        yield from compare_clocks("workers", whose, told["time"], *worker.described_between)
        yield from compare_databases(worker, subject)
        yield from elsewhere


def _content(worker: Inspected, _: Settings) -> Iterator[Finding]:
    accepted = (worker.configuration or {}).get("accept_content") or ()
    if _PICKLE & set(accepted):
        yield error(
            "workers.content",
            f"{worker.name} accepts pickle: who can write to the broker can have code executed there",
            'set accept_content = ["json"] in its application, or run execution-logger worker apart from it',
        )


def _pool(worker: Inspected, _: Settings) -> Iterator[Finding]:
    pool = worker.description.get("pool")
    if pool and pool not in _TESTED_POOLS:
        yield warning(
            "workers.pool",
            f"{worker.name} runs in the pool {pool}, which the library was not tested with",
            "run execution-logger worker apart from it: its pool is threads",
        )


def _time_limit(worker: Inspected, settings: Settings) -> Iterator[Finding]:
    for name in ("task_time_limit", "task_soft_time_limit"):
        limit = (worker.configuration or {}).get(name)
        if isinstance(limit, int | float) and 0 < limit < settings.database_timeout_seconds:
            yield warning(
                "workers.time_limit",
                f"{worker.name} has {name}={limit:g}, and one attempt to write a batch may take "
                f"{settings.database_timeout_seconds:g} s",
                f"raise {name}, or lower EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS",
            )


def _redeliveries(worker: Inspected, settings: Settings, *, confirms: bool) -> Iterator[Finding]:
    """When the batches of a killed worker come back, by what this worker really runs with."""
    timeout, meant = visibility_timeout(worker), settings.visibility_timeout_seconds
    if timeout > meant and confirms:
        yield ok(
            "workers.visibility_timeout",
            f"{worker.name} has a visibility_timeout of {timeout:,.0f} s; what a killed worker had in hand "
            "is sent again by its host long before, when no confirmation of it comes",
        )
    elif timeout > meant:
        yield warning(
            "workers.visibility_timeout",
            f"{worker.name} has a visibility_timeout of {timeout:,.0f} s instead of {meant:,} s: what a "
            "killed worker had in hand comes back that late",
            'set broker_transport_options = {"visibility_timeout": ...} in its application, or run '
            "execution-logger worker apart from it; if its own tasks need so long, set "
            f"EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS={timeout:.0f} everywhere",
        )
    elif timeout < 2 * settings.database_timeout_seconds:
        yield error(
            "workers.visibility_timeout",
            f"{worker.name} has a visibility_timeout of {timeout:,.0f} s: it gets batches again that it "
            "is writing",
            f"raise it to at least {2 * settings.database_timeout_seconds:,.0f} s",
        )


def _half_open(worker: Inspected) -> Iterator[Finding]:
    if not worker.transport_options.get("socket_timeout"):
        yield warning(
            "workers.socket_timeout",
            f"{worker.name} waits for Redis without a limit: a connection that dies silently stops "
            "it for ever",
            'add "socket_timeout": 10, "health_check_interval": 5 to its broker_transport_options',
        )


def _names(workers: Sequence[Inspected]) -> Iterator[Finding]:
    for name, number in Counter(worker.name for worker in workers).items():
        if number > 1:
            yield warning(
                "workers.names",
                f"{number} workers have the name {name}: status and remote control take them for one",
                "start each with a name of its own: execution-logger worker -- --hostname logs-2@%h",
            )


def _neighbours(ours: Sequence[Inspected], others: Sequence[Inspected]) -> Iterator[Finding]:
    """Whose tasks Celery runs twice: it puts back what any worker has, after the shortest timeout of all."""

    def shares(worker: Inspected) -> bool:
        return worker.configuration is not None and not _key_of(worker.transport_options)

    timeouts = [visibility_timeout(worker) for worker in ours if shares(worker)]
    for worker in filter(shares, others):
        if timeouts and visibility_timeout(worker) > min(timeouts):
            yield warning(
                "workers.neighbours",
                f"{worker.name} shares this Redis database: any of its tasks that takes longer than "
                f"{min(timeouts):,.0f} s is run again by another worker, because a worker that takes batches "
                "has that visibility_timeout",
                "write batches with execution-logger worker, which keeps apart what it has in hand, or give "
                "all workers of the application the same visibility_timeout, "
                f"{visibility_timeout(worker):.0f}",
            )


def _key_of(options: dict[str, Any]) -> tuple[Any, ...]:
    """What keeps the messages in hand apart from those of others; empty for Celery's default."""
    return tuple(options[name] for name in ("global_keyprefix", "unacked_key") if options.get(name))


def visibility_timeout(worker: Inspected) -> float:
    """What it really has, in seconds."""
    return float(worker.transport_options.get("visibility_timeout") or _CELERYS_VISIBILITY_TIMEOUT)
