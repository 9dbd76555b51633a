"""How long an entry takes from its call to its row, on a system that has nothing else to do.

    python benchmarks/latency.py [--entries 40] [--flushes 200]

Default settings, journal included, one host, one worker with its defaults, Redis and PostgreSQL.

1. An entry alone: its call, and then nothing but waiting. A query asks for the row every millisecond,
   over a connection of its own. What is shown beyond the flush interval is the way itself.
2. `flush(until="stored")` after one call, from the call to the return; each row is looked up then.
3. `flush()`, which returns when the broker has the entry.
"""

import argparse
import asyncio
import random
import time

import asyncpg

from execution_logger import ExecutionLogger, Settings
from figures import Figures, Table, Target, main, number, percentile, progress
from load import log
from system import System, running_system

ALONE = "an entry alone, until a query sees its row"
STORED = '`flush(until="stored")`'
SENT = "`flush()`, until the broker has it"
WAY_MS = 50.0
STORED_P50_MS = 30.0
POLL_SECONDS = 0.001


class Rows:
    """Looks for rows over one connection."""

    def __init__(self, connection: "asyncpg.Connection") -> None:
        self._connection = connection

    async def has(self, entry_id: str) -> bool:
        """Whether this entry is stored."""
        found = await self._connection.fetchval("SELECT 1 FROM execution_logs WHERE id = $1", entry_id)
        return found is not None

    async def wait_for(self, entry_id: str, timeout_seconds: float = 30.0) -> None:
        """Return when this entry is stored."""
        async with asyncio.timeout(timeout_seconds):
            while not await self.has(entry_id):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(POLL_SECONDS)


async def alone_ms(logger: ExecutionLogger, rows: Rows, count: int) -> list[float]:
    """Milliseconds from each call to its row, one after the other."""
    durations = []
    for step in range(count):
        # At any moment of whatever has a rhythm.
        await asyncio.sleep(random.uniform(0.0, 0.5))  # noqa: S311 - no secret
        began = time.perf_counter()
        entry = await log(logger, "alone", step)
        await rows.wait_for(entry.id)
        durations.append((time.perf_counter() - began) * 1e3)
        if step % 10 == 0:
            progress(f"an entry alone: {step} of {count}")
    return durations


async def flush_ms(logger: ExecutionLogger, rows: Rows, count: int, *, until_stored: bool) -> list[float]:
    """Milliseconds from each call to the end of its flush."""
    durations = []
    for step in range(count):
        await asyncio.sleep(random.uniform(0.02, 0.06))  # noqa: S311 - no secret
        began = time.perf_counter()
        entry = await log(logger, "flushed", step)
        report = await logger.flush(10, until="stored" if until_stored else "delivered")
        durations.append((time.perf_counter() - began) * 1e3)
        if not report.complete or (until_stored and not await rows.has(entry.id)):
            raise RuntimeError(f"an entry is not where flush() says: {report}")
    return durations


async def measure_all(system: System, entries: int, flushes: int) -> dict[str, list[float]]:
    """Milliseconds, by what was waited for."""
    connection = await asyncpg.connect(system.postgres.url())
    rows, logger = Rows(connection), system.logger()
    try:
        await flush_ms(logger, rows, 5, until_stored=True)  # connections are made, modules imported
        return {
            ALONE: await alone_ms(logger, rows, entries),
            STORED: await flush_ms(logger, rows, flushes, until_stored=True),
            SENT: await flush_ms(logger, rows, flushes, until_stored=False),
        }
    finally:
        await logger.shutdown()
        await connection.close()


def measure(options: argparse.Namespace) -> Figures:
    """All three, one after the other."""
    entries, flushes = (4, 30) if options.quick else (options.entries, options.flushes)
    with running_system(workers=1) as system:
        found = asyncio.run(measure_all(system, entries, flushes))
        system.wait_for_rows(sum(map(len, found.values())) + 5)
    rows = [
        (name, *(number(percentile(values, p)) for p in (50, 99)), number(max(values)))
        for name, values in found.items()
    ]
    interval_ms = Settings().flush_interval_seconds * 1e3
    return Figures(
        [
            Table(
                "From a call to its row, ms, on an idle system",
                ("", "p50", "p99", "worst"),
                rows,
                f"The flush interval is {interval_ms:,.0f} ms: an entry alone waits so long for others.",
            )
        ],
        targets=[
            Target(
                "an entry alone beyond the flush interval, p99",
                percentile(found[ALONE], 99) - interval_ms,
                WAY_MS,
                "ms",
            ),
            Target('`flush(until="stored")`, p50', percentile(found[STORED], 50), STORED_P50_MS, "ms"),
        ],
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--entries", type=int, default=40, help="that are logged alone")
    parser.add_argument("--flushes", type=int, default=200, help="of each kind")


if __name__ == "__main__":
    main(__doc__, measure, add_options)
