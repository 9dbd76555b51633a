"""What the broker says of the queue and of itself."""

from datetime import UTC, datetime

from execution_logger.broker.depth import is_redis, open_channel, queue_length
from execution_logger.metrics import Metric, gauge
from execution_logger.settings import Settings


def read_broker(settings: Settings) -> list[Metric]:
    """How much is in the queue, how old it is, and how full a Redis is.

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
    if length.in_flight is not None:  # other brokers do not tell
        text = "Age of the oldest entry in the queue or in a worker's hands; 0 without one."
        found.append(gauge("queue_oldest_age_seconds", text, _age_seconds(length.oldest)))
    return [*found, *_read_memory(settings)]


def _age_seconds(oldest: datetime | None) -> float:
    return 0.0 if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())


def _read_memory(settings: Settings) -> list[Metric]:
    """What Redis compares itself when it refuses a write; nothing where this user may not ask."""
    with open_channel(settings) as channel:
        if not is_redis(channel):
            return []
        try:
            memory = channel.client.info("memory")
        except channel.ResponseError:
            return []
    if "used_memory" not in memory:  # a server that is like Redis, but for this
        return []
    used = memory["used_memory"] - memory.get("mem_not_counted_for_evict", 0)
    found = [gauge("broker_memory_bytes", "Memory that Redis has used.", used)]
    if limit := memory.get("maxmemory"):
        found.append(gauge("broker_memory_limit_bytes", "Redis' maxmemory; absent without one.", limit))
    return found
