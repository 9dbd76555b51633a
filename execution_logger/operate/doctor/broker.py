"""The broker and the result backend: will they take what is sent, keep it, and give it back?"""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from redis.exceptions import ResponseError

from execution_logger.broker.confirmations import STORED, result_backend_url
from execution_logger.broker.queue import (
    BrokerUnavailableError,
    QueueLength,
    is_redis,
    measure_queue,
    open_channel,
    quarantine_key,
)
from execution_logger.errors import ResultsUnavailableError
from execution_logger.operate.doctor.finding import (
    Finding,
    Subject,
    advice_on,
    compare_clocks,
    error,
    ok,
    warning,
)
from execution_logger.settings import Settings, is_set
from execution_logger.text import public_url
from execution_logger.worker.confirmations import WorkerConfirmations

_OLDEST_VERSION = (6, 2)  # the first with LMOVE, and the oldest that anybody still repairs
_NEARLY_FULL = 0.8
_FULL = 0.95
_BATCH_BYTES = 30_000
"""What a batch of 50 entries takes in Redis."""
_TIMEOUT_SECONDS = 1.0  # that of hosts, see broker.producer_options
_CONFIGURE = "redis-cli CONFIG SET {0}, and {0} in redis.conf"

_CAUSES = {
    "invalid username-password|WRONGPASS": "the password or the user in {variable} is wrong",
    "NOAUTH|Authentication required": "put the password into {variable}: redis://:PASSWORD@host:6379/0",
    "NOPERM|no permissions": "allow it to this user: redis-cli ACL SETUSER",
    "refused": "start the server, or correct host and port in {variable}",
    "no answer within|timed out": "Redis hangs, or a firewall drops packets: try redis-cli PING",
    "resolution|not known|getaddrinfo|nodename": "correct the host's name in {variable}",
    "CERTIFICATE_VERIFY_FAILED": (
        "name the authority in {variable}: rediss://...?ssl_ca_certs=/path/of/ca.pem"
    ),
    "certificate|SSL|WRONG_VERSION": "use rediss:// for a Redis with TLS, redis:// for one without",
    "WRONGTYPE": "something else has written this key: redis-cli TYPE KEY, then rename or delete it",
    "Protocol|InvalidResponse|closed by server|reset by peer": (
        "is that a Redis? Does it want TLS (rediss://)? See {variable}"
    ),
    "LOADING": "Redis reads its data; ask again",
    "invalid DB index|out of range": "correct the database's number in {variable}",
}
_REFUSALS = {
    "^OOM|^command not allowed when used memory": (
        "make room: start workers, raise maxmemory; hosts keep their entries meanwhile"
    ),
    "READONLY|read only replica": "this is a replica: name the master in the URL, or use sentinel://",
    "MISCONF": "Redis cannot write to its disk: see its log",
    "one of the keys": (
        "allow these keys to this user: redis-cli ACL SETUSER; one prefix is not enough, as Celery's own "
        "keys begin otherwise: deploy/redis/users.acl has all of them"
    ),
}


def is_forbidden(problem: str) -> bool:
    """Whether it is only that this user may not do it; hosts need less than workers, and doctors most."""
    return "no permissions" in problem.lower() or "NOPERM" in problem


def unreachable(area: str, problem: str, variable: str, *, is_set: bool) -> Finding:
    """A Redis that cannot be used, and what helps against this kind of failure."""
    if "timeout" in problem.lower():
        problem = f"{problem.partition(': ')[0]}: no answer within {_TIMEOUT_SECONDS:g} s"
    advice = advice_on(problem, _CAUSES, "check {variable}").format(variable=variable)
    if not is_set:
        advice = f"set {variable} (it is not set, so the default was tried); or {advice}"
    return error(f"{area}.connection", problem, advice)


