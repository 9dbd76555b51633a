"""Entries a second from the first call to the last committed row, against the logger that hosts write.

    python benchmarks/end_to_end.py [--entries 60000] [--rounds 5]

This process is the host: 100 workflows log as fast as they get their turns. Ours has its default
settings, journal included, and one worker with its defaults; the other logger is naive.py with its
worker. Rounds alternate between the two, each into empty tables of one PostgreSQL, by way of one
Redis, all on this machine. Each begins with the first call and ends when a query sees the last row;
the rows are counted. The CPU time of each part says where the time goes, whatever else the machine
is busy with.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from statistics import median
from typing import Any

import asyncpg

import naive
from cpu import HOST, PARTS, CpuTimes
from figures import Figures, Table, Target, main, number, progress, spread
from load import log_flat_out
from system import System, running_system

OURS = "execution_logger"
NAIVE = "a list of dicts and `add_all`"
LEAST_RATIO = 6.0

Run = Callable[[int, str], Coroutine[Any, Any, None]]
"""Logs so many entries, of runs with this name, and hands over all of them."""


def measure(options: argparse.Namespace) -> Figures:
    """Alternate between the two, and compare."""
    entries, rounds = (4_000, 2) if options.quick else (options.entries, options.rounds)
    with running_system(workers=1) as system:
        system.start_naive_worker()
        return asyncio.run(_measure(system, entries, rounds))


async def _measure(system: System, entries: int, rounds: int) -> Figures:
    logger = system.logger()
    naive.connect(system.redis.url())

    async def ours(count: int, name: str) -> None:
        await log_flat_out(logger, count, name=name)
        await logger.flush(60)

    async def others(count: int, name: str) -> None:
        baseline = naive.NaiveLogger()
        await log_flat_out(baseline, count, name=name)
        await baseline.close()
        if baseline.lost:
            raise RuntimeError(f"{baseline.lost} entries were not sent")

    seconds: defaultdict[str, list[float]] = defaultdict(list)
    cpu: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for each in range(rounds + 1):
        for name, run in ((OURS, ours), (NAIVE, others)):
            # The first round warms up: connections are made, modules imported, statements prepared.
            count = entries if each else 1000
            elapsed, times = await _round(system, run, count, f"{each}-")
            await logger.flush(60, until="stored")
            await asyncio.to_thread(system.clear)
            if each:
                progress(f"round {each}, {name}: {entries / elapsed:,.0f} entries/s")
                seconds[name].append(elapsed)
                for part, value in times.items():
                    cpu[name, part].append(value)
    await logger.shutdown()
    return _figures(entries, seconds, cpu)


async def _round(system: System, run: Run, count: int, name: str) -> tuple[float, dict[str, float]]:
    times, began = CpuTimes(), time.perf_counter()
    await run(count, name)
    connection = await asyncpg.connect(system.postgres.url())
    try:
        while (rows := await connection.fetchval("SELECT count(*) FROM execution_logs")) < count:
            await asyncio.sleep(0.02)
            if time.perf_counter() - began > 300:  # noqa: PLR2004 - seconds
                raise TimeoutError(f"{rows} of {count} entries are stored")
    finally:
        await connection.close()
    elapsed = time.perf_counter() - began
    if rows != count:
        raise RuntimeError(f"{rows} rows are stored instead of {count}")
    return elapsed, dict(times.since())


def _figures(
    entries: int, seconds: dict[str, list[float]], cpu: dict[tuple[str, str], list[float]]
) -> Figures:
    ratios = [other / ours for other, ours in zip(seconds[NAIVE], seconds[OURS], strict=True)]
    parts = [HOST, *PARTS.values()]

    def row(name: str) -> list[str]:
        times = [median(cpu[name, part]) / entries * 1e6 for part in parts]
        rates = [entries / each for each in seconds[name]]
        return [name, spread(rates), *map(number, times), number(sum(times))]

    table = Table(
        f"End to end, {entries:,} entries at once",
        ("logger", "entries/s", *(f"{part}, µs CPU" for part in parts), "in all"),
        [row(OURS), row(NAIVE)],
        f"Entries a second, ours to the other's: {spread(ratios)}. CPU time is for each entry.",
    )
    target = Target(
        "end to end, entries/s to those of the naive logger", median(ratios), LEAST_RATIO, "x", is_least=True
    )
    return Figures([table], targets=[target])


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--entries", type=int, default=60_000, help="entries in each round")
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    main(__doc__, measure, add_options)
