"""The part of Redis' memory that batches leave free, because a worker needs it to take them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

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
