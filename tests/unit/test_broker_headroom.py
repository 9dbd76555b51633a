"""The memory of Redis: the last tenth is left to the workers."""

from typing import Any

import pytest

from execution_logger.broker.queue import Headroom
from execution_logger.errors import DeliveryError

FULL = {"maxmemory": 1_000, "maxmemory_policy": "noeviction"}


class Redis:
    """Answers with what it is given, and counts how often it was asked."""

    def __init__(self, **told: Any) -> None:
        self.told = told
        self.asked = 0
        self.now = 0.0

    def ask(self) -> dict[str, Any]:
        """Answer as `INFO memory`."""
        self.asked += 1
        return self.told

    def headroom(self) -> Headroom:
        """One that asks this, at this clock."""
        return Headroom(self.ask, lambda: self.now)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({}, id="a user without the right to ask"),
        pytest.param({**FULL, "maxmemory": 0, "used_memory": 10**12}, id="no limit"),
        pytest.param({**FULL, "maxmemory_policy": "allkeys-lru", "used_memory": 1_000}, id="it evicts"),
    ],
)
def test_where_there_is_no_limit_to_keep_from_everything_is_sent(told: dict[str, Any]) -> None:
    """And it is asked no more than once a second."""
    redis = Redis(**told)
    headroom = redis.headroom()
    for _ in range(100):
        headroom.take(10**9)
    assert redis.asked == 1


def test_the_last_tenth_is_not_used() -> None:
    """What fits below it is sent, a byte more is not; the error says what is where."""
    redis = Redis(**FULL, used_memory=800)
    redis.headroom().take(100)
    with pytest.raises(DeliveryError, match="800 bytes of its maxmemory of 1,000"):
        redis.headroom().take(101)


def test_buffers_that_redis_itself_does_not_count_are_not_counted() -> None:
    """Those of replicas and of the append-only file."""
    redis = Redis(**FULL, used_memory=1_000, mem_not_counted_for_evict=200)
    redis.headroom().take(100)


def test_it_is_asked_again_when_a_fiftieth_of_what_was_free_is_used() -> None:
    """The rest is for those who send at the same time."""
    redis = Redis(maxmemory=10_000, maxmemory_policy="noeviction", used_memory=4_000)
    headroom = redis.headroom()
    for _ in range(10):
        headroom.take(10)
    assert redis.asked == 1
    headroom.take(10)
    assert redis.asked == 2


def test_it_is_asked_again_after_a_second() -> None:
    """Others may have filled it, or made room."""
    redis = Redis(**FULL, used_memory=0)
    headroom = redis.headroom()
    headroom.take(1)
    redis.told["used_memory"] = 1_000
    redis.now = 0.99
    headroom.take(1)
    redis.now = 1.0
    with pytest.raises(DeliveryError):
        headroom.take(1)
    redis.told["used_memory"] = 0
    headroom.take(1)


@pytest.mark.parametrize("senders", [1, 4, 40])
def test_many_senders_stop_before_it_is_full(senders: int) -> None:
    """Each knows of the others only what Redis tells; that is enough."""
    redis = Redis(maxmemory=1_000_000, maxmemory_policy="noeviction", used_memory=0)
    headrooms = [redis.headroom() for _ in range(senders)]
    sending = list(headrooms)
    while sending:
        for headroom in list(sending):
            try:
                headroom.take(1_000)
            except DeliveryError:
                sending.remove(headroom)
            else:
                redis.told["used_memory"] += 1_000
    assert 850_000 < redis.told["used_memory"] <= 1_000_000
