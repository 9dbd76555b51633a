"""The queue as the broker holds it: how long it is, what a worker has in hand, what was moved aside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from kombu import Connection, Exchange, Queue
from kombu.exceptions import KombuError

from execution_logger.broker.connection import connection_arguments, text_of
from execution_logger.errors import ExecutionLoggerError, SettingsError
from execution_logger.settings import Settings
from execution_logger.urls import public_url
from execution_logger.worker.oldest import oldest_entry_at


class _Headers(msgspec.Struct):
    sent_at: float | None = None


class _Envelope(msgspec.Struct):
    headers: _Headers


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


class BrokerUnavailableError(ExecutionLoggerError):
    """The broker does not answer, or what it holds is not what Celery keeps there."""


@dataclass(frozen=True, slots=True)
class QueueLength:
    """How many messages are where; None where this kind of broker cannot tell."""

    waiting: int
    in_flight: int | None
    """Taken by workers and not acknowledged yet; not those in the hands of a worker of the host's own."""
    quarantined: int | None
    oldest: datetime | None = None
    """When the oldest entry in these messages was recorded, in UTC."""


def queue_length(settings: Settings) -> QueueLength:
    """Ask the broker.

    Raises:
        BrokerUnavailableError: it does not answer within a second or so.
    """
    with open_channel(settings) as channel:
        waiting = channel.queue_declare(settings.queue, durable=True, auto_delete=False).message_count
        if not is_redis(channel):
            return QueueLength(waiting, None, None)
        return QueueLength(
            waiting=waiting,
            in_flight=channel.client.hlen(channel.unacked_key),
            quarantined=channel.client.llen(quarantine_key(settings)),
            oldest=oldest_entry_at(channel, settings),
        )


def waiting_since(settings: Settings) -> float | None:
    """When the oldest batch that waits in the queue was sent, in seconds since 1970.

    None when nothing waits, when its sender did not say, and for brokers other than Redis.

    Raises:
        BrokerUnavailableError: it does not answer within a second or so.
    """
    with open_channel(settings) as channel:
        if not is_redis(channel):
            return None
        message = channel.client.lindex(settings.queue, -1)
    try:
        return _decode_envelope(message).headers.sent_at if message else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
