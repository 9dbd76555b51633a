"""The broker's queue: what is sent to it, how long it is, what a worker has in hand, what was moved aside.

In Redis it is written directly, elsewhere by whatever kombu has.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from kombu import Connection, Exchange, Producer, Queue
from kombu.exceptions import KombuError
from redis import Redis
from redis.exceptions import NoPermissionError
from uuid_utils import uuid7

from execution_logger.broker.connection import (
    QueueView,
    connection_arguments,
    error_text,
    producer_options,
    settings_of_host,
)
from execution_logger.broker.message import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    Message,
    decode_body,
    earliest_sent_at,
    restore_quotes,
    sent_at,
)
from execution_logger.errors import BrokerFullError, ExecutionLoggerError, SettingsError
from execution_logger.settings import Settings, variable_of
from execution_logger.text import public_url
from execution_logger.urls import broker_problem

_T = TypeVar("_T")

_MOST_MESSAGES = 5
"""So many of each kind are looked at: messages stand in the order in which they were sent."""


class _Properties(msgspec.Struct):
    body_encoding: str | None = None


class _Waiting(msgspec.Struct):
    """What Redis has of a message that waits; of one in hand with the exchange and the queue."""

    body: str
    properties: _Properties


class _Entry(msgspec.Struct):
    created_at: datetime


_encode = msgspec.json.Encoder().encode
_decode_waiting = msgspec.json.Decoder(_Waiting).decode
_decode_in_hand = msgspec.json.Decoder(tuple[_Waiting, str, str]).decode
_decode_arguments = msgspec.json.Decoder(tuple[tuple[str], Any, Any]).decode
_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode
_NO_BATCH = (msgspec.DecodeError, ValueError, TypeError, RecursionError, LookupError, OverflowError)


def oldest_entry_at(channel: Any, settings: Settings) -> datetime | None:
    """When the oldest entry was recorded that waits in the queue or that a worker has in hand.

    Args:
        channel: of kombu, to a Redis.
        settings: name the queue.

    Returns:
        Its `created_at` in UTC; None when there is no batch, or none whose entries can be read.
    """
    client, prefix = _plain_client(channel), channel.global_keyprefix
    waiting = client.lrange(f"{prefix}{settings.queue}", -_MOST_MESSAGES, -1)
    tags = client.zrange(f"{prefix}{channel.unacked_index_key}", 0, _MOST_MESSAGES - 1)
    in_hand = client.hmget(f"{prefix}{channel.unacked_key}", tags) if tags else []
    times = [_recorded_at(item) for item in waiting]
    times += [_recorded_at(item, of_queue=settings.queue) for item in in_hand]
    return min(filter(None, times), default=None)


def _recorded_at(item: bytes | None, of_queue: str | None = None) -> datetime | None:
    """When the first entry of a batch was recorded; None for what is no batch, or another queue's."""
    try:
        if of_queue is None:
            message, queue = _decode_waiting(item or b""), None
        else:
            message, _, queue = _decode_in_hand(item or b"")
        if queue != of_queue:
            return None
        ((batch,), _, _) = _decode_arguments(decode_body(message.body, message.properties.body_encoding))
        first = _decode_entries(restore_quotes(batch))[0]
        return _decode_entry(first).created_at.astimezone(UTC)
    except _NO_BATCH:
        return None


class BrokerUnavailableError(ExecutionLoggerError):
    """The broker does not answer, or what it holds is not what Celery keeps there."""


@dataclass(frozen=True, slots=True)
class QueueLength:
    """How many messages are where; None where this kind of broker cannot tell, or not this user."""

    waiting: int
    in_flight: int | None = None
    """Taken by workers and not acknowledged yet; not those in the hands of a worker of the host's own."""
    quarantined: int | None = None
    oldest: datetime | None = None
    """When the oldest entry in these messages was recorded, in UTC."""
    sent_at: float | None = None
    """When the oldest message that waits was sent, in seconds since 1970."""


def queue_length(settings: Settings, app: Any = None) -> QueueLength:
    """Ask the broker, or that of a Celery application.

    Raises:
        BrokerUnavailableError: it does not answer within a second or so.
    """
    with open_channel(settings, app) as channel:
        return measure_queue(channel, settings)


def measure_queue(channel: Any, settings: Settings) -> QueueLength:
    """The same over a channel; of a Redis by single commands that it answers even when it is full."""
    if not is_redis(channel):
        return QueueLength(_declared(channel, settings.queue))
    client, prefix = _plain_client(channel), channel.global_keyprefix
    key, *others = _keys_by_priority(channel, f"{prefix}{settings.queue}")
    return QueueLength(
        waiting=client.llen(key) + sum(_if_allowed(client.llen, other) or 0 for other in others),
        in_flight=client.hlen(f"{prefix}{channel.unacked_key}"),
        quarantined=_if_allowed(client.llen, f"{prefix}{quarantine_key(settings)}"),
        oldest=_if_allowed(oldest_entry_at, channel, settings),
        sent_at=sent_at(client.lindex(key, -1)),
    )


