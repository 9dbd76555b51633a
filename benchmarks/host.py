"""A host in a process of its own: it logs when it is told to, and tells what that was like.

It reads commands from standard input, one a line, and answers each with one JSON object:

    log ENTRIES                 as fast as it can, from one event loop
    burst ENTRIES               the same, and what is left of a batch is sent at once
    load RATE SECONDS           so many entries a second
    flush SECONDS               until all is stored, for that long at most
    stats                       what the logger says of itself

It ends with its input. Its settings are in the environment, as those of every host.
"""

import asyncio
import json
import sys
import time
from typing import Any

from execution_logger import ExecutionLogger

_CALLS_AT_ONCE = 50
_CALLS_OF_A_RUN = 100
_TICK_SECONDS = 0.01
_FLUSH_SECONDS = 60.0


class Host:
    """Calls the logger, and takes the time of its calls."""

    def __init__(self) -> None:
        self.logger = ExecutionLogger()
        self.entries = 0
        self.seconds_in_calls = 0.0

    async def call(self, count: int) -> None:
        """So many calls, one after the other."""
        log = self.logger.log_agent_complete
        began = time.perf_counter()
        for number in range(self.entries, self.entries + count):
            await log(
                f"run-{number // _CALLS_OF_A_RUN}",
                "intent_analysis",
                "agent finished",
                1500,
                details={"model": "m", "n": number},
            )
        self.seconds_in_calls += time.perf_counter() - began
        self.entries += count

    async def log(self, entries: float) -> None:
        """As fast as it can; the loop turns between two handfuls of calls."""
        left = int(entries)
        while left:
            await self.call(count := min(left, _CALLS_AT_ONCE))
            left -= count
            await asyncio.sleep(0)

    async def burst(self, entries: float) -> None:
        """As fast as it can, and then until the broker has all."""
        await self.log(entries)
        await self.logger.flush(_FLUSH_SECONDS)

    async def load(self, rate: float, seconds: float) -> None:
        """So many entries a second, in a handful every few milliseconds."""
        began, called = time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < seconds:
            await self.call(due := int(elapsed * rate) - called)
            called += due
            await asyncio.sleep(_TICK_SECONDS)
        await self.call(int(seconds * rate) - called)

    async def flush(self, seconds: float) -> None:
        """Until all is stored."""
        await self.logger.flush(seconds, until="stored")

    async def stats(self) -> None:
        """Nothing but the answer."""

    async def obey(self, command: str, *numbers: str) -> dict[str, Any]:
        """Do it; how many entries there were, the mean call, and what the logger says."""
        entries, seconds, began_at = self.entries, self.seconds_in_calls, time.time()
        await getattr(self, command)(*map(float, numbers))
        entries, seconds = self.entries - entries, self.seconds_in_calls - seconds
        return {
            "entries": entries,
            "call_us": seconds / max(1, entries) * 1e6,
            "began_at": began_at,
            "ended_at": time.time(),
            "stats": self.logger.stats() if self.entries else {},
        }


def main() -> None:
    """Obey until the input ends."""
    host = Host()
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(host.obey(*line.split()))), flush=True)
    host.logger.sync.shutdown()


if __name__ == "__main__":
    main()
