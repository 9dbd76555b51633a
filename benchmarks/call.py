"""What one log call costs its caller, against other libraries measured in the same run.

    python benchmarks/call.py [--calls 20000] [--rounds 9] [--seconds 10]

1. The mean of calls at full speed, with two small details and with 2 KB of them. Every logger delivers
   to nowhere. Rounds alternate between the loggers, so that a machine that becomes slower meanwhile
   slows all of them.
2. How long single calls take, when a call comes now and then, and while batches go to a real Redis at
   5,000 entries/s. The calls of the standard library's QueueHandler beside them go nowhere: how slow one call
   in a thousand is says as much of the machine as of the logger.
3. What a call allocates.

Peers that are not installed are left out: pip install loguru opentelemetry-sdk sentry-sdk structlog.
"""

import argparse
import asyncio
import gc
import sys
import time
import tracemalloc
from array import array
from contextlib import ExitStack
from statistics import median
from typing import Any

from figures import Figures, Plot, Table, Target, main, number, percentile, progress, spread
from naive import NaiveLogger, connect
from peers import OPENTELEMETRY, OURS, OURS_IN_MEMORY, PEERS, QUEUE_HANDLER, Peer, caller, ours
from system import System, running_system

NAIVE = "a list of dicts with `apply_async`"
SHIPPING_ENTRIES_PER_SECOND = 5_000
RATES = {"200 calls/s": 200, "5,000 calls/s": SHIPPING_ENTRIES_PER_SECOND}


def small(number: int) -> dict[str, Any]:
    """Two details."""
    return {"model": "m", "n": number}


def large(number: int) -> dict[str, Any]:
    """Details of 2 KB as agents have them: a conversation."""
    turns = [{"role": "user" if turn % 2 else "assistant", "content": "word " * 48} for turn in range(8)]
    return {"model": "m", "n": number, "messages": turns}


DETAILS = {"two details": small, "2 KB of details": large}


async def mean_us(peer: Peer, calls: int, make_details: Any) -> float:
    """Microseconds a call, at full speed."""
    log, records = peer.log, [make_details(n) for n in range(calls)]
    began = time.perf_counter()
    if peer.is_async:
        for details in records:
            await log(details)
    else:
        for details in records:
            log(details)
    return (time.perf_counter() - began) / calls * 1e6


