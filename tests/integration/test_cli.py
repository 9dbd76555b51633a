"""The command against real servers and real workers."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, LogCategory, Settings
from rows import count_rows, fetch
from servers import RedisServer
from waiting import wait_until
from workers import WorkerProcess

COMMAND = (sys.executable, "-P", "-m", "execution_logger.cli")
BATCH = 5


class Site:
    """A host's logger, a queue, and a database with its tables; workers are the command's."""

    def __init__(self, redis: RedisServer, database_url: str) -> None:
        self.redis = redis
        self.database_url = database_url
        self.environment = {"CELERY_BROKER_URL": redis.url(), "DATABASE_URL": database_url}
        self.calls = 0
        settings = Settings(broker_url=redis.url(), batch_size=BATCH, max_batch_entries=BATCH)
        self.logger = ExecutionLogger(settings)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            [*COMMAND, *arguments], check=False, env=environment, capture_output=True, text=True, timeout=300
        )

    def worker(self, *arguments: str) -> WorkerProcess:
        """`execution-logger worker`, not started yet."""
        return WorkerProcess((*COMMAND, "worker", *arguments), environment=self.environment)

    def send(self, batches: int = 1) -> None:
        """Log full batches, and wait until they are in the queue."""
        for number in range(batches * BATCH):
            self.logger.sync.info("t", LogCategory.WORKFLOW, str(self.calls + number))
        self.calls += batches * BATCH
        assert self.logger.sync.flush(DEADLINE_SECONDS).complete

    def push(self, item: str | bytes) -> None:
        """Put something into the queue that no producer of ours sends."""
        with self.redis.client() as client:
            client.lpush("logs", item)

    def example(self) -> dict[str, Any]:
        """A message that is in the queue."""
        with self.redis.client() as client:
            found: dict[str, Any] = json.loads(str(client.lindex("logs", 0)))
        return found

    def quarantined(self) -> int:
        """How many messages were moved aside."""
        with self.redis.client() as client:
            return int(client.llen("logs.quarantine"))

    def check_all_stored(self) -> None:
        """Wait until each call is a row."""
        wait_until(lambda: count_rows(self.database_url) == self.calls, 40, message=self._where)
        with self.redis.client() as client:
            wait_until(
                lambda: not client.llen("logs") and not client.hlen("logs.unacked"), message=self._where
            )

    def _where(self) -> str:
        with self.redis.client() as client:
            return f"{count_rows(self.database_url)}/{self.calls} rows, {client.llen('logs')} waiting"


@pytest.fixture
def site(redis_server: RedisServer, redis_url: str, database_url: str) -> Iterator[Site]:
    """A site whose queue is empty."""
    assert redis_server.url() == redis_url
    site = Site(redis_server, database_url)
    yield site
    site.logger.sync.shutdown()
    del site.logger  # its journal stays open as long as it is there, where a test took batches away


def celery_process(worker: WorkerProcess) -> psutil.Process:
    """The supervised process."""
    (process,) = psutil.Process(worker.pid).children()
    return process


def poison(good: dict[str, Any]) -> list[str | bytes]:
    """Messages that end a Celery worker before any task runs, if not ours."""
    # Celery tells messages in flight apart by this tag.
    properties = {**good["properties"], "delivery_tag": "forged"}
    good = {**good, "properties": properties}
    headers = good["headers"]
    return [
        # No base64, whatever one leaves out. Of a real body it depends on its length, and with that on the
        # digits of a process id, whether the decoder fails or makes noise of it, which Celery only discards.
        json.dumps({**good, "body": "a", "properties": {**properties, "body_encoding": "base64"}}),
        json.dumps({**good, "body": '{"a":1}'}),  # instead of a list of three
        json.dumps({**good, "body": "[[],{}]"}),
        json.dumps({**good, "body": None}),
        json.dumps({**good, "headers": {**headers, "timelimit": "x"}}),
        json.dumps({**good, "headers": {**headers, "id": []}}),
        "hello",
        "[1]",
        "null",
        b"\xff\xfe",
        # This one after it was noted as in flight.
        json.dumps({**good, "headers": {**headers, "task": []}}),
    ]


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_malformed_messages_stop_nothing(site: Site, pool: str) -> None:
    """Each would end every worker that takes it; all batches before, between and after them are stored."""
    site.send(3)
    messages = poison(site.example())
    for item in messages:
        site.push(item)
        site.send()
    site.send(3)
    with site.worker("--pool", pool, "--concurrency", "2") as worker:
        site.check_all_stored()
        site.send()
        site.check_all_stored()
        output = worker.output
    lines = [line for line in output.splitlines() if "were moved from 'logs' to 'logs.quarantine'" in line]
    assert all("ERROR" in line for line in lines)
    numbers = [int(number) for line in lines for number in re.findall(r"e': (\d+)\.", line)]
    assert sum(numbers) == site.quarantined()
    # The first one ends the worker, which Celery then has lost; the others are moved before they can. Where
    # a worker takes long to start, the supervisor has had a look before, at the oldest ones.
    crashes = output.count("it starts again in") - output.count("has moved aside what ended it")
    assert len(messages) - crashes <= site.quarantined() <= len(messages)
    assert crashes <= 1
    assert len(lines) <= 3


def test_a_message_that_ends_a_worker_too_late_to_be_lost_is_moved_as_well(site: Site) -> None:
    """Celery puts it back into the queue, where the next worker would find it."""
    site.send()
    message = poison(site.example())[-1]
    with site.worker() as worker:
        site.check_all_stored()
        site.push(message)
        wait_until(lambda: site.quarantined() == 1, 30, message=lambda: worker.output)
        site.send()
        site.check_all_stored()
        assert worker.output.count("the worker ended with exit code") == 1


def test_a_malformed_message_that_a_killed_worker_held_is_moved(site: Site) -> None:
    """Redelivery would bring it back again and again; a good one of it, and of other queues, stays."""
    site.send()
    good, bad = site.example(), {**site.example(), "body": "eyJhIjoxfQ=="}
    with site.redis.client() as client:
        client.delete("logs")
        for tag, message, queue in (("bad", bad, "logs"), ("good", good, "logs"), ("other", bad, "other")):
            client.hset("logs.unacked", tag, json.dumps([message, "", queue]))
            client.zadd("logs.unacked_index", {tag: 2e9})  # not to be redelivered while the test runs
        with site.worker() as worker:
            celery_process(worker).kill()
            wait_until(lambda: worker.output.count("ready.") == 2, 30, message=lambda: worker.output)
            wait_until(lambda: client.hlen("logs.unacked") == 2)
        assert sorted(client.hkeys("logs.unacked")) == ["good", "other"]
        assert sorted(client.zrange("logs.unacked_index", 0, -1)) == ["good", "other"]
        assert [json.loads(item) for item in client.lrange("logs.quarantine", 0, -1)] == [bad]


def test_a_worker_that_is_killed_is_started_again(site: Site) -> None:
    """Nobody has to do anything, and nothing is quarantined."""
    with site.worker() as worker:
        site.send()
        site.check_all_stored()
        celery_process(worker).kill()
        # Redis may still give a batch to the connection of the killed one.
        wait_until(lambda: worker.output.count("ready.") == 2, 30, message=lambda: worker.output)
        site.send()
        site.check_all_stored()
        assert "the worker was killed by SIGKILL; it starts again in " in worker.output
    assert site.quarantined() == 0


def test_sigterm_ends_the_worker_in_order(site: Site) -> None:
    """The supervisor passes it on, ends with the worker, and returns its exit code."""
    with site.worker("--pool", "prefork") as worker:
        children = psutil.Process(worker.pid).children(recursive=True)
        site.send()
        site.check_all_stored()
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait() == 0
        assert "Warm shutdown" in worker.output
        assert "it starts again" not in worker.output
        assert not any(child.is_running() for child in children)


def test_a_worker_does_not_outlive_its_supervisor(site: Site) -> None:
    """When that is killed, nobody else would end the worker."""
    with site.worker() as worker:
        celery = celery_process(worker)
        worker.process.send_signal(signal.SIGKILL)
        assert worker.process.wait() == -signal.SIGKILL
        with suppress(psutil.NoSuchProcess):
            wait_until(lambda: celery.status() == psutil.STATUS_ZOMBIE, 20)
        assert "Warm shutdown" in worker.output


def test_an_option_that_celery_does_not_know_is_no_crash(site: Site) -> None:
    """It is said once, with Celery's own message."""
    done = site.run("worker", "--", "--nope")
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "starts again" not in done.stderr


