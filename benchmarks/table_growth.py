"""What becomes of the store while its table grows: the insert rate, a run's timeline, the disk.

    python benchmarks/table_growth.py [--rows 10000000] [--rounds 7]

Three databases of one PostgreSQL hold a hundredth, a tenth and all of `--rows`, and their batches in the
ledger. They are filled in the order of time with all indexes in place, as in real life: ids and times
are ever higher, `task_id`s in no order. Rounds alternate between them: a `Writer` stores further
batches of 50 and of 500 entries, and runs from all over the table are read back with the repository's
`list_by_trace`. Every row is counted.

Ten million rows take three minutes and 8 GB of disk. PostgreSQL has its default settings (128 MB of
buffers), but does not wait for the disk; the system's memory should hold the tables.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import TYPE_CHECKING, Self

from sqlalchemy.ext.asyncio import AsyncSession

from entries import CALLS_PER_RUN, PROCESS, make_batches, run_of, task_of
from execution_logger import Settings
from execution_logger.store import ExecutionLogRepository, Writer, create_engine, upgrade
from figures import Figures, Plot, Table, Target, main, number, percentile, progress
from system import running_postgres

if TYPE_CHECKING:
    from servers import PostgresServer

BATCHES = {50: 100, 500: 20}
"""Sizes of batches, and how many of them a round stores."""

TIMELINES = 50
"""How many runs a round reads."""

CHUNK = 500_000

ID = """
    CAST(lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0')
        || '7' || left(md5(CAST(n AS text)), 3) || '8' || right(md5(CAST(n AS text)), 15) AS uuid)
"""
"""A UUIDv7."""

MOMENTS = """
    generate_series($1::integer, $2::integer, $3::integer) AS n,
    LATERAL (SELECT now() - ($4::integer - n) * interval '10 milliseconds' AS at) AS moment
"""

FILL_ENTRIES = f"""
    INSERT INTO execution_logs (
        id, task_id, roadmap_id, level, category, step, agent_name, message, details, duration_ms, created_at
    )
    SELECT {ID}, CAST(CAST(md5('run-' || (n / 1000 * 10 + n % 10)) AS uuid) AS text), 'roadmap-' || n / 1000,
        'info', 'agent', 'analysis', 'agent-' || n % 7, 'agent has finished step ' || n,
        jsonb_build_object('model', 'm', 'tokens', n, 'prompt', repeat('x', 60)), n % 5000, at
    FROM {MOMENTS}
"""  # noqa: S608 - all of it is from here
FILL_LEDGER = f"""
    INSERT INTO execution_log_batches
        (batch_id, process, first, entries, dead_lettered, oldest_at, newest_at, stored_at)
    SELECT {ID}, '{PROCESS}', n, 50, 0, at, at, at FROM {MOMENTS}
"""  # noqa: S608

COUNT = "SELECT count(*) FROM execution_logs"
SETTLE = ("VACUUM ANALYZE execution_logs", "VACUUM ANALYZE execution_log_batches", "CHECKPOINT")
MEASURE_DISK = """
    SELECT pg_table_size('execution_logs'), pg_indexes_size('execution_logs'),
        pg_total_relation_size('execution_log_batches')
"""


class GrownTable:
    """A database whose table had `rows` rows at the start, and what was measured there.

    It is an asynchronous context manager, which has filled the table.
    """

    def __init__(self, server: "PostgresServer", rows: int) -> None:
        self.rows = rows
        self.rates: dict[int, list[float]] = {size: [] for size in BATCHES}
        self.timeline_ms: list[float] = []
        self.bytes: Sequence[int] = ()
        self._server = server
        self._database = server.create_database()
        self._settings = Settings(database_url=server.url(self._database))
        self._engine = create_engine(self._settings, pool_size=1)
        self._writer = Writer(self._engine, self._settings)
        self._next_number = rows + 1

    async def __aenter__(self) -> Self:
        await upgrade(self._engine, self._settings)
        for first in range(1, self.rows + 1, CHUNK):
            last = min(first + CHUNK - 1, self.rows)
            self._execute(FILL_ENTRIES, first, last, 1, self.rows)
            self._execute(FILL_LEDGER, first, last, 50, self.rows)
            progress(f"{last:,} of {self.rows:,} rows are filled in")
        for statement in SETTLE:  # now, and not in the middle of a round
            self._execute(statement)
        (self.bytes,) = self._execute(MEASURE_DISK)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()

    async def insert(self, size: int) -> None:
        """Store a round's batches of this size."""
        entries = size * BATCHES[size]
        batches = make_batches(entries, size, first=self._next_number)
        self._next_number += entries
        began = time.perf_counter()
        for batch in batches:
            await self._writer.write(batch.id, batch.entries, process=PROCESS, first=batch.first)
        self.rates[size].append(entries / (time.perf_counter() - began))

    async def read(self) -> None:
        """Read the timelines of runs from all over the table."""
        async with AsyncSession(self._engine) as session:
            repository = ExecutionLogRepository(session, self._settings)
            await repository.list_by_trace("none")  # opens the connection
            for _ in range(TIMELINES):
                # The first and the last thousand entries are of runs that are not whole.
                run = run_of(random.randrange(1000, self.rows - 1000))  # noqa: S311 - no secret
                began = time.perf_counter()
                entries = await repository.list_by_trace(task_of(run))
                self.timeline_ms.append((time.perf_counter() - began) * 1e3)
                if len(entries) != CALLS_PER_RUN:
                    raise RuntimeError(f"run {run} has {len(entries)} entries instead of {CALLS_PER_RUN}")

    def check(self) -> None:
        """Count the rows."""
        ((found,),) = self._execute(COUNT)
        if found != self._next_number - 1:
            raise RuntimeError(f"{found} rows are stored instead of {self._next_number - 1}")

    def forget(self) -> None:
        """What was measured until now has warmed up."""
        for values in (*self.rates.values(), self.timeline_ms):
            values.clear()

    def _execute(self, statement: str, *arguments: int) -> list[tuple[int, ...]]:
        return self._server.execute(statement, *arguments, database=self._database)