def refused_commands(area: str, client: Any, commands: Sequence[Sequence[str]]) -> Iterator[Finding]:
    """Which of these commands Redis would refuse, for whatever reason; none is carried out.

    Inside MULTI Redis checks rights, memory and role as it takes a command, and forgets them all when
    EXEC does not follow.
    """
    connection = client.connection
    reasons: dict[str, list[str]] = {}
    try:
        if _send(connection, "MULTI") != b"OK":  # then the others would be carried out
            return
        for command in commands:
            try:
                _send(connection, *command)
            except ResponseError as refusal:
                reasons.setdefault(str(refusal), []).append(" ".join(command[:2]))
    finally:
        connection.disconnect()  # which discards all, too
    for reason, refused in reasons.items():
        advice = advice_on(reason, _REFUSALS, "allow it to this user: redis-cli ACL SETUSER")
        yield error(f"{area}.commands", f"Redis refuses {', '.join(refused)}: {reason}", advice)


def cluster(area: str, client: Any) -> Iterator[Finding]:
    """Celery's transport and its results use several keys in one command, which a cluster refuses."""
    try:
        is_cluster = client.info("cluster").get("cluster_enabled")
    except ResponseError:  # not for this user to see
        return
    if is_cluster:
        yield error(
            f"{area}.cluster",
            "Redis runs in cluster mode, in which Celery cannot work: its keys lie on several nodes",
            "use a Redis without cluster-enabled; sentinel:// is the way to one that fails over",
        )


def examine_redis(area: str, client: Any, url: str, subject: Subject) -> Iterator[Finding]:
    """Look at the server's own description of itself, and at its clock."""
    asked_at = subject.now()
    try:
        seconds, microseconds = client.time()
        yield from compare_clocks(area, "Redis'", seconds + microseconds / 1e6, asked_at, subject.now())
        info = client.info()
    except ResponseError as refusal:
        yield ok(f"{area}.server", f"{public_url(url)} answers; it lets this user ask for no more: {refusal}")
        return
    yield from version(area, str(info.get("redis_version", "")))
    yield from eviction(area, info)
    yield from persistence(area, info, _save_points(client))
    yield from memory(area, info, subject.settings.queue_max_messages)
    yield from clients(area, info)
    name = info.get("server_name", "Redis")
    yield ok(f"{area}.server", f"{public_url(url)} answers: {name} {info.get('redis_version', '?')}")


def version(area: str, text: str) -> Iterator[Finding]:
    """Old ones lack commands."""
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if numbers and numbers < _OLDEST_VERSION:
        yield error(f"{area}.version", f"Redis is {text}", "upgrade it to 6.2 or newer, better 7")


def eviction(area: str, info: dict[str, Any]) -> Iterator[Finding]:
    """A policy other than noeviction throws away what is queued, or a confirmation."""
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return
    lost = (
        "batches in the queue" if policy.startswith("allkeys") else "confirmations, so that batches go twice"
    )
    level = error if policy.startswith("allkeys") and info.get("maxmemory") else warning
    when = "may throw away" if info.get("maxmemory") else "throws away, as soon as it has a maxmemory,"
    yield level(
        f"{area}.eviction",
        f"maxmemory-policy is {policy}: a full Redis {when} {lost}",
        _CONFIGURE.format("maxmemory-policy noeviction"),
    )


def persistence(area: str, info: dict[str, Any], save_points: str | None) -> Iterator[Finding]:
    """Without the append-only file a restart forgets what is queued; the hosts have to send it again."""
    failed = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if info.get(name, "ok") != "ok"
    ]
    if failed:
        yield error(
            f"{area}.persistence",
            f"Redis could not write its data to disk: {', '.join(failed)}",
            "see Redis' log: usually the disk is full or its directory cannot be written",
        )
    elif not info.get("aof_enabled"):
        rest = "snapshots only" if save_points or save_points is None else "no persistence at all"
        yield warning(
            f"{area}.persistence",
            f"appendonly is no ({rest}): a crash of Redis costs what is queued, until hosts send it again",
            _CONFIGURE.format("appendonly yes"),
        )


