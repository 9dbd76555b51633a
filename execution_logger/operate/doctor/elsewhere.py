"""Whether a worker writes to the same places as this configuration names.

One server may have several names, `localhost` here and `postgres` in a container there: only what
cannot be the same is a finding.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from execution_logger.broker.confirmations import Confirmations, result_backend_url
from execution_logger.broker.depth import BrokerUnavailableError, is_redis, open_channel
from execution_logger.operate.doctor.finding import Finding, Subject, error, warning
from execution_logger.settings import Settings, is_set
from execution_logger.text import public_url
from execution_logger.worker.inspection import Inspected

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