def test_a_queue_that_is_no_list_is_an_error_line(site: Site) -> None:
    """The worker goes on to be restarted, and works once the key is gone."""
    with site.redis.client() as client:
        client.set("logs", "a text")
        worker = site.worker()
        try:
            worker.start(ready="cannot be looked through")
            assert "WRONGTYPE" in worker.output
            client.delete("logs")
            site.send()
            site.check_all_stored()
        finally:
            worker.close()


def test_status_shows_where_everything_is(site: Site) -> None:
    """Waiting batches, those of every priority and moved ones included, then the rows and the worker."""
    site.send(2)
    with site.redis.client() as client:
        client.lpush("logs\x06\x166", json.dumps(site.example()))
        client.lpush("logs.quarantine", "x")
    found = json.loads(site.run("status", "--json", "--timeout", "60").stdout)
    broker = found["broker"]["facts"]
    assert (broker["waiting"], broker["in_flight"], broker["quarantined"]) == (3, 0, 1)
    assert found["workers"]["facts"]["online"] == []
    with site.worker("--", "--hostname", "one@%h"), other_worker(site):
        site.check_all_stored()
        done = site.run("status", "--json", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (name,) = found["workers"]["facts"]["online"]
    assert name.startswith("one@")
    database = found["database"]["facts"]
    assert (database["rows"], database["dead_letters"]) == (site.calls, 0)
    assert database["oldest"] < database["newest"]


def other_worker(site: Site) -> WorkerProcess:
    """A worker of the same broker that takes from another queue."""
    worker = site.worker("--", "--hostname", "two@%h")
    worker.environment["EXECUTION_LOGGER_QUEUE"] = "other"
    return worker


def test_upgrade_leaves_a_hosts_table_as_it_is(site: Site) -> None:
    """Its columns are the host's."""
    fetch(site.database_url, "CREATE TABLE host_logs (id varchar(36) PRIMARY KEY, mine int)")
    site.environment["EXECUTION_LOGGER_TABLE"] = "host_logs"
    done = site.run("db", "upgrade")
    assert done.returncode == 0
    assert "host_logs is there already" in done.stdout
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'host_logs'"
    assert {row["column_name"] for row in fetch(site.database_url, columns)} == {"id", "mine"}


def test_a_paused_broker_keeps_status_waiting_for_seconds_only(
    own_redis_server: RedisServer, postgres_url: str
) -> None:
    """It accepts connections and says nothing."""
    own_redis_server.pause()
    process = subprocess.run(
        [*COMMAND, "status", "--json"],
        check=False,
        env={**os.environ, "CELERY_BROKER_URL": own_redis_server.url(), "DATABASE_URL": postgres_url},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 1
    assert "Timeout" in json.loads(process.stdout)["broker"]["error"]
