"""The broker's queue: what is written directly to Redis is what kombu would write."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import fakeredis
import pytest
from celery import Celery
from kombu import Connection
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from batches import encoded
from execution_logger import Settings
from execution_logger.broker.connection import QueueView
from execution_logger.broker.message import Message
from execution_logger.broker.queue import BrokerQueue, RedisQueue, queue_length, queue_of
from execution_logger.delivery.celery import CeleryDelivery
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError

MakeQueue = Callable[..., BrokerQueue]


@pytest.fixture
def redis() -> Iterator["Redis"]:
    """A client of a Redis in this process, with texts decoded."""
    with fakeredis.TcpFakeServer(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with Redis(port=server.server_address[1], decode_responses=True) as client:
            yield client
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What INFO tells of this Redis' memory: fakeredis has none, and hangs up when it is asked."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(RedisQueue, "_memory", lambda _: told)
    return told


@pytest.fixture
def url(redis: "Redis") -> str:
    """The URL of that Redis."""
    return f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0"


@pytest.fixture
def make_queue(url: str) -> Iterator[MakeQueue]:
    """Makes queues as the delivery does, each over a connection with these transport options."""
    connections: list[Connection] = []

    def make(**options: Any) -> BrokerQueue:
        connections.append(Connection(url, transport_options=options))
        return queue_of(connections[-1].default_channel, "logs")

    yield make
    for connection in connections:
        poller = connection.transport.cycle.poller
        connection.release()
        poller.close()


def message(*texts: str) -> Message:
    """The message of a batch with these messages."""
    entries = tuple(encoded(message=text).encode() for text in texts)
    app = Celery("producer", set_as_current=False, config_source={"enable_utc": True})
    with closing(app):
        return Message.of(app, Batch(entries, process="p", first=7), is_awaited=True)


class TestRedis:
    """A list, as kombu's virtual channel has it."""

    def test_it_writes_what_kombu_writes(self, redis: "Redis", make_queue: MakeQueue) -> None:
        """The same JSON under the same key; only the tag of each delivery is its own, and its body plain."""
        ours = make_queue()
        assert isinstance(ours, RedisQueue)
        sent = message("hello", 'a "quoted" 学\\')
        ours.send(sent)
        BrokerQueue(ours._channel, "logs").send(sent)
        theirs_found, ours_found = (json.loads(text) for text in redis.lrange("logs", 0, -1))
        tags = {found["properties"].pop("delivery_tag") for found in (ours_found, theirs_found)}
        assert len(tags) == 2
        assert theirs_found["properties"].pop("body_encoding") == "base64"
        theirs_found["body"] = base64.b64decode(theirs_found["body"]).decode()
        assert ours_found == theirs_found
        assert set(redis.keys()) == {"logs"}

    def test_kombu_reads_it(self, make_queue: MakeQueue) -> None:
        """As a worker does."""
        queue = make_queue()
        assert isinstance(queue, RedisQueue)
        sent = message("hello", 'a "quoted" 学\\')
        queue.send(sent)
        found = queue._channel.basic_get("logs", no_ack=True)
        assert found.payload == json.loads(sent.body)
        assert found.headers == sent.headers

    def test_a_prefix_of_the_hosts_applies(self, redis: "Redis", make_queue: MakeQueue) -> None:
        """It is the host's way to share one Redis between applications."""
        queue = make_queue(global_keyprefix="host:")
        queue.send(message("hello"))
        assert redis.llen("host:logs") == queue.length() == 1
        view = queue.look()
        assert view.waiting == 1
        assert view != QueueView(1, 0, None), "the oldest message was found, too"

    def test_a_prefix_of_the_hosts_applies_to_the_whole_measure(
        self, redis: "Redis", url: str, make_queue: MakeQueue
    ) -> None:
        """What the health check says of the queue that the host's own worker has."""
        queue = make_queue(global_keyprefix="host:")
        queue.send(message("first"))
        queue.send(message("second"))
        redis.lmove("host:logs", "host:logs-in-hand")
        item = redis.lpop("host:logs-in-hand")
        redis.hset("host:logs.unacked", "tag", json.dumps([json.loads(str(item)), "", "logs"]))
        redis.zadd("host:logs.unacked_index", {"tag": 1.0})
        with closing(Celery("host", broker=url, set_as_current=False)) as app:
            app.conf.broker_transport_options = {"global_keyprefix": "host:"}
            found = queue_length(Settings(broker_url="redis://127.0.0.1:1"), app)
        assert (found.waiting, found.in_flight, found.quarantined) == (1, 1, 0)
        assert None not in (found.oldest, found.sent_at)

    def test_each_answer_tells_the_length(self, make_queue: MakeQueue) -> None:
        """So that nobody has to ask for it while batches are being sent."""
        queue = make_queue()
        assert queue.length() == 0
        assert [queue.send(message("hello")) for _ in range(3)] == [1, 2, 3]
        assert queue.length() == 3

    def test_all_that_redis_tells(self, redis: "Redis", make_queue: MakeQueue) -> None:
        """What waits, what workers have in hand, and when the oldest message was sent."""
        queue = make_queue(unacked_key="logs.unacked")
        assert queue.look() == QueueView(0, 0, None)
        oldest = message("first")
        queue.send(oldest)
        queue.send(message("second"))
        redis.hset("logs.unacked", "tag", "message")
        redis.hset("unacked", "tag", "a message in the hands of a host's own worker")
        assert queue.look() == QueueView(2, 2, oldest.headers["sent_at"])

    @pytest.mark.parametrize("origin", ["gen1@another-host", "somebody", ""])
    def test_another_hosts_clock_may_be_minutes_ahead(self, make_queue: MakeQueue, origin: str) -> None:
        """What it has sent may be ten minutes older than it says: nothing that waits behind it is lost."""
        queue = make_queue()
        oldest = message("first")
        oldest.headers["origin"] = origin
        queue.send(oldest)
        assert queue.look() == QueueView(1, 0, oldest.headers["sent_at"] - 600)

    def test_a_connection_that_was_closed_meanwhile_is_replaced(self, make_queue: MakeQueue) -> None:
        """A Redis that closes idle connections, or was restarted, costs no failed attempt."""
        queue = make_queue()
        assert isinstance(queue, RedisQueue)
        queue.send(message("hello"))
        queue._client.connection._sock.shutdown(2)
        assert queue.length() == 1
        assert queue.send(message("hello")) == 2

    def test_a_message_that_was_not_answered_is_not_taken_for_sent(self, make_queue: MakeQueue) -> None:
        """Nothing but an answer means that the broker has it."""
        queue = make_queue(max_retries=0)
        assert isinstance(queue, RedisQueue)
        queue._client.connection._sock.shutdown(2)
        with pytest.raises(RedisConnectionError):
            queue.send(message("hello"))


