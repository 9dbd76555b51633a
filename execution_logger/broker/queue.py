"""The broker's queue: Redis, written directly, or whatever else kombu knows."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from kombu import Connection, Producer
from uuid_utils import uuid7

from execution_logger.broker.connection import QueueView
from execution_logger.broker.message import CONTENT_ENCODING, CONTENT_TYPE, Message, earliest_sent_at
from execution_logger.errors import BrokerFullError

USABLE = 0.9
"""The share of `maxmemory` that batches may fill, together with all else that is in this Redis."""

_LOOK_SECONDS = 1.0
_SHARE = 0.02  # of what is free, for this process until it asks again: others send, too


class Headroom:
    """Counts what is sent against the memory that Redis has free, which it asks for from time to time.

    A Redis at `maxmemory` with `noeviction` refuses not only batches, which their senders keep, but
    also the note of a worker on the batch that it takes: the worker ends, and the room it has made
    goes to the next batch. Were senders to fill Redis to the brim, no worker would get on.

    Args:
        ask: answers what `INFO memory` does, or nothing where that cannot be had.
        clock: in seconds, for tests.
    """

    def __init__(
        self, ask: Callable[[], Mapping[str, Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._asked_at = -_LOOK_SECONDS
        self._left_bytes = 0.0

    def take(self, size_bytes: int) -> None:
        """Note that so many bytes are about to be sent.

        Raises:
            BrokerFullError: Redis has no room for them.
        """
        if size_bytes > self._left_bytes or self._clock() - self._asked_at >= _LOOK_SECONDS:
            self._left_bytes = _SHARE * self._free_bytes(size_bytes)
            self._asked_at = self._clock()
        self._left_bytes -= size_bytes

    def _free_bytes(self, wanted_bytes: int) -> float:
        memory = self._ask()
        limit = memory.get("maxmemory", 0)
        # The other policies throw something away for what comes, or this is a Redis without a limit.
        if not limit or memory.get("maxmemory_policy") != "noeviction":
            return float("inf")
        # What Redis itself compares: without the buffers of replicas and of the append-only file.
        used = memory["used_memory"] - memory.get("mem_not_counted_for_evict", 0)
        free: float = USABLE * limit - used
        if wanted_bytes > free:
            raise BrokerFullError(
                f"Redis has used {used:,} bytes of its maxmemory of {limit:,}, and batches leave a tenth of "
                "it to the workers: are workers running, and is maxmemory large enough?"
            )
        return free


_PERSISTENT = 2
_UNACKED = "unacked"
"""Where Celery keeps what its workers have in hand, those of all queues."""

_encode = msgspec.json.Encoder().encode


class BrokerQueue(Protocol):
    """A queue over a connection of its own; every method raises what kombu or the driver raises."""

    def send(self, message: Message) -> int | None:
        """Put a message into the queue; the answer is the broker's.

        Returns:
            How many messages the queue has now, where the broker says so unasked.

        Raises:
            DeliveryError: the broker has no room for it.
        """

    def length(self) -> int:
        """Ask how many messages wait in the queue, which is made where there is none."""

    def look(self) -> QueueView:
        """Ask for all that the broker can tell."""


def open_queue(connection: Connection, name: str) -> BrokerQueue:
    """Connect, and return the queue."""
    return queue_of(connection.default_channel, name)


def queue_of(channel: Any, name: str) -> BrokerQueue:
    """The queue, over a channel of kombu's."""
    return RedisQueue(channel, name) if hasattr(channel, "unacked_key") else KombuQueue(channel, name)


class KombuQueue:
    """A queue of any broker, by kombu's producer."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name
        self._producer = Producer(channel)

    def send(self, message: Message) -> None:
        """Publish to the queue itself, by way of no exchange."""
        self._producer.publish(
            message.body,
            exchange="",
            routing_key=self._name,
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            headers=message.headers,
            delivery_mode=_PERSISTENT,
            retry=False,
            **message.properties,
        )

    def length(self) -> int:
        """Declare the queue, as sending to one would; the answer holds the length."""
        declared = self._channel.queue_declare(self._name, durable=True, auto_delete=False)
        return int(declared.message_count)

    def look(self) -> QueueView:
        """Brokers tell the length, and no more."""
        return QueueView(self.length(), None, None)


class RedisQueue:
    """A queue in Redis or Sentinel: a list, to which each message is pushed as kombu's virtual channel does.

    kombu itself takes three times as long: for each message it makes a new client, which asks the
    socket for its health, and it encodes the text of the message twice more. Each time this thread
    lets go of the interpreter, as every call of a socket does, a busy host gets it back 5 ms later.
    """

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name
        self._client = self._make_client()
        self._headroom = Headroom(self._memory)

    def send(self, message: Message) -> int:
        """LPUSH, whose answer is the length of the list; not beyond what workers need to take it."""
        item = _encode(_envelope(message, self._name))
        self._headroom.take(len(item))
        return int(self._client.lpush(self._name, item))

    def length(self) -> int:
        """LLEN; a list that is not there is empty."""
        # The pool finds out whether Redis has closed the connection meanwhile: not worth a failed attempt.
        self._client.close()
        self._client = self._make_client()
        return int(self._client.llen(self._name))

    def look(self) -> QueueView:
        """The list, its oldest message, and what workers have in hand, a host's own ones included."""
        # kombu puts a host's global_keyprefix before the keys of those commands only that it uses itself.
        whole_key = f"{self._channel.global_keyprefix}{self._name}"
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.llen(self._name).lindex(whole_key, -1)
            pipeline.hlen(self._channel.unacked_key).hlen(_UNACKED)
            waiting, oldest, ours, others = pipeline.execute()
        return QueueView(waiting, ours + others, earliest_sent_at(oldest))

    def _memory(self) -> Mapping[str, Any]:
        """What INFO says of it; nothing where this user may not ask, or the server does not know."""
        try:
            memory: Mapping[str, Any] = self._client.info("memory")
        except self._channel.ResponseError:
            return {}
        return memory

    def _make_client(self) -> Any:
        """One that holds on to its connection."""
        pool = self._channel.client.connection_pool
        return self._channel.Client(connection_pool=pool, single_connection_client=True)


def _envelope(message: Message, queue: str) -> dict[str, Any]:
    """What kombu's virtual transports keep of a message; text needs none of their base64."""
    return {
        "body": message.body.decode(),
        "content-encoding": CONTENT_ENCODING,
        "content-type": CONTENT_TYPE,
        "headers": message.headers,
        "properties": {
            **message.properties,
            "delivery_mode": _PERSISTENT,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            # Not the batch's id: a batch that is sent again may be in the hands of two workers.
            "delivery_tag": str(uuid7()),
        },
    }
