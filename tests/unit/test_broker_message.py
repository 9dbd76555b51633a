"""Which messages are kept away from workers."""

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from execution_logger import ExecutionLogger, Settings
from execution_logger.broker.message import problem_of

GOOD_BODY = '[["[]"], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


def message(
    *,
    body: str | bytes = GOOD_BODY,
    headers: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    envelope: Mapping[str, Any] | None = None,
) -> str:
    """A message as Celery makes it, with changes."""
    encoded = base64.b64encode(body.encode() if isinstance(body, str) else body).decode()
    usual = {"lang": "py", "task": "t", "id": "1", "timelimit": [None, None], "stamps": {}}
    return json.dumps({
        "body": encoded,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**usual, **(headers or {})},
        "properties": {
            "delivery_tag": "2",
            "delivery_info": {"exchange": "", "routing_key": "logs"},
            "body_encoding": "base64",
            **(properties or {}),
        },
        **(envelope or {}),
    })  # fmt: skip


GOOD = {
    "a batch": message(),
    "a body as it is": message(envelope={"body": GOOD_BODY}, properties={"body_encoding": None}),
    "arguments by name": message(body='[[], {"a": 1}, {}]'),
    "an id of a host's": message(headers={"id": "导入 7/x", "shadow": "import files"}),
    "nothing embedded": message(body="[[], {}, null]"),
    "a chain": message(body='[[], {}, {"chain": [{"task": "t"}], "callbacks": []}]'),
    "time limits": message(headers={"timelimit": [5, 1.5]}),
    "no stamps": message(headers={"stamps": None, "stamped_headers": None}),
    "NaN, which Python's JSON knows": message(body="[[NaN], {}, {}]"),
    "a time to run, and one to expire": message(
        headers={"eta": "2026-11-22T02:13:53.123456+00:00", "expires": "2026-11-22T02:13:53"}
    ),
}

BAD = {
    "text": "hello",
    "no text": b"\xff\xfe",
    "a number": "5",
    "null": "null",
    "a list": "[1]",
    "an empty object": "{}",
    "deep nesting": "[" * 100_000,
    "no headers": message(envelope={"headers": None}),
    "headers that are a list": message(envelope={"headers": [1]}),
    "no properties": message(envelope={"properties": {}}),
    "an id that is a list": message(headers={"id": []}),
    "a time limit that is a text": message(headers={"timelimit": "x"}),
    "three time limits": message(headers={"timelimit": [1, 2, 3]}),
    "stamps that are a number": message(headers={"stamps": 5}),
    "a delivery tag that is a list": message(properties={"delivery_tag": [1]}),
    "a delivery tag that is half a character": message(properties={"delivery_tag": "\ud800"}),
    "an id that is half a character": message(headers={"id": "\ud800"}),
    "an id that steers a terminal": message(headers={"id": "1\x1b[2J"}),
    "an id that turns round what follows": message(headers={"id": "1\u202e"}),
    "an id without end": message(headers={"id": "x" * 256}),
    "a name that steers a terminal": message(headers={"shadow": "t\x1b[2J"}),
    "a delivery from nowhere": message(properties={"delivery_info": {"routing_key": "logs"}}),
    "another body encoding": message(properties={"body_encoding": "rot13"}),
    "no body": message(envelope={"body": None}),
    "a body that is a number": message(envelope={"body": 5}),
    "a body that is not base64": message(envelope={"body": "!!!not base64"}),
    "a body as it is that is not JSON": message(envelope={"body": "{{{"}, properties={"body_encoding": None}),
    "a body as it is of two": message(envelope={"body": "[[], {}]"}, properties={"body_encoding": None}),
    "a body that is not ASCII": message(envelope={"body": "学"}),
    "a body that is not JSON": message(body="{{{"),
    "a body that is not UTF-8": message(body=b"\xff"),
    "a body that is an object": message(body='{"a": 1}'),
    "a body of two": message(body="[[], {}]"),
    "arguments that are a number": message(body="[5, {}, {}]"),
    "named arguments that are a number": message(body="[[], 5, {}]"),
    "a chain of numbers": message(body='[[], {}, {"chain": [1]}]'),
    "a compressed body": message(
        body=zlib.compress(GOOD_BODY.encode()), headers={"compression": "application/x-gzip"}
    ),
    "a time to run that is empty": message(headers={"eta": ""}),
    "a time to expire that is none": message(headers={"expires": "soon"}),
    "another content type": message(body="x", envelope={"content-type": "text/plain"}),
    "another encoding": message(envelope={"content-encoding": "binary"}),
    "an object that is no date": message(headers={"x": {"__type__": "datetime", "__value__": "x"}}),
    "a body with an object that is no date": message(
        body='[[], {"x": {"__type__": "datetime", "__value__": "x"}}, {}]'
    ),
    "a content type that is null": message(envelope={"content-type": None}),
}


@pytest.mark.parametrize("item", GOOD.values(), ids=GOOD)
def test_what_celery_sends_is_good(item: str) -> None:
    """A message that a worker survives stays in the queue."""
    assert problem_of(item) is None


@pytest.mark.parametrize("item", BAD.values(), ids=BAD)
def test_what_can_end_a_worker_is_told_apart(item: str | bytes) -> None:
    """The reason is one line."""
    problem = problem_of(item)
    assert problem
    assert len(problem.splitlines()) == 1
    assert len(problem) < 1000


def test_the_messages_of_our_own_producer_are_good(tmp_path: Path) -> None:
    """What is judged is what really goes to the broker."""
    logger = ExecutionLogger(Settings(broker_url=f"embedded://{tmp_path}"))
    logger.sync.info("任务", "c", "文", details={"a": float("nan")})
    assert logger.sync.shutdown().complete
    (file,) = (tmp_path / "messages").iterdir()
    assert problem_of(file.read_bytes()) is None
