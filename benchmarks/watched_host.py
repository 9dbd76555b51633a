"""A host whose event loop is watched: loop.py runs it in a process of its own.

It logs for a moment, says that it is ready, waits for a line (the broker may fail meanwhile), and then
watches: a ticker asks for a turn of the loop every millisecond, while workflows log evenly, or only
wait as they would. What it has found is its last line.
"""

import asyncio
import gc
import os
import sys
import time
from contextlib import AsyncExitStack, suppress
from typing import Any, Literal

import msgspec

from figures import percentile
from load import Logger, log_at_rate

TICK_SECONDS = 0.001


class Options(msgspec.Struct):
    """What to do."""

    logger: Literal["none", "ours", "naive"]
    broker_url: str
    folder: str
    seconds: float
    warm_up_seconds: float
    entries_per_second: float
    is_new: bool = False
    """Watch the first calls of the process."""
    has_lifespan: bool = False
    """The logger is told when the host starts."""


class Seen(msgspec.Struct):
    """What the ticker saw."""

    entries: int
    worst_ms: float
    """The longest time from one tick to the next."""
    p99_ms: float
    worst_cpu_ms: float
    """The most that the process has computed between two ticks, in all its threads."""
    longest_collection_ms: float
    """Of the garbage collector."""
    came_back: bool = True
    """Otherwise the loop stood still for longer than anybody has waited."""


class Collections:
    """Notes how long the garbage collector takes."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.longest_seconds = max(self.longest_seconds, time.perf_counter() - self._began)


async def watch(logger: Logger | None, options: Options) -> Seen:
    """Tick beside the workflows."""
    gaps: list[float] = []
    cpu: list[float] = []

    async def tick() -> None:
        last, last_cpu = time.perf_counter(), time.process_time()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now, now_cpu = time.perf_counter(), time.process_time()
            gaps.append((now - last) * 1e3)
            cpu.append((now_cpu - last_cpu) * 1e3)
            last, last_cpu = now, now_cpu

    collections = Collections()
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(10 * TICK_SECONDS)
    entries = await log_at_rate(logger, options.seconds, options.entries_per_second)
    await asyncio.sleep(2 * TICK_SECONDS)  # or the last gap would be missing
    ticking.cancel()
    return Seen(entries, max(gaps), percentile(gaps, 99), max(cpu), collections.longest_seconds * 1e3)


def make_logger(options: Options) -> Any:
    """The logger that the host uses, and has imported at its start; None for none."""
    if options.logger == "ours":
        from execution_logger import ExecutionLogger, Settings  # noqa: PLC0415 - the others do without

        return ExecutionLogger(Settings(broker_url=options.broker_url, journal_directory=options.folder))
    if options.logger == "naive":
        import naive  # noqa: PLC0415 - likewise

        naive.connect(options.broker_url)
        return naive.NaiveLogger()
    return None


async def main(options: Options) -> None:
    """Warm up, wait for the word, watch, and say what was seen."""
    logger, stack = make_logger(options), AsyncExitStack()
    if options.logger == "ours" and options.has_lifespan:
        await stack.enter_async_context(logger.lifespan())
    if not options.is_new:
        entries = await log_at_rate(logger, options.warm_up_seconds, options.entries_per_second)
        if logger is not None:
            await logger.flush()
    print("ready", flush=True)
    sys.stdin.readline()
    seen = await watch(logger, options)
    if options.logger == "ours":
        stats = logger.stats()
        expected = seen.entries + (0 if options.is_new else entries)
        if stats["accepted"] != expected or any(stats["dropped"].values()):
            raise RuntimeError(f"{expected} entries were logged: {stats}")
    print(msgspec.json.encode(seen).decode(), flush=True)
    # Out of the lifespan, too: what could not be sent is in the journal, and the broker may be away.
    os._exit(0)


if __name__ == "__main__":
    # What else the machine does is kept out of the figures as far as possible.
    with suppress(PermissionError):
        os.nice(-10)
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Options)))