def _plain_client(channel: Any) -> Any:
    """One that takes keys as they are: kombu's puts a `global_keyprefix` before those of some commands."""
    return Redis(connection_pool=channel.client.connection_pool)


def _keys_by_priority(channel: Any, queue: str) -> list[str]:
    """Redis' lists of a queue, the one of ours first: others may send with a priority."""
    return [channel._q_for_pri(queue, step) for step in sorted(channel.priority_steps)]  # noqa: SLF001


def _if_allowed(ask: Callable[..., _T], *arguments: Any) -> _T | None:
    """Hosts need less than workers, and may see less."""
    try:
        return ask(*arguments)
    except NoPermissionError:
        return None


def delete_queue(settings: Settings) -> None:
    """Remove the queue with all that is in it.

    Raises:
        BrokerUnavailableError: it does not answer within a second or so.
    """
    with open_channel(settings) as channel:
        queue = Queue(settings.queue, Exchange(settings.queue), settings.queue)(channel)
        queue.declare()  # kombu removes the bindings of queues only that it has declared itself
        queue.delete()
        if is_redis(channel):
            channel.client.delete(quarantine_key(settings))


def quarantine_key(settings: Settings) -> str:
    """The Redis list of messages that were moved aside; LMOVE brings one back."""
    return f"{settings.queue}.quarantine"


def is_redis(channel: Any) -> bool:
    """Whether the broker is a Redis, with or without Sentinel."""
    return hasattr(channel, "unacked_key")


def check_broker_url(settings: Settings) -> None:
    """Connect to nothing, and see whether one could.

    Raises:
        SettingsError: the broker's URL cannot be used.
    """
    if problem := broker_problem(settings.broker_url, in_code=True):
        raise SettingsError(f"{variable_of('broker_url')}=(hidden): {problem}")
    _release(_connection(settings, None))


@contextmanager
def open_channel(settings: Settings, app: Any = None) -> Iterator[Any]:
    """A kombu channel of a connection of its own, whose every kind of failure is one kind of error.

    Args:
        settings: name the broker.
        app: a Celery application, whose broker and transport options apply instead.

    Raises:
        BrokerUnavailableError: connecting failed, or what is done with the channel.
        SettingsError: the broker's URL cannot be used.
    """
    settings = settings if app is None else settings_of_host(app, settings)
    connection = _connection(settings, app)
    errors = (KombuError, *connection.connection_errors, *connection.channel_errors, OSError)
    try:
        yield connection.default_channel
    except errors as error:
        raise BrokerUnavailableError(f"{public_url(settings.broker_url)}: {error_text(error)}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:  # kombu reads what others have left
        said = f"holds strange data: {type(error).__name__}: {error_text(error)}"
        raise BrokerUnavailableError(f"{public_url(settings.broker_url)}: {said}") from error
    finally:
        _release(connection)


def _connection(settings: Settings, app: Any) -> Connection:
    try:
        if app is None:
            connection = Connection(**connection_arguments(settings))
        else:
            connection = app.connection_for_write(transport_options=producer_options(settings))
        _ = connection.transport
    except (KeyError, TypeError, ValueError, ImportError):  # whose texts can hold parts of the password
        raise SettingsError(
            "CELERY_BROKER_URL=(hidden): must be a URL such as redis://:password@host:6379/0, "
            "with special characters of the password percent-encoded, and no options that kombu does not know"
        ) from None
    return connection


def _release(connection: Connection) -> None:
    transport = connection.transport
    connection.release()
    # kombu leaves this descriptor to the garbage collector.
    poller = getattr(getattr(transport, "cycle", None), "poller", None)
    if poller is not None:
        poller.close()


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


class BrokerQueue:
    """A queue of any broker, by kombu's producer; every method raises what kombu or the driver raises."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name

    def send(self, message: Message) -> int | None:
        """Put a message into the queue itself, by way of no exchange.

        Returns:
            How many messages the queue has now, where the broker says so unasked.

        Raises:
            DeliveryError: the broker has no room for it.
        """
        Producer(self._channel).publish(
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
        return None

    def length(self) -> int:
        """Ask how many messages wait in the queue; it is made where there is none, as by sending to it."""
        return _declared(self._channel, self._name)

    def look(self) -> QueueView:
        """Ask for all that the broker can tell: of most it is the length, and no more."""
        return QueueView(self.length(), None, None)


def queue_of(channel: Any, name: str) -> BrokerQueue:
    """The queue, over a channel of kombu's."""
    return RedisQueue(channel, name) if is_redis(channel) else BrokerQueue(channel, name)


def _declared(channel: Any, name: str) -> int:
    return int(channel.queue_declare(name, durable=True, auto_delete=False).message_count)


class RedisQueue(BrokerQueue):
    """A queue in Redis or Sentinel: a list, to which each message is pushed as kombu's virtual channel does.

    kombu itself takes three times as long: for each message it makes a new client, which asks the
    socket for its health, and it encodes the text of the message twice more. Each time this thread
    lets go of the interpreter, as every call of a socket does, a busy host gets it back 5 ms later.
    """

    def __init__(self, channel: Any, name: str) -> None:
        super().__init__(channel, name)
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
