"""The oldest entry in the queue."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from fakeredis import FakeRedis
from redis import Redis
from redis.exceptions import NoPermissionError

from batches import batch, encoded
from execution_logger import Settings
from execution_logger.broker.message import exchange_quotes, restore_quotes
from execution_logger.broker.queue import measure_queue, oldest_entry_at


class Channel:
    """What is used of kombu's channel to a Redis."""

    global_keyprefix = ""
    unacked_key = "unacked"
    unacked_index_key = "unacked_index"
    priority_steps = (0, 3)

    def __init__(self) -> None:
        self.client = FakeRedis()

    def _q_for_pri(self, queue: str, step: int) -> str:
        return f"{queue}-{step}" if step else queue

    def wait(self, *items: str | bytes) -> None:
        """Put these into the queue, one after the other."""
        for item in items:
            self.client.lpush("logs", item)

    def hold(self, item: str, queue: str = "logs") -> None:
        """Put this into the hands of a worker."""
        tag = str(self.client.hlen("unacked"))
        self.client.hset("unacked", tag, json.dumps([json.loads(item), "", queue]))
        self.client.zadd("unacked_index", {tag: 1.0})


@pytest.fixture
def channel() -> Channel:
    """An empty one."""
    return Channel()


def message(*seconds: int, body: Any = None) -> str:
    """A batch of entries of these seconds, or a message with any other body."""
    entries = batch(*(encoded(created_at=f"2026-11-22T02:00:{second:02}Z") for second in seconds))
    body = [[exchange_quotes(entries)], {"process": "p"}, {}] if body is None else body
    return json.dumps({"body": json.dumps(body), "headers": {}, "properties": {}})


def message_of_kombu(*seconds: int) -> str:
    """The same as other producers write it, by kombu and with the entries as they are."""
    item = json.loads(message(*seconds))
    (entries,), *more = json.loads(item["body"])
    body = json.dumps([[restore_quotes(entries)], *more]).encode()
    item["properties"]["body_encoding"] = "base64"
    return json.dumps({**item, "body": base64.b64encode(body).decode()})


def oldest_second(channel: Channel) -> int | None:
    """The second of the oldest entry."""
    moment = oldest_entry_at(channel, Settings())
    if moment is None:
        return None
    assert moment.replace(second=0) == datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
    return moment.second


def test_an_empty_queue_has_none(channel: Channel) -> None:
    """There is nothing to wait for."""
    assert oldest_second(channel) is None


def test_the_oldest_one_waits_longest(channel: Channel) -> None:
    """In the batch that comes next."""
    channel.wait(message(3, 4), *(message(second) for second in range(5, 30)))
    assert oldest_second(channel) == 3


def test_messages_of_other_producers_count(channel: Channel) -> None:
    """Whichever way they were written."""
    channel.wait(message(4), message_of_kombu(3), message(5))
    assert oldest_second(channel) == 3


def test_a_batch_in_hand_counts(channel: Channel) -> None:
    """One of another queue does not."""
    channel.wait(message(20))
    channel.hold(message(7, 8))
    channel.hold(message(1), queue="other")
    assert oldest_second(channel) == 7


@pytest.mark.parametrize(
    "other",
    [
        "no JSON", b"\xff", "[]", "{}", message(body=[]), message(body=[[], {}, {}]),
        message(body=[["x"], {}, {}]),
               message(body=[["[]"], {}, {}]), message(body=[[5], {}, {}]), message(body=[["[{}]"], {}, {}]),
        message(body=[['[{"created_at": "0001-01-01T00:00:00+14:00"}]'], {}, {}]),
        json.dumps({"body": "not base64", "properties": {"body_encoding": "base64"}}),
        json.dumps({"body": "not JSON", "properties": {}}), json.dumps({"body": "no properties"}),
    ],
)  # fmt: skip
def test_what_is_no_batch_is_passed_over(channel: Channel, other: str | bytes) -> None:
    """Other tasks share the queue, and anybody may write to it."""
    channel.wait(other, message(9))
    channel.client.hset("unacked", "forged", other)
    channel.client.zadd("unacked_index", {"forged": 0.0, "gone": 0.0})
    assert oldest_second(channel) == 9


def test_who_may_not_look_into_the_queue_is_told_its_length(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts need less than workers, and may see less."""
    channel.wait(message(5, body={"headers": {}}))
    channel.client.lpush("logs-3", "sent with a priority")
    found = measure_queue(channel, Settings())
    assert (found.waiting, found.quarantined) == (2, 0)

    def refuse(*_: object) -> None:
        raise NoPermissionError("no permissions")

    monkeypatch.setattr(Redis, "lrange", refuse)
    found = measure_queue(channel, Settings())
    assert (found.waiting, found.in_flight, found.oldest) == (2, 0, None)
