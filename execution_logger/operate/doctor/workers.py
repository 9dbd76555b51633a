"""The workers: whether any takes the batches, what each runs with, and whether it writes where hosts read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from execution_logger.broker.confirmations import Confirmations, result_backend_url
from execution_logger.broker.connection import TASK_NAME
from execution_logger.broker.queue import BrokerUnavailableError, is_redis, open_channel
from execution_logger.operate.doctor.broker import is_forbidden
from execution_logger.operate.doctor.finding import Finding, Subject, compare_clocks, error, ok, warning
from execution_logger.settings import Settings, is_set
from execution_logger.text import public_url
from execution_logger.worker.inspection import Inspected, inspect_workers

_TIMEOUT_SECONDS = 1.0


def compare_databases(worker: Inspected, subject: Subject) -> Iterator[Finding]:
    """The worker's database and table, and how it reads the table's times."""
    told, settings = worker.description, subject.settings
    if not settings.database_url or not told.get("database"):
        return
    ours, theirs = public_url(settings.database_url), told["database"]
    if _database(ours) != _database(theirs):
        yield error(
            "workers.database",
            f"{worker.name} writes to {theirs}, and DATABASE_URL names {ours} here",
            "set the same DATABASE_URL for workers and readers; --end-to-end shows where rows arrive",
        )
    if told.get("table") != settings.table:
        yield error(
            "workers.table",
            f"{worker.name} writes to table {told.get('table')}, and here it is {settings.table}",
            "set the same EXECUTION_LOGGER_TABLE for workers and readers",
        )
    if is_set("time_zone", subject.environ) and told.get("time_zone") != settings.time_zone:
        yield warning(
            "workers.time_zone",
            f"{worker.name} reads created_at as {told.get('time_zone')}, and here it is {settings.time_zone}",
            "set the same EXECUTION_LOGGER_TIME_ZONE for workers and readers",
        )


def compare_result_backends(worker: Inspected, settings: Settings) -> Iterator[Finding]:
    """Where the worker leaves confirmations, and where hosts look for them."""
    told, url = worker.description, result_backend_url(settings)
    theirs, ours = told.get("result_backend"), public_url(url) if url else None
    if theirs == ours:
        return
    same = "set the same CELERY_RESULT_BACKEND (or EXECUTION_LOGGER_CONFIRMATION) for hosts and workers"
    if theirs is None or ours is None:
        silent = (
            f"{worker.name} leaves no confirmations"
            if theirs is None
            else "hosts with these settings ask for none"
        )
        yield warning(
            "workers.result_backend", f"{silent} about batches, the other side does ({theirs or ours})", same
        )
    elif _is_elsewhere(theirs, str(told.get("broker")), ours, settings):
        yield error(
            "workers.result_backend",
            f"{worker.name} leaves confirmations in {theirs}, and hosts with these settings look "
            f"in {ours}: all is sent again and again",
            same,
        )


def _database(url: str) -> tuple[str, str]:
    """What two names of one database have in common: the kind, and the name behind the host."""
    parts = urlsplit(url)
    kind = "sqlite" if parts.scheme.startswith("sqlite") else "postgresql"
    return kind, parts.path.rstrip("/")


def _is_elsewhere(theirs: str, their_broker: str, ours: str, settings: Settings) -> bool:
    """Whether the two cannot be one Redis: both sides have the same broker, whatever each calls it."""
    if _redis_database(theirs) != _redis_database(ours):
        return True
    if _server(theirs) == _server(ours):
        return False
    is_their_broker = _server(theirs) == _server(their_broker)
    try:
        return is_their_broker != _is_our_broker(settings)
    except BrokerUnavailableError:
        return False  # that is not known, and why is said elsewhere


def _is_our_broker(settings: Settings) -> bool:
    """Whether our result backend is the broker's Redis, perhaps by another name."""
    if _server(result_backend_url(settings) or "") == _server(settings.broker_url):
        return True
    results = Confirmations(settings, timeout_seconds=_TIMEOUT_SECONDS)
    try:
        with open_channel(settings) as channel:
            return is_redis(channel) and _run_id(channel.client) == _run_id(results.backend.client)
    finally:
        results.close()


def _run_id(client: Any) -> str:
    return str(client.info("server").get("run_id"))


def _redis_database(url: str) -> str:
    return urlsplit(url).path.strip("/") or "0"


def _server(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url.split(";", maxsplit=1)[0])
    return parts.hostname, parts.port


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
