"""What the broker says of the queue and of itself."""

import time
from typing import Any

import msgspec

from execution_logger.exposition import Metric, gauge
from execution_logger.settings import Settings
from execution_logger.worker.queue import is_redis, open_channel, queue_length


class _Headers(msgspec.Struct):
    sent_at: float | None = None


class _Envelope(msgspec.Struct):
    headers: _Headers


_decode = msgspec.json.Decoder(_Envelope).decode


def read_broker(settings: Settings) -> list[Metric]:
    """How much is in the queue, how long it waits, and how full a Redis is.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    length = queue_length(settings)
    numbers = {
        ("queue_messages", "Batches that wait in the queue."): length.waiting,
        ("queue_limit_messages", "Length of the queue at which sending is held back."): (
            settings.queue_max_messages
        ),
        ("queue_in_flight_messages", "Batches that workers have in hand."): length.in_flight,
        ("queue_quarantined_messages", "Malformed messages, moved aside."): length.quarantined,
    }
    found = [gauge(*names, number) for names, number in numbers.items() if number is not None]
    with open_channel(settings) as channel:
        return [*found, *_read_redis(channel, settings)] if is_redis(channel) else found


def _read_redis(channel: Any, settings: Settings) -> list[Metric]:
    sent_at = _sent_at(channel.client.lindex(settings.queue, -1))
    age_seconds = 0.0 if sent_at is None else max(0.0, time.time() - sent_at)
    age = gauge("queue_oldest_age_seconds", "Since when the next message waits; 0 without one.", age_seconds)
    return [age, *_memory(channel)]


def _memory(channel: Any) -> list[Metric]:
    """What it compares itself when it refuses a write; nothing where this user may not ask."""
    try:
        memory = channel.client.info("memory")
    except channel.ResponseError:
        return []
    used = memory["used_memory"] - memory.get("mem_not_counted_for_evict", 0)
    found = [gauge("broker_memory_bytes", "Memory that Redis has used.", used)]
    if limit := memory.get("maxmemory"):
        found.append(gauge("broker_memory_limit_bytes", "Redis' maxmemory; absent without one.", limit))
    return found


def _sent_at(message: bytes | None) -> float | None:
    try:
        return _decode(message).headers.sent_at if message else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
