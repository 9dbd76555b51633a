"""What a worker tells of itself by remote control."""

import json
import time
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.worker.control import Panel

from execution_logger import Settings
from execution_logger.worker import register_tasks
from execution_logger.worker.inspection import COMMAND, answer_when_asked, describe

SETTINGS = Settings(
    broker_url="redis://:s3cret@broker:6379/0",
    database_url="postgresql://user:s3cret@db/logs?sslmode=require",
    result_backend="redis://:s3cret@results:6379/1",
    time_zone="Asia/Shanghai",
)


def test_places_are_told_and_secrets_are_not() -> None:
    """It goes over the broker to whoever asks."""
    told = describe(SETTINGS)
    assert told["database"] == "postgresql://db/logs"
    assert told["broker"] == "redis://broker:6379/0"
    assert told["result_backend"] == "redis://results:6379/1"
    assert told["time_zone"] == "Asia/Shanghai"
    assert "s3cret" not in json.dumps(told)


def test_a_worker_that_leaves_no_word_says_so() -> None:
    """The other side may wait for it."""
    assert describe(Settings(confirmation="off"))["result_backend"] is None


def test_the_command_tells_of_the_application_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its pool and clock; of one without the task these alone."""
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    monkeypatch.setattr(Panel, "meta", dict(Panel.meta))
    app, other = (Celery(name, set_as_current=False, config_source={}) for name in ("ours", "other"))
    register_tasks(app, SETTINGS)
    answer_when_asked()
    consumer = SimpleNamespace(pool=TaskPool(1))
    answers = [Panel.data[COMMAND](SimpleNamespace(app=each, consumer=consumer)) for each in (app, other)]
    assert {**describe(SETTINGS), "pool": "thread", "time": answers[0]["time"]} == answers[0]
    assert list(answers[1]) == ["pool", "time"]
    assert abs(answers[0]["time"] - time.time()) < 5