def memory(area: str, info: dict[str, Any], queue_max_messages: int) -> Iterator[Finding]:
    """Room for the queue up to its limit, and how much of it is taken."""
    limit, used = int(info.get("maxmemory") or 0), int(info.get("used_memory") or 0)
    if not limit:
        return
    needed = queue_max_messages * _BATCH_BYTES
    if used >= _NEARLY_FULL * limit:
        level = error if used >= _FULL * limit else warning
        yield level(
            f"{area}.memory",
            f"Redis uses {_megabytes(used)} of its maxmemory of {_megabytes(limit)}; full, it takes no batch",
            "redis-cli --bigkeys says what fills it; start workers, or raise maxmemory",
        )
    elif needed > limit:
        yield warning(
            f"{area}.memory",
            f"maxmemory is {_megabytes(limit)}, and the queue alone may grow to about {_megabytes(needed)}: "
            f"{queue_max_messages:,} batches",
            "raise maxmemory, or set EXECUTION_LOGGER_QUEUE_MAX_MESSAGES="
            f"{max(1, int(limit * _NEARLY_FULL) // _BATCH_BYTES)} for all hosts",
        )


def clients(area: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Each host process and each worker holds a few connections."""
    connected, limit = int(info.get("connected_clients") or 0), int(info.get("maxclients") or 0)
    if limit and connected >= _NEARLY_FULL * limit:
        yield warning(
            f"{area}.clients",
            f"{connected:,} of at most {limit:,} clients are connected",
            "raise maxclients, and see with redis-cli CLIENT LIST who they are",
        )


def _save_points(client: Any) -> str | None:
    """When it makes snapshots; None when it does not tell."""
    try:
        return str(client.config_get("save").get("save", ""))
    except ResponseError:
        return None


def _send(connection: Any, *command: str) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


_NEARLY = 0.8
_OLD_SECONDS = 60.0


def examine_broker(subject: Subject) -> Iterator[Finding]:
    """Connect as a host does, and look at the server and at the queue."""
    settings = subject.settings
    refused: list[Finding] = []
    try:
        with open_channel(settings) as channel:
            if is_redis(channel):
                if clustered := list(cluster("broker", channel.client)):
                    yield from clustered
                    return
                refused = _refused(channel, settings)
                yield from refused
                yield from examine_redis("broker", channel.client, settings.broker_url, subject)
            length = measure_queue(channel, settings)
    except BrokerUnavailableError as problem:
        if not refused:  # or it is the same once more
            known = is_set("broker_url", subject.environ)
            yield unreachable("broker", str(problem), "CELERY_BROKER_URL", is_set=known)
        return
    age_seconds = None if length.sent_at is None else subject.now() - length.sent_at
    yield from judge_queue(settings, length, age_seconds)


def judge_queue(settings: Settings, length: QueueLength, age_seconds: float | None) -> Iterator[Finding]:
    """How full the queue is, how long the next batch has waited, and what was moved aside."""
    limit, waiting = settings.queue_max_messages, length.waiting
    start = "start workers (execution-logger worker), or find out why those that run do not keep up"
    if waiting >= _NEARLY * limit:
        full = waiting >= limit
        yield (error if full else warning)(
            "broker.queue",
            f"queue {settings.queue!r} holds {waiting:,} batches, its limit is {limit:,}"
            + (": hosts hold back what they log" if full else ""),
            f"{start}; a higher EXECUTION_LOGGER_QUEUE_MAX_MESSAGES takes more of Redis' memory",
        )
    elif age_seconds is not None and age_seconds > _OLD_SECONDS:
        yield warning(
            "broker.age",
            f"the next of {waiting:,} batches in queue {settings.queue!r} waits for {age_seconds:,.0f} s",
            start,
        )
    else:
        in_flight = "" if length.in_flight is None else f", {length.in_flight:,} in the hands of workers"
        yield ok("broker.queue", f"queue {settings.queue!r}: {waiting:,} batches wait{in_flight}")
    if length.quarantined:
        yield warning(
            "broker.quarantine",
            f"{length.quarantined:,} malformed messages were moved to {quarantine_key(settings)!r}",
            "find out who writes to this Redis: execution-logger dead list; then dead purge, or dead retry",
        )


def _refused(channel: Any, settings: Settings) -> list[Finding]:
    """What a host does with its queue, as far as Redis would not let it."""
    client = channel.Client(connection_pool=channel.client.connection_pool, single_connection_client=True)
    commands = (
        ("LPUSH", settings.queue, "x"),
        ("LLEN", settings.queue),
        ("LINDEX", settings.queue, "-1"),
        ("HLEN", channel.unacked_key),
        ("HLEN", "unacked"),
    )
    try:
        return list(refused_commands("broker", client, commands))
    finally:
        client.close()


_RESULTS_SECONDS = 1.0


def examine_results(subject: Subject) -> Iterator[Finding]:
    """Leave a confirmation of a batch that never was, read it and delete it."""
    settings = subject.settings
    url = result_backend_url(settings)
    if url is None:
        yield _nowhere(settings)
        return
    if settings.result_backend and public_url(settings.result_backend) != public_url(url):
        # Usual, and all right as long as the workers pass it over, too: that is the workers' check.
        passed_over = settings.result_backend.partition(":")[0]
        yield ok(
            "results.url",
            f"CELERY_RESULT_BACKEND={passed_over}:... carries no confirmations, the broker does",
        )
    variable = "CELERY_RESULT_BACKEND" if settings.result_backend else "CELERY_BROKER_URL"
    results = WorkerConfirmations(settings, timeout_seconds=_RESULTS_SECONDS)
    try:
        if clustered := _clustered(results, url):
            yield from clustered
            return
        yield from _try(results, url)
        if _is_redis(url) and public_url(url) != public_url(settings.broker_url):
            yield from examine_redis("results", results.backend.client, url, subject)
    except ResultsUnavailableError as problem:
        names = ("result_backend",) if settings.result_backend else ("broker_url",)
        known = any(is_set(name, subject.environ) for name in names)
        yield unreachable("results", str(problem), variable, is_set=known)
    finally:
        results.close()


def _is_redis(url: str) -> bool:
    return url.startswith("redis")


def _clustered(results: WorkerConfirmations, url: str) -> list[Finding]:
    with results.errors():
        return list(cluster("results", results.backend.client)) if _is_redis(url) else []


def _nowhere(settings: Settings) -> Finding:
    if settings.confirmation == "off":
        return ok(
            "results.place", "EXECUTION_LOGGER_CONFIRMATION=off: hosts forget what the broker has taken"
        )
    return warning(
        "results.place",
        "there is no result backend for confirmations: entries count as safe once the broker has them",
        "set EXECUTION_LOGGER_RESULT_BACKEND=redis://... to the same Redis for hosts and workers",
    )


def _try(results: WorkerConfirmations, url: str) -> Iterator[Finding]:
    name = f"doctor-{uuid4()}"
    try:
        results.store(name, STORED, {"stored": 0})
    except ResultsUnavailableError as problem:
        if not is_forbidden(str(problem)):
            raise
        results.forget(list(results.outcomes([name])))
        yield ok("results.place", f"{public_url(url)} lets this user read confirmations; workers write them")
        return
    try:
        found = results.outcomes([name])
    finally:
        results.forget([name])
    if name in found:
        yield ok("results.place", f"{public_url(url)} keeps the worker's confirmations")
    else:
        yield error(
            "results.place",
            f"{public_url(url)} took a confirmation and does not give it back",
            "name the master in the URL: a replica lags behind, or something in between caches",
        )
