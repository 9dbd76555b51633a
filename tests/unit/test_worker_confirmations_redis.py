"""The worker's way to say that a batch is stored: Celery's in key and format, in one request."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from celery import Celery

from doubles import DEADLINE_SECONDS
from execution_logger import Settings
from execution_logger.broker.confirmations import HELD, STORED, Outcome
from execution_logger.errors import ResultsUnavailableError
from execution_logger.worker.confirmations import WorkerConfirmations

# Celery's own call, where it is compared with ours; with redis-py 8.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

DONE = {"stored": 40, "duplicates": 7, "dead_lettered": 3}
KEY = "celery-task-meta-a"


@pytest.fixture(params=["redis", "file"])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerConfirmations]:
    """Both kinds of result backends."""
    url = "redis://localhost:1/0" if request.param == "redis" else f"file://{tmp_path}"
    with closing(WorkerConfirmations(Settings(result_backend=url), timeout_seconds=1)) as results:
        if request.param == "redis":
            results.backend.client = fakeredis.FakeRedis()
        yield results


@pytest.fixture
def in_redis() -> Iterator[WorkerConfirmations]:
    """In Redis."""
    settings = Settings(broker_url="redis://localhost:1/0", confirmation_expires_seconds=90)
    with closing(WorkerConfirmations(settings, timeout_seconds=1)) as results:
        results.backend.client = fakeredis.FakeRedis()
        yield results


def test_the_word_stored_is_the_last_one(results: WorkerConfirmations) -> None:
    """It replaces that the batch is held, and a second delivery does not take it back."""
    results.store("a", HELD, {})
    assert results.outcomes(["a"]) == {"a": Outcome(False)}
    results.store("a", STORED, DONE)
    results.store("a", HELD, {})
    assert results.outcomes(["a"]) == {"a": Outcome(True, 3)}


def test_it_is_what_celery_reads(results: WorkerConfirmations) -> None:
    """Whatever looks at the results of tasks sees these, too."""
    results.store("a", STORED, DONE)
    result = Celery("reader", set_as_current=False).AsyncResult("a", backend=results.backend)
    assert (result.state, result.result, result.traceback) == ("SUCCESS", DONE, None)
    assert abs((datetime.now(UTC) - result.date_done.astimezone(UTC)).total_seconds()) < 60


def test_it_has_the_fields_that_celery_writes(in_redis: WorkerConfirmations) -> None:
    """Those of the version of Celery that is installed."""
    in_redis.store("a", STORED, DONE)
    ours = json.loads(in_redis.backend.client.getdel(KEY))
    in_redis.backend.store_result("a", DONE, STORED)
    celerys = json.loads(in_redis.backend.client.get(KEY))
    assert type(ours.pop("date_done")) is type(celerys.pop("date_done"))
    assert ours == celerys


def test_who_waits_for_it_is_told(in_redis: WorkerConfirmations) -> None:
    """Celery's `AsyncResult.get()` listens, and does not ask again."""
    with in_redis.backend.client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(KEY)
        listener.get_message(timeout=DEADLINE_SECONDS)
        in_redis.store("a", STORED, DONE)
        message = listener.get_message(timeout=DEADLINE_SECONDS)
    assert message["data"] == in_redis.backend.client.get(KEY)


def test_it_expires(in_redis: WorkerConfirmations) -> None:
    """When nobody asks any more."""
    in_redis.store("a", STORED, DONE)
    assert 80 < in_redis.backend.client.ttl(KEY) <= 90


def test_it_is_one_request(in_redis: WorkerConfirmations, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker says it with every batch."""
    requests: list[list[Any]] = []
    execute = redis.client.Pipeline.execute

    def note(pipeline: Any) -> Any:
        requests.append([words[0] for words, _ in pipeline.command_stack])
        return execute(pipeline)

    monkeypatch.setattr(redis.client.Pipeline, "execute", note)
    monkeypatch.setattr(redis.Redis, "execute_command", lambda _, *words: requests.append(list(words)))
    in_redis.store("a", STORED, DONE)
    assert requests == [["SET", "PUBLISH"]]


def test_a_redis_that_fails_is_one_kind_of_error(in_redis: WorkerConfirmations) -> None:
    """As from all other requests."""
    server = fakeredis.FakeServer()
    server.connected = False
    in_redis.backend.client = fakeredis.FakeRedis(server=server)
    with pytest.raises(ResultsUnavailableError, match="redis://localhost"):
        in_redis.store("a", STORED, DONE)
