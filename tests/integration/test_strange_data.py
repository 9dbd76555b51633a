"""Keys of ours in Redis with what is not ours: nothing raises, ends the supervisor, or loses a batch."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from typing import Any

import pytest
import redis

from batches import batch, encoded
from execution_logger import Settings
from execution_logger.broker.confirmations import Confirmations
from execution_logger.broker.queue import BrokerUnavailableError, queue_length
from execution_logger.delivery.celery import CeleryDelivery
from execution_logger.errors import DeliveryError
from execution_logger.operate.facts import PARTS
from execution_logger.store import WriteResult
from execution_logger.worker import inspection
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.confirmations import Confirmer
from execution_logger.worker.inspection import ask_workers, workers_online
from execution_logger.worker.poison import dead_messages, quarantine_malformed, quarantine_next
from forgery import RAW
from messages import envelope, send_batch
from rows import count_rows
from waiting import wait_until
from workers import WorkerProcess

# Celery's own call; with redis-py 8.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

COMMAND = (sys.executable, "-m", "execution_logger.cli", "worker", "--concurrency", "2")

ITEMS = (
    *RAW,
    b"9" * 5000,
    b'[{"a": 1}, "", "logs"]',
    b'[5, "", "logs"]',
    b'[{}, "", []]',
    b"[1, 2]",
    b'{"headers": {"sent_at": 1e308}, "body": "", "properties": {}}',
    b'{"headers": {"sent_at": -1e308}}',
    b'{"headers": {"sent_at": ' + b"9" * 400 + b"}}",
    b'{"headers": {"sent_at": "x"}}',
)

Plant = Callable[["redis.Redis", str], object]

PLANTS: dict[str, Plant] = {
    "a text": lambda client, key: client.set(key, b"\xff\xfe"),
    "a list": lambda client, key: client.rpush(key, *ITEMS),
    "a set": lambda client, key: client.sadd(key, *ITEMS),
    "a hash": lambda client, key: client.hset(key, mapping={item[:50]: item for item in ITEMS}),
    "a sorted set": lambda client, key: client.zadd(key, {item: 10.0**n for n, item in enumerate(ITEMS)}),
    "a stream": lambda client, key: client.xadd(key, {"x": "y"}),
}

KEYS = (
    "logs",
    "logs.unacked",
    "logs.unacked_index",
    "logs.quarantine",
    "_kombu.binding.logs",
    "_kombu.binding.celery.pidbox",
)

LOOKS: tuple[Callable[[Settings], object], ...] = (
    queue_length,
    dead_messages,
    workers_online,
    partial(ask_workers, command="stats"),
    lambda settings: PARTS["queue"](settings, {}),
)


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis"]:
    """Of an empty Redis."""
    with redis.Redis.from_url(redis_url, socket_timeout=60) as client:
        yield client


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """Of the same."""
    return Settings(broker_url=redis_url)


@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize("key", KEYS)
def test_every_look_ends_in_order(
    client: "redis.Redis",
    settings: Settings,
    key: str,
    kind: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one error that callers know, or an answer; the supervisor's looks say one line each, at most."""
    monkeypatch.setattr(inspection, "_ANSWER_SECONDS", 0.01)  # no worker is there to answer
    PLANTS[kind](client, key)
    for look in LOOKS:
        with suppress(BrokerUnavailableError):
            look(settings)
    with closing(CeleryDelivery(settings)) as delivery, suppress(DeliveryError):
        delivery.look_at_queue()
    with caplog.at_level(logging.INFO, "execution_logger"):
        quarantine_malformed(settings)
        quarantine_next(settings)
    assert len(caplog.records) <= 2
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("kind", PLANTS)
def test_no_message_is_lost_when_it_cannot_be_moved(
    client: "redis.Redis", settings: Settings, kind: str
) -> None:
    """It stays where it is, while what should take it is not a list."""
    PLANTS[kind](client, "logs.quarantine")
    client.lpush("logs", "{}")
    client.hset("logs.unacked", "tag", "no message")
    client.zadd("logs.unacked_index", {"tag": 1})
    moved = quarantine_malformed(settings)
    assert moved == (2 if kind == "a list" else 0)
    assert client.llen("logs") + client.hlen("logs.unacked") + moved == 2


def test_what_no_worker_can_restore_is_moved_aside(client: "redis.Redis", settings: Settings) -> None:
    """Beside it, what a worker has in hand stays."""
    good = envelope(client, settings, "good", batch(encoded()))
    for number, item in enumerate(ITEMS):
        client.hset("logs.unacked", str(number), item)
    client.hset("logs.unacked", "good", redis_item(good))
    moved = quarantine_malformed(settings)
    assert moved == client.llen("logs.quarantine") == len(ITEMS)
    assert client.hkeys("logs.unacked") == [b"good"]


def redis_item(message: dict[str, Any]) -> bytes:
    """As Celery keeps it while a worker has it in hand."""
    return json.dumps([message, "", "logs"]).encode()


@pytest.mark.parametrize(
    "strange", [*PLANTS, b"\xff", b"[" * 100_000, b'{"status": "DEATHS", "result": {"deaths": "x"}}']
)
def test_words_of_others_are_no_words(
    client: "redis.Redis", settings: Settings, strange: str | bytes
) -> None:
    """Whatever a batch's result holds: its producer knows nothing, and its worker goes on."""
    for key in ("celery-task-meta-b", "celery-task-meta-b.deaths"):
        if isinstance(strange, str):
            PLANTS[strange](client, key)
        else:
            client.set(key, strange)
    received = ReceivedBatch("b", "[]", is_awaited=True, is_redelivered=True)
    with closing(Confirmations(settings, timeout_seconds=5)) as results, closing(Confirmer(settings)) as word:
        assert results.outcomes(["b"]) == {}
        assert results.result("b.deaths") is None or isinstance(strange, bytes)
        word.add_deaths(received, 1)
        word.held(received, "x")
        word._ask_again_at = 0.0  # as if it had been long ago
        word.stored(received, WriteResult(stored=1, duplicates=0, dead_lettered=0))
        assert results.outcomes(["b"])["b"].is_stored
        word.forget_deaths(received)
        assert not client.exists("celery-task-meta-b.deaths")


def test_a_supervised_worker_goes_on(redis_url: str, database_url: str, client: "redis.Redis") -> None:
    """What would end each worker that puts it back is moved aside; batches are stored."""
    environment = {
        "CELERY_BROKER_URL": redis_url,
        "DATABASE_URL": database_url,
        "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
        "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "5",
    }
    for number, item in enumerate(ITEMS):
        client.hset("logs.unacked", f"\udcff{number}".encode("utf-8", "surrogateescape"), item)
        client.zadd("logs.unacked_index", {f"\udcff{number}".encode("utf-8", "surrogateescape"): number})
    client.sadd("_kombu.binding.logs", b"\xff", b"x")
    settings = Settings(broker_url=redis_url)
    with WorkerProcess(COMMAND, environment=environment) as worker:
        send_batch(settings, "first", batch(encoded()))
        wait_until(lambda: count_rows(database_url) == 1 and not client.hlen("logs.unacked"), 60)
        assert worker.process.is_running()
        assert worker.output.count("it starts again in") <= 3
