"""Forged messages on the queue of a supervised worker: it goes on, and valid batches are stored once."""

import copy
import json
import sys
from collections.abc import Iterator, Sequence

import pytest
import redis
from click.testing import CliRunner, Result
from uuid_utils import uuid7

from batches import batch, encoded
from execution_logger import Settings
from execution_logger.cli import main
from forgery import Forger
from messages import envelope
from rows import fetch
from waiting import wait_until
from workers import WorkerProcess

COMMAND = (sys.executable, "-m", "execution_logger.cli", "worker", "--concurrency", "2")
ENTRIES_PER_BATCH = 5
QUARANTINE = "logs.quarantine"


class Site:
    """The queue as those see it who write to Redis themselves."""

    def __init__(self, redis_url: str, database_url: str, client: "redis.Redis") -> None:
        self.client = client
        self.environment = {
            "CELERY_BROKER_URL": redis_url,
            "DATABASE_URL": database_url,
            "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
            "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "5",
        }
        self.batches = 0
        self._database_url = database_url
        entries = batch(*(encoded(task_id="forged") for _ in range(3)))
        self.model = envelope(client, Settings(broker_url=redis_url), str(uuid7()), entries)

    def worker(self) -> WorkerProcess:
        """The supervised worker, not started yet."""
        return WorkerProcess(COMMAND, environment=self.environment)

    def push(self, forged: Sequence[bytes], batches: int) -> None:
        """Put forged messages on the queue, and that many valid batches evenly among them."""
        every = max(1, len(forged) // batches)
        for number, item in enumerate(forged):
            self.client.lpush("logs", item)
            if number % every == 0:
                self.push_batch()

    def push_batch(self) -> None:
        """Put one valid batch on the queue."""
        self.client.lpush("logs", self.batch_item())
        self.batches += 1

    def check(self, worker: WorkerProcess, timeout_seconds: float = 40) -> None:
        """The queue is empty, and each valid entry is one row."""
        expected = self.batches * ENTRIES_PER_BATCH
        wait_until(
            lambda: (
                self.client.llen("logs") == self.client.hlen("logs.unacked") == 0 and self.rows() >= expected
            ),
            timeout_seconds,
            message=lambda: f"{self.rows()} of {expected} rows. {worker.output[-5000:]}",
        )
        assert self.rows() == expected
        assert worker.process.is_running()

    def rows(self) -> int:
        """How many entries of valid batches are stored."""
        statement = "SELECT count(*) AS n FROM execution_logs WHERE task_id = 'valid'"
        return int(fetch(self._database_url, statement)[0]["n"])

    def dead(self, *arguments: str) -> Result:
        """The outcome of `execution-logger dead`."""
        return CliRunner().invoke(main, ["dead", *arguments], env=self.environment)

    def batch_item(self) -> bytes:
        """A valid batch as an item of the queue: the model with entries and ids of its own."""
        item = copy.deepcopy(self.model)
        entries = batch(*(encoded(task_id="valid") for _ in range(ENTRIES_PER_BATCH)))
        _, *more = json.loads(item["body"])
        item["body"] = json.dumps([[entries], *more])
        item["headers"]["id"] = item["headers"]["root_id"] = str(uuid7())
        item["properties"]["delivery_tag"] = str(uuid7())
        return json.dumps(item).encode()


@pytest.fixture
def site(redis_url: str, database_url: str) -> Iterator[Site]:
    """An empty queue."""
    with redis.Redis.from_url(redis_url, socket_timeout=60) as client:
        yield Site(redis_url, database_url, client)


def test_whatever_is_on_the_queue_the_worker_goes_on(site: Site) -> None:
    """Five hundred forgeries, some of them while it works; one crash clears all that is visible."""
    forged = list(Forger(site.model, seed=1).messages(500))
    site.push(forged[:300], batches=20)
    with site.worker() as worker:
        site.check(worker)
        site.push(forged[300:], batches=10)
        site.check(worker)
        crashes = worker.output.count("it starts again in")
        assert 1 <= crashes <= 6
        moved = site.client.llen(QUARANTINE)
        assert moved > 50
        # A line for each look that moves some, after a crash or between two, and not one for each message.
        assert 1 <= worker.output.count("messages that can end a worker were moved") <= moved / 5


@pytest.mark.parametrize("header", ["id", "timelimit", "eta", "expires"])
def test_a_worker_without_a_supervisor_refuses_strange_headers(site: Site, header: str) -> None:
    """Celery's own would end, or without an id be given the message again and again."""
    forged = copy.deepcopy(site.model)
    forged["headers"][header] = ""
    if header == "id":
        del forged["headers"]["id"]
    site.push([json.dumps(forged).encode()], batches=1)
    with WorkerProcess(environment=site.environment) as worker:
        site.check(worker)
        assert "Unrecoverable error" not in worker.output


def test_no_message_steers_the_workers_terminal(site: Site) -> None:
    """Celery logs the id of each that it takes, and its name."""
    forged = [copy.deepcopy(site.model) for _ in range(2)]
    for message, header in zip(forged, ("id", "shadow"), strict=True):
        message["headers"][header] = "x\x1b[2J"
    site.push([json.dumps(message).encode() for message in forged], batches=1)
    with WorkerProcess(environment=site.environment) as worker:
        site.check(worker)
        assert worker.output.count("Received invalid task message: its id or name") == len(forged)
        assert "\x1b[2J" not in worker.output


def test_a_message_that_keeps_the_worker_busy_is_moved_aside(site: Site) -> None:
    """One without an id, of a task that the worker does not know, is taken for a lost connection."""
    forged = copy.deepcopy(site.model)
    del forged["headers"]["id"]
    forged["headers"]["task"] = "unknown"
    site.push([json.dumps(forged).encode()], batches=1)
    with site.worker() as worker:
        site.check(worker)
        assert site.client.llen(QUARANTINE) == 1


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3])
def test_ten_thousand_forgeries(site: Site, seed: int) -> None:
    """In rounds, so that the worker is hit while it works."""
    forged = list(Forger(site.model, seed=seed).messages(10_000))
    with site.worker() as worker:
        for start in range(0, len(forged), 1000):
            site.push(forged[start : start + 1000], batches=50)
            site.check(worker, 120)
        assert worker.output.count("it starts again in") <= 40


def test_messages_that_were_moved_aside_are_looked_after(site: Site) -> None:
    """Listed, shown, tried again once the rules have changed, and deleted."""
    good = site.batch_item()
    bad = b'{"body": "\xff"}'
    site.client.lpush(QUARANTINE, good, bad, bad)
    found = json.loads(site.dead("list", "--json").stdout)
    assert [each["kind"] for each in found] == ["message"] * 3
    assert found[0]["id"] == found[1]["id"]
    assert found[0]["reason"].startswith("it is not JSON")
    assert found[2]["reason"] == "none by now: it can be retried"
    assert json.loads(site.dead("show", found[0]["id"]).stdout)["message"] == '{"body": "\\xff"}'
    result = site.dead("retry", "--all")
    assert result.exit_code == 1
    assert result.stdout == "Retried with success: 1. Refused again: 2.\n"
    assert result.stderr.count(": it is not JSON: ") == 2
    assert site.client.lrange("logs", 0, -1) == [good]
    assert site.dead("purge", found[0]["id"]).stdout == "Deleted: 2.\n"
    assert "No entry was refused" in site.dead("list").stdout