async def measure_tables(server: "PostgresServer", sizes: Sequence[int], rounds: int) -> list[GrownTable]:
    """Tables of these sizes, in turn."""
    async with AsyncExitStack() as stack:
        tables = [await stack.enter_async_context(GrownTable(server, rows)) for rows in sizes]
        for turn in range(rounds + 1):
            progress(f"round {turn}/{rounds}")
            for table in tables:
                for size in BATCHES:
                    await table.insert(size)
                await table.read()
                if turn == 0:
                    table.forget()
        for table in tables:
            table.check()
        return tables


def kept_rate(table: GrownTable, first: GrownTable, size: int) -> float:
    """The insert rate against that of another table in the same round."""
    pairs = zip(table.rates[size], first.rates[size], strict=True)
    return median(one / other for one, other in pairs)


def describe(table: GrownTable, first: GrownTable) -> tuple[str, ...]:
    """A table's line."""
    rates = (
        f"{number(median(rates))} ({kept_rate(table, first, size):.2f}x)"
        for size, rates in table.rates.items()
    )
    times = (number(percentile(table.timeline_ms, percent)) for percent in (50, 99))
    sizes = (number(size / table.rows) for size in table.bytes)
    return f"{table.rows:,}", *rates, *times, *sizes, number(sum(table.bytes) / 1e9)


def plots(tables: Sequence[GrownTable]) -> list[Plot]:
    """Rates and times over the rows."""
    rates: dict[str, list[tuple[str | float, float]]] = {
        f"batches of {size}": [(table.rows, median(table.rates[size])) for table in tables]
        for size in BATCHES
    }
    times: dict[str, list[tuple[str | float, float]]] = {
        name: [(table.rows, percentile(table.timeline_ms, percent)) for table in tables]
        for name, percent in (("median", 50), ("p99", 99))
    }
    x_label = "rows in the table"
    return [
        Plot("Insert rate of a growing table", x_label, "rows/s", rates, kind="lines", is_log_x=True),
        Plot("Reading one run of a growing table", x_label, "ms", times, kind="lines", is_log_x=True),
    ]


def measure(options: argparse.Namespace) -> Figures:
    """Fill the tables and measure them."""
    if options.quick:
        options.rows, options.rounds = 100_000, 2
    sizes = [max(options.rows // share, 10_000) for share in (100, 10, 1)]
    with running_postgres() as server:
        tables = asyncio.run(measure_tables(server, sorted(set(sizes)), options.rounds))
    first, last = tables[0], tables[-1]
    columns = (
        *("rows", *(f"rows/s, batches of {size}" for size in BATCHES)),
        *("timeline p50, ms", "p99, ms", "bytes/row, table", "indexes", "ledger", "GB"),
    )
    note = f"In brackets: against {first.rows:,} rows in the same round. A timeline: {CALLS_PER_RUN} entries."
    return Figures(
        tables=[Table("A growing table", columns, [describe(table, first) for table in tables], note)],
        plots=plots(tables),
        targets=[
            Target(
                f"rows/s at {last.rows:,} rows against {first.rows:,}, batches of {size}",
                kept_rate(last, first, size),
                0.8,
                "x",
                is_least=True,
            )
            for size in BATCHES
        ],
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7)


if __name__ == "__main__":
    main(__doc__, measure, add_options)
