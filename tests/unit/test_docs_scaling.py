"""The examples of docs/SCALING.md configure what the text around them says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery._state
import pytest

import execution_logger
from documents import Document
from execution_logger import ExecutionLogger
from execution_logger.broker.connection import TASK_NAME

SCALING = Document("docs/SCALING.md")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExecutionLogger]:
    """What a worker needs, and a ready logger that no other test has used."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@localhost/logs")
    monkeypatch.setattr(celery._state._tls, "current_app", None)
    logger = ExecutionLogger()
    monkeypatch.setattr(execution_logger, "execution_logger", logger)
    yield logger
    assert logger._host.pipeline is None


def options_of_host(logger: ExecutionLogger) -> dict[str, Any]:
    """The transport options of the application that the logger was given."""
    assert logger._host.celery_app is not None
    options: dict[str, Any] = logger._host.celery_app.conf.broker_transport_options
    return options


def test_every_example_has_a_test() -> None:
    """Here, because they need no database."""
    tested = re.findall(r'run_example\("([\w-]+)"\)', Path(__file__).read_text(encoding="utf-8"))
    examples = [block.example for block in SCALING.blocks if block.language == "python"]
    assert sorted(map(str, examples)) == sorted(tested)


def test_sentinel_host(environment: ExecutionLogger) -> None:
    """The logger sends over the application's broker, which knows the master's name."""
    SCALING.run_example("sentinel-host")
    assert options_of_host(environment) == {"master_name": "logs"}


def test_quorum_worker() -> None:
    """The worker's queue is declared as a quorum queue."""
    app = SCALING.run_example("quorum-worker")["app"]
    assert TASK_NAME in app.tasks
    assert app.amqp.queues["logs"].queue_arguments == {"x-queue-type": "quorum"}


def test_quorum_host(environment: ExecutionLogger) -> None:
    """The broker confirms what the logger publishes."""
    SCALING.run_example("quorum-host")
    assert options_of_host(environment) == {"confirm_publish": True}
