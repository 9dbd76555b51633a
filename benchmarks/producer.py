"""How many entries a second one process brings from its calls into Redis, and in how many messages.

    python benchmarks/producer.py [--entries 100000] [--rounds 5] [--seconds 4]

No worker runs: every message stays in the queue, where its entries are counted. Loggers have default
settings, but for a limit of the queue that is out of reach.

1. As fast as 100 workflows get their turns, from the first call until Redis has all. Rounds alternate
   between the loggers; ratios are those of the same round. The event loop does not rest until the last
   call has returned: what is in Redis by then was sent beside it.
2. Evenly, at some rates: the faster entries come, the more of them share a message. CPU time is that of
   the whole process, with what the workflows themselves take; the same without logging is subtracted.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import msgspec

import naive
from execution_logger.broker.message import decode_body, restore_quotes
from figures import Figures, Table, main, number, progress, spread
from load import Logger, log, log_at_rate, log_flat_out
from system import System, running_system

OURS = "execution_logger"
NAIVE = "a list of dicts with `apply_async`"
RATES = (200, 1_000, 5_000, 20_000)
CHUNK = 100

Work = Callable[[Logger], Coroutine[Any, Any, int]]
"""Logs, and returns how many entries."""


@dataclass(frozen=True)
class Round:
    """What one logger did."""

    entries: int
    seconds: float
    cpu_seconds: float
    messages: int
    size_bytes: int
    sent_meanwhile: int
    """Entries that Redis had when the last call returned."""

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU for each entry."""
        return self.cpu_seconds / self.entries * 1e6


@asynccontextmanager
async def ours(system: System, *, is_journalled: bool) -> AsyncIterator[Logger]:
    """Our logger."""
    logger = system.logger(journal=is_journalled, queue_max_messages=10_000_000, flush_timeout_seconds=60.0)
    yield logger
    await logger.shutdown(0)  # no worker will ever confirm


@asynccontextmanager
async def others(system: System) -> AsyncIterator[Logger]:
    """The logger that hosts write for themselves."""
    naive.connect(system.redis.url())
    logger = naive.NaiveLogger()
    yield logger
    await logger.close()


LOGGERS: dict[str, Callable[[System], AbstractAsyncContextManager[Logger]]] = {
    OURS: partial(ours, is_journalled=True),
    f"{OURS}, journal off": partial(ours, is_journalled=False),
    NAIVE: others,
}


async def run(system: System, name: str, work: Work) -> Round:
    """Let a logger do this work; raises when Redis has another number of entries afterwards."""
    system.clear()
    async with LOGGERS[name](system) as logger:
        await log(logger, "first", 0)  # makes the connection
        await logger.flush()
        began, cpu = time.perf_counter(), time.process_time()
        entries = await work(logger)
        messages = messages_in_queue(system)
        await logger.flush()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        sizes = sizes_in_queue(system)
    counts = [count for count, _ in sizes]
    if sum(counts) != entries + 1:
        raise RuntimeError(f"Redis has {sum(counts) - 1} of {entries} entries")
    size_bytes, sent_meanwhile = sum(size for _, size in sizes[1:]), sum(counts[1:messages])
    return Round(entries, seconds, cpu_seconds, len(sizes) - 1, size_bytes, sent_meanwhile)


def messages_in_queue(system: System) -> int:
    """How many there are."""
    with system.redis.client() as client:
        return sum(int(client.llen(name)) for name in ("logs", naive.QUEUE))


def sizes_in_queue(system: System) -> list[tuple[int, int]]:
    """Entries and bytes of each message, the oldest first."""
    found: list[tuple[int, int]] = []
    with system.redis.client() as client:
        queue = next(name for name in ("logs", naive.QUEUE) if client.exists(name))
        for at in range(0, int(client.llen(queue)), CHUNK):
            messages = client.lrange(queue, at, at + CHUNK - 1)
            found += [(entries_in(message), len(message)) for message in messages]
    return found[::-1]


def entries_in(message: str) -> int:
    """How many entries a message has: a list, or the JSON of one."""
    found = msgspec.json.decode(message)
    (entries,), *_ = msgspec.json.decode(decode_body(found["body"], found["properties"].get("body_encoding")))
    return len(msgspec.json.decode(restore_quotes(entries)) if isinstance(entries, str) else entries)


async def flat_out(system: System, entries: int, rounds: int) -> dict[str, list[Round]]:
    """Rounds of each logger."""

    async def work(logger: Logger) -> int:
        await log_flat_out(logger, entries)
        return entries

    found: defaultdict[str, list[Round]] = defaultdict(list)
    for turn in range(rounds):
        for name in LOGGERS:
            found[name].append(each := await run(system, name, work))
            progress(f"round {turn + 1}/{rounds}, {name}: {entries / each.seconds:,.0f} entries/s")
    return found


async def evenly(system: System, seconds: float) -> dict[int, tuple[Round, float]]:
    """A round of ours at each rate, and the seconds of CPU that the same workflows take without logging."""
    found = {}
    for rate in RATES:
        progress(f"{rate:,} entries/s")
        began = time.process_time()
        await log_at_rate(None, seconds, rate)
        idle = time.process_time() - began
        work = partial(log_at_rate, seconds=seconds, entries_per_second=rate)
        found[rate] = await run(system, OURS, work), idle
    return found


def flat_out_table(found: dict[str, list[Round]]) -> Table:
    """A row for each logger."""
    rows = []
    for name, rounds in found.items():
        ratios = [one.seconds / each.seconds for one, each in zip(found[NAIVE], rounds, strict=True)]
        rates = [each.entries / each.seconds for each in rounds]
        per_message = median(each.entries / each.messages for each in rounds)
        size = median(each.size_bytes / each.entries for each in rounds)
        cpu = median(each.cpu_us for each in rounds)
        meanwhile = median(each.sent_meanwhile / each.entries for each in rounds)
        cells = (number(cpu), number(per_message), number(size), f"{meanwhile:.0%}")
        rows.append((name, spread(rates), *cells, f"{number(median(ratios))}x"))
    columns = (
        "logger", "entries/s", "µs CPU each", "entries a message", "bytes each in Redis",
        "there with the last call", "ratio",
    )  # fmt: skip
    return Table("From calls into Redis, as fast as it goes", columns, rows)


def rate_table(found: dict[int, tuple[Round, float]]) -> Table:
    """A row for each rate."""
    rows = [
        (
            f"{rate:,}",
            number(each.messages / each.seconds),
            number(each.entries / each.messages),
            number((each.cpu_seconds - idle) / each.entries * 1e6),
            f"{number((each.cpu_seconds - idle) / each.seconds * 100)} %",
        )
        for rate, (each, idle) in found.items()
    ]
    columns = ("entries/s", "messages/s", "entries a message", "µs CPU each", "of a core")
    return Table("From calls into Redis, evenly", columns, rows)


def measure(options: argparse.Namespace) -> Figures:
    """Both questions."""
    entries, rounds, seconds = options.entries, options.rounds, options.seconds
    if options.quick:
        entries, rounds, seconds = 5_000, 1, 0.5
    with running_system() as system:
        fast = asyncio.run(flat_out(system, entries, rounds))
        even = asyncio.run(evenly(system, seconds))
    return Figures([flat_out_table(fast), rate_table(even)])


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--entries", type=int, default=100_000, help="entries in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="at each rate")


if __name__ == "__main__":
    main(__doc__, measure, add_options)
