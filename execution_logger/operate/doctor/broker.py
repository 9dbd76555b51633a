"""The broker: whether it takes batches, keeps them, and how many wait there."""

from collections.abc import Iterator
from typing import Any

from execution_logger.broker.depth import (
    BrokerUnavailableError,
    QueueLength,
    is_redis,
    measure_queue,
    open_channel,
    quarantine_key,
)
from execution_logger.operate.doctor.finding import Finding, Subject, error, ok, warning
from execution_logger.operate.doctor.redis import cluster, examine_redis, refused_commands, unreachable
from execution_logger.settings import Settings, is_set

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