def test_the_limit_of_a_redis_queue_needs_no_questions(
    redis: "Redis", url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers to what is sent say how long it is, whoever else sends; it is asked for when it is full."""
    lengths: list[int] = []
    ask = RedisQueue.length

    def note(self: RedisQueue) -> int:
        lengths.append(ask(self))
        return lengths[-1]

    monkeypatch.setattr(RedisQueue, "length", note)
    with closing(CeleryDelivery(Settings(broker_url=url, queue_max_messages=10))) as delivery:
        delivery.deliver(Batch((b"{}",)))
        redis.lpush("logs", *"12345678")
        delivery.deliver(Batch((b"{}",)))
        with pytest.raises(DeliveryError, match="holds 10 messages, and its limit is 10"):
            delivery.deliver(Batch((b"{}",)))
        redis.delete("logs")
        delivery.deliver(Batch((b"{}",)))
    assert lengths == [0, 10, 0]
    assert redis.llen("logs") == 1


def test_nothing_is_sent_to_a_redis_that_is_nearly_full(
    redis: "Redis", url: str, memory: dict[str, Any]
) -> None:
    """Its last tenth is for the workers; when they have made room, sending goes on."""
    memory |= {"maxmemory": 10_000_000, "maxmemory_policy": "noeviction", "used_memory": 8_999_999}
    with closing(CeleryDelivery(Settings(broker_url=url))) as delivery:
        with pytest.raises(DeliveryError, match=r"8,999,999 bytes of its maxmemory of 10,000,000"):
            delivery.deliver(Batch((b"{}",)))
        assert redis.llen("logs") == 0
        memory["used_memory"] = 1_000_000
        delivery.deliver(Batch((b"{}",)))
    assert redis.llen("logs") == 1
