"""The queue as the broker holds it: how long it is, what a worker has in hand, what was moved aside."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from kombu import Connection, Exchange, Queue
from kombu.exceptions import KombuError
from redis.exceptions import NoPermissionError

from execution_logger.broker.connection import connection_arguments, text_of
from execution_logger.broker.message import decode_body, restore_quotes, sent_at
from execution_logger.errors import ExecutionLoggerError, SettingsError
from execution_logger.settings import Settings
from execution_logger.text import public_url

_T = TypeVar("_T")

_MOST_MESSAGES = 5
"""So many of each kind are looked at: messages stand in the order in which they were sent."""


class _Properties(msgspec.Struct):
    body_encoding: str | None = None


class _Message(msgspec.Struct):
    body: str
    properties: _Properties


class _Entry(msgspec.Struct):
    created_at: datetime


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_unacked = msgspec.json.Decoder(tuple[_Message, str, str]).decode
_decode_arguments = msgspec.json.Decoder(tuple[tuple[str], Any, Any]).decode
_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode
_ERRORS = (msgspec.DecodeError, UnicodeError, ValueError, TypeError, RecursionError)


def oldest_entry_at(channel: Any, settings: Settings) -> datetime | None:
    """When the oldest entry was recorded that waits in the queue or that a worker has in hand.

    Args:
        channel: of kombu, to a Redis.
        settings: name the queue.

    Returns:
        Its `created_at` in UTC; None when there is no batch, or none whose entries can be read.
    """
    client = channel.client
    waiting = client.lrange(settings.queue, -_MOST_MESSAGES, -1)
    tags = client.zrange(channel.unacked_index_key, 0, _MOST_MESSAGES - 1)
    in_flight = client.hmget(channel.unacked_key, tags) if tags else []
    messages = (*map(_waiting, waiting), *(_in_flight(item, settings) for item in in_flight))
    return min(_moments(messages), default=None)


def _waiting(item: bytes) -> _Message | None:
    try:
        return _decode_message(item)
    except _ERRORS:
        return None


def _in_flight(item: bytes | None, settings: Settings) -> _Message | None:
    try:
        message, _, queue = _decode_unacked(item or b"")
    except _ERRORS:
        return None
    return message if queue == settings.queue else None


def _moments(messages: Iterable[_Message | None]) -> Iterator[datetime]:
    """When the first entry of each batch was recorded; messages that are no batches are passed over."""
    for message in messages:
        try:
            if message is not None:
                body = decode_body(message.body, message.properties.body_encoding)
                ((batch,), _, _) = _decode_arguments(body)
                first = _decode_entries(restore_quotes(batch))[0]
                yield _decode_entry(first).created_at.astimezone(UTC)
        except (*_ERRORS, LookupError, OverflowError):
            continue


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


def queue_length(settings: Settings) -> QueueLength:
    """Ask the broker.

    Raises:
        BrokerUnavailableError: it does not answer within a second or so.
    """
    with open_channel(settings) as channel:
        return measure_queue(channel, settings)


def measure_queue(channel: Any, settings: Settings) -> QueueLength:
    """The same over a channel; of a Redis by single commands that it answers even when it is full."""
    if not is_redis(channel):
        declared = channel.queue_declare(settings.queue, durable=True, auto_delete=False)
        return QueueLength(declared.message_count)
    client = channel.client
    return QueueLength(
        waiting=client.llen(settings.queue),
        in_flight=client.hlen(channel.unacked_key),
        quarantined=_if_allowed(client.llen, quarantine_key(settings)),
        oldest=_if_allowed(oldest_entry_at, channel, settings),
        sent_at=sent_at(client.lindex(settings.queue, -1)),
    )


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
    _release(_connection(settings))


@contextmanager
def open_channel(settings: Settings) -> Iterator[Any]:
    """A kombu channel of a connection of its own, whose every kind of failure is one kind of error.

    Raises:
        BrokerUnavailableError: connecting failed, or what is done with the channel.
        SettingsError: the broker's URL cannot be used.
    """
    connection = _connection(settings)
    errors = (KombuError, *connection.connection_errors, *connection.channel_errors, OSError)
    try:
        yield connection.default_channel
    except errors as error:
        raise BrokerUnavailableError(f"{public_url(settings.broker_url)}: {text_of(error)}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:  # kombu reads what others have left
        said = f"holds strange data: {type(error).__name__}: {text_of(error)}"
        raise BrokerUnavailableError(f"{public_url(settings.broker_url)}: {said}") from error
    finally:
        _release(connection)


def _connection(settings: Settings) -> Connection:
    try:
        connection = Connection(**connection_arguments(settings))
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
