"""The request: a message that it cannot read is refused, as Celery refuses others."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import InvalidTaskError

from execution_logger import Settings
from execution_logger.worker import create_app
from execution_logger.worker.batch import BatchRequest


def make(**headers: Any) -> BatchRequest:
    """The request of a message with these headers."""
    app = Celery("tests", set_as_current=False)
    headers = {"task": "t", "id": "1", **headers}
    message = SimpleNamespace(
        headers={name: value for name, value in headers.items() if value is not ...},
        body=b"",
        payload=[[], {}, {}],
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    return BatchRequest(message, app=app, task=SimpleNamespace(ignore_result=True))


def test_a_message_of_celerys_is_taken() -> None:
    """As it is."""
    assert make().id == "1"


@pytest.mark.parametrize(
    "headers",
    [
        {"id": ...}, {"eta": ""}, {"expires": ""}, {"eta": [1]}, {"id": 5}, {"id": "x\x1b[2J"},
        {"id": "1\u202e"}, {"id": "x" * 256}, {"shadow": "x\x1b[2J"},
    ],
)  # fmt: skip
def test_another_is_refused(headers: dict[str, Any]) -> None:
    """By the error that Celery knows what to do with, and logs."""
    with pytest.raises(InvalidTaskError) as refused:
        make(**headers)
    assert str(refused.value).isprintable()


def test_the_task_uses_it() -> None:
    """By its name: only a worker imports it."""
    task = create_app(Settings(database_url="sqlite:///x")).tasks["execution_logger.write_batch"]
    assert task.Request == f"{BatchRequest.__module__}:{BatchRequest.__name__}"