async def means(system: System, calls: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Microseconds a call of each round, by details and logger."""
    results: dict[str, dict[str, list[float]]] = {kind: {} for kind in DETAILS}
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        for name, make in PEERS.items():
            try:
                peers[name] = stack.enter_context(make())
            except ImportError as error:
                progress(f"left out: {name} ({error})")
        connect(system.redis.url())
        naive = NaiveLogger()
        peers[NAIVE] = Peer(
            lambda details: naive.log_agent_complete(
                "task-1", "intent_analysis", "agent finished", 1500, details
            ),
            is_async=True,
        )
        for turn in range(rounds + 1):
            progress(f"round {turn}/{rounds}")
            for kind, make_details in DETAILS.items():
                for name, peer in peers.items():
                    gc.collect()
                    value = await mean_us(peer, calls, make_details)
                    await asyncio.sleep(0.2)  # what the round left to the background is done before the next
                    if turn:  # the first round warms up
                        results[kind].setdefault(name, []).append(value)
        await naive.close()
    return results


async def single_calls_us(peer: Peer, per_second: int, seconds: float) -> list[float]:
    """Microseconds of each call, evenly paced; with a loop that sleeps between the bursts of 10 ms."""
    log, is_async = peer.log, peer.is_async
    durations: list[float] = []
    burst = max(1, per_second // 100)
    began, bursts = time.perf_counter(), int(seconds * per_second / burst)
    for turn in range(bursts):
        for _ in range(burst):
            before = time.perf_counter()
            if is_async:
                await log(small(turn))
            else:
                log(small(turn))
            durations.append((time.perf_counter() - before) * 1e6)
        await asyncio.sleep(max(0.0, began + (turn + 1) * burst / per_second - time.perf_counter()))
    return durations


async def single_calls(system: System, seconds: float, rounds: int) -> dict[str, list[list[float]]]:
    """Microseconds of each call in each round, by what went on."""
    results: dict[str, list[list[float]]] = {}
    for turn in range(rounds):
        for is_journalled in (True, False):
            logger = system.logger(journal=is_journalled, queue_max_messages=10_000_000)
            peer = caller(logger)
            await single_calls_us(peer, SHIPPING_ENTRIES_PER_SECOND, 0.5)
            await logger.flush()
            for what, rate in RATES.items():
                name = f"{what}, journal {'on' if is_journalled else 'off'}"
                progress(f"{turn + 1}/{rounds}: {name}")
                results.setdefault(name, []).append(await single_calls_us(peer, rate, seconds))
            await logger.shutdown()
            system.clear()
        with PEERS[QUEUE_HANDLER]() as peer:
            for what, rate in RATES.items():
                name = f"{what}, {QUEUE_HANDLER}"
                progress(f"{turn + 1}/{rounds}: {name}")
                results.setdefault(name, []).append(await single_calls_us(peer, rate, seconds))
    return results


async def allocations(*, is_journalled: bool, calls: int = 2_000) -> tuple[float, float, float]:
    """Blocks and bytes that a call leaves in memory, with its entry, and the most bytes in use during it."""
    with ours(is_journalled=is_journalled, batch_size=10_000, max_batch_entries=10_000) as peer:
        records = [small(n) for n in range(2 * calls)]
        for details in records[:calls]:
            await peer.log(details)
        peaks = array("q", bytes(8 * calls))  # made before, as it is no part of a call
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            blocks, size = sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0]
            for number, details in enumerate(records[calls:]):
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                await peer.log(details)
                peaks[number] = tracemalloc.get_traced_memory()[1] - before
            more_blocks = sys.getallocatedblocks() - blocks
            more_bytes = tracemalloc.get_traced_memory()[0] - size
        finally:
            tracemalloc.stop()
            gc.enable()
    return more_blocks / calls, more_bytes / calls, median(peaks)


def mean_tables(results: dict[str, dict[str, list[float]]]) -> list[Table]:
    """A table for each kind of details; ratios are medians of the ratios within a round."""
    tables = []
    for kind, by_name in results.items():
        own = by_name[OURS]
        rows = [
            (name, spread(values), f"{number(ratio(values, own))}x")
            for name, values in sorted(by_name.items(), key=lambda item: median(item[1]))
        ]
        columns = ("logger", "µs a call, median of rounds (quartiles)", "ratio")
        tables.append(Table(f"A call with {kind}, at full speed", columns, rows))
    return tables


def ratio(values: list[float], others: list[float]) -> float:
    """The median of the ratios of rounds that were made one after the other."""
    return median(value / other for value, other in zip(values, others, strict=True))


def single_table(results: dict[str, list[list[float]]]) -> Table:
    """Percentiles of single calls: medians over the rounds, and the worst call of all."""
    columns = ("calls", "p50", "p99", "p99.9", "worst")
    rows = [
        (
            name,
            *(number(percentile_over_rounds(rounds, p)) for p in (50, 99, 99.9)),
            number(max(map(max, rounds))),
        )
        for name, rounds in results.items()
    ]
    return Table("Single calls in µs, batches going to a real Redis", columns, rows)


def percentile_over_rounds(rounds: list[list[float]], percent: float) -> float:
    """The median of the rounds' percentiles."""
    return median(percentile(durations, percent) for durations in rounds)


def allocation_table() -> Table:
    """What calls leave in memory, and what they need meanwhile."""
    rows = []
    for is_journalled in (False, True):
        blocks, size, peak = asyncio.run(allocations(is_journalled=is_journalled))
        name = f"journal {'on' if is_journalled else 'off'}"
        rows.append((name, f"{blocks:.1f}", number(size), number(peak)))
    columns = ("a call, two details", "blocks that stay", "bytes that stay", "most bytes during it")
    return Table("What a call allocates while its entry waits", columns, rows)


def find_targets(mean: dict[str, list[float]], single: dict[str, list[list[float]]]) -> list[Target]:
    """The limits are ratios of the same rounds."""
    off, on, handler = mean[OURS_IN_MEMORY], mean[OURS], mean.get(QUEUE_HANDLER)
    targets = []
    if handler:
        targets.append(Target("a call without journal / QueueHandler", ratio(off, handler), 1 / 3))
        targets.append(Target("a call with journal / QueueHandler", ratio(on, handler), 2 / 3))
    if OPENTELEMETRY in mean:
        targets.append(
            Target("a call without journal / OpenTelemetry", ratio(off, mean[OPENTELEMETRY]), 1 / 4)
        )
    targets.append(
        Target("a call without journal / a list of dicts with `apply_async`", ratio(off, mean[NAIVE]), 0.1)
    )
    targets.append(Target("a call with journal / without", ratio(on, off), 2))
    for name, rounds in single.items():
        if name.startswith("5,000") and "journal" in name:
            value = percentile_over_rounds(rounds, 99.9)
            targets.append(Target(f"p99.9 at {name}", value, 200, "µs"))
    return targets


def measure(options: argparse.Namespace) -> Figures:
    """All three questions."""
    calls, rounds, seconds = options.calls, options.rounds, options.seconds
    if options.quick:
        calls, rounds, seconds = 1_000, 1, 0.5
    with running_system() as system:
        mean = asyncio.run(means(system, calls, rounds))
        single = asyncio.run(single_calls(system, seconds, min(rounds, 3)))
    tables = [*mean_tables(mean), single_table(single), allocation_table()]
    bars = {kind: [(name, median(values)) for name, values in of.items()] for kind, of in mean.items()}
    plot = Plot("What a call costs its caller", "", "µs a call", bars, is_log_y=True)
    return Figures(tables, [plot], find_targets(mean["two details"], single))


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=10, help="of single calls at each rate")


if __name__ == "__main__":
    main(__doc__, measure, add_options)
