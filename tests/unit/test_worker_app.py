"""The worker's application: its configuration is that of the settings, whatever else is around."""

import sys
from typing import Any

import pytest

from execution_logger import Settings, SettingsError
from execution_logger.worker import create_app
from execution_logger.worker.schedule import JOBS

DATABASE = "sqlite:///unused.db"


def configuration(**settings: Any) -> Any:
    """That of an application with these settings."""
    return create_app(Settings(database_url=DATABASE, **settings)).conf


def test_the_broker_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery prefers its variable to its configuration; reading and writing must not differ."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    conf = configuration(broker_url="redis://here:6379/1")
    assert conf.broker_read_url == conf.broker_write_url == "redis://here:6379/1"


def test_what_keeps_batches_safe() -> None:
    """A batch leaves the queue when its rows are there, and comes back when its worker is gone."""
    conf = configuration(visibility_timeout_seconds=90)
    assert conf.task_acks_late is True
    assert conf.task_reject_on_worker_lost is True
    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_transport_options["visibility_timeout"] == 90
    assert conf.broker_connection_retry_on_startup is True
    assert conf.broker_connection_max_retries is None


def test_nothing_but_json_is_decoded() -> None:
    """So nothing on the queue can execute."""
    conf = configuration()
    assert list(conf.accept_content) == ["json"]
    assert conf.task_serializer == conf.result_serializer == "json"


def test_the_queue_and_the_limits_are_settings() -> None:
    """Under the names that Celery hosts know."""
    conf = configuration(
        queue="mine", task_time_limit=40.0, task_soft_time_limit=30.0, task_track_started=True
    )
    assert conf.task_default_queue == "mine"
    tasks = ("execution_logger.write_batch", *(job.task for job in JOBS.values()))
    assert conf.task_routes == {task: {"queue": "mine"} for task in tasks}
    assert {entry["options"]["queue"] for entry in conf.beat_schedule.values()} == {"mine"}
    assert (conf.task_time_limit, conf.task_soft_time_limit, conf.task_track_started) == (40.0, 30.0, True)


@pytest.mark.parametrize(
    ("words", "pool"),
    [
        ([], "solo"),
        (["-P", "threads"], "prefork"),
        (["--pool=threads"], "prefork"),
        (["-Pgevent"], "prefork"),
    ],
)
def test_the_command_line_names_the_pool(
    monkeypatch: pytest.MonkeyPatch, words: list[str], pool: str
) -> None:
    """It wins, also when it names Celery's default: then nothing is configured, and that is the default."""
    monkeypatch.setattr(sys, "argv", ["celery", "worker", *words])
    assert configuration(worker_pool="solo").worker_pool == pool


def test_the_task_is_registered() -> None:
    """By its name, which hosts send to."""
    assert "execution_logger.write_batch" in create_app(Settings(database_url=DATABASE)).tasks


def test_the_database_is_needed() -> None:
    """Said at the start."""
    with pytest.raises(SettingsError, match="DATABASE_URL is not set: the worker needs it"):
        create_app(Settings())
