"""The oldest entry: how long what is in the queue has been waiting."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from execution_logger.broker.envelope import decode_body
from execution_logger.quotes import restore_quotes
from execution_logger.settings import Settings

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
