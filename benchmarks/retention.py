"""Whether inserts wait while the retention deletes: a fifth of a large table, at 1,000 inserts a second.

    python benchmarks/retention.py [--rows 5000000] [--rate 1000]

A table of `--rows` rows, of which the oldest fifth is older than 90 days. A `Writer`, as the worker has it,
stores batches of 50 entries at `--rate` entries a second: for some time alone, and then while a real worker
runs the real job, which was sent to it as Celery Beat would. An insert's time is taken from the moment at
which it was due, so that a batch that waits for the one before it counts as waiting. Every row is counted.

Five million rows take about two minutes and 4 GB of disk. PostgreSQL has its default settings, but does not
wait for the disk.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from itertools import count

from celery import Celery

from entries import PROCESS, make_batches
from execution_logger.store import Writer, create_engine
from execution_logger.worker import create_app
from execution_logger.worker.schedule import RETENTION
from figures import Figures, Table, Target, main, number, percentile, progress
from system import System, running_system
from table_growth import CHUNK, FILL_ENTRIES, MOMENTS

BATCH = 50
OLD_SHARE = 5
MOST_WAIT_MS = 200.0
WARM_UP_SECONDS = 1.0

AGED = """
    generate_series($1::integer, $2::integer, $3::integer) AS n,
    LATERAL (
        SELECT n * interval '10 milliseconds' + now()
            - CASE WHEN n <= $4::integer THEN interval '100 days' ELSE interval '60 days' END AS at
    ) AS moment
"""
FILL = FILL_ENTRIES.replace(MOMENTS, AGED)

COUNT_OLD = "SELECT count(*) FROM execution_logs WHERE created_at < now() - interval '90 days'"
READ_JOB = """
    SELECT outcome, error, CAST(summary AS text), slices, coalesce(slices >= $2 AND held_until < now(), false)
    FROM execution_log_job_runs WHERE name = $1
"""


@dataclass
class Inserts:
    """Batches that are stored at a steady rate, and how long each took from when it was due."""

    entries_per_second: float
    milliseconds: list[float] = field(default_factory=list)
    entries: int = 0

    async def go_on(self, writer: Writer, first: int, stop: asyncio.Event) -> int:
        """Store batch by batch, each when it is due, until `stop`; return the number of the next entry."""
        pause = BATCH / self.entries_per_second
        began = time.perf_counter()
        for turn in count():
            (batch,) = make_batches(BATCH, BATCH, first=first + self.entries)
            due_at = began + turn * pause
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            if stop.is_set():
                break
            result = await writer.write(batch.id, batch.entries, process=PROCESS, first=batch.first)
            self.milliseconds.append((time.perf_counter() - due_at) * 1e3)
            self.entries += result.stored
        return first + self.entries


def fill(system: System, rows: int) -> int:
    """Fill the table; return how many rows are too old."""
    old = rows // OLD_SHARE
    for first in range(1, rows + 1, CHUNK):
        last = min(first + CHUNK - 1, rows)
        system.postgres.execute(FILL, first, last, 1, old)
        progress(f"{last:,} of {rows:,} rows are filled in")
    for statement in ("VACUUM ANALYZE execution_logs", "CHECKPOINT"):
        system.postgres.execute(statement)
    return old


async def do_job(system: System, app: Celery, stop: asyncio.Event) -> tuple[float, int, int]:
    """Seconds, rows and messages that the job took; the next one is sent when one has left something."""
    sent = 0
    began = time.perf_counter()
    try:
        while True:
            rows = await asyncio.to_thread(system.postgres.execute, READ_JOB, RETENTION.name, sent)
            ((outcome, error, summary, ticks, is_over),) = rows
            if outcome is not None and sent:
                break
            if is_over or not sent:
                await asyncio.to_thread(app.send_task, RETENTION.task, queue="logs")
                sent += 1
            await asyncio.sleep(0.25)
    finally:
        stop.set()
    if error is not None:
        raise RuntimeError(f"the job failed: {error}")
    return time.perf_counter() - began, json.loads(summary)["entries"], ticks


async def measure_inserts(
    system: System, app: Celery, options: argparse.Namespace
) -> tuple[Inserts, Inserts, tuple[float, int, int]]:
    """Inserts without and with the job, and what the job took."""
    engine = create_engine(system.settings(), pool_size=1)
    writer = Writer(engine, system.settings())
    first_ones, alone, beside = (Inserts(options.rate) for _ in range(3))
    try:
        stop = asyncio.Event()
        first = 1
        for inserts, seconds in ((first_ones, WARM_UP_SECONDS), (alone, options.seconds)):
            asyncio.get_running_loop().call_later(seconds, stop.set)
            first = await inserts.go_on(writer, first, stop)
            stop.clear()
        progress("the job is sent")
        inserting = asyncio.create_task(beside.go_on(writer, first, stop))
        took = await do_job(system, app, stop)
        await inserting
    finally:
        await engine.dispose()
    if first_ones.entries + alone.entries + beside.entries != system.count_rows() - options.rows + took[1]:
        raise RuntimeError("some of the inserted entries are no rows")
    return alone, beside, took


def check(system: System, old: int, deleted: int) -> None:
    """See that all of the old rows are gone."""
    ((left,),) = system.postgres.execute(COUNT_OLD)
    if (left, deleted) != (0, old):
        raise RuntimeError(f"{deleted} rows of {old} were deleted, {left} are left")


def describe(name: str, inserts: Inserts) -> tuple[str, ...]:
    """A line of the table."""
    times = inserts.milliseconds
    cells = (number(value) for value in (*(percentile(times, p) for p in (50, 99, 99.9)), max(times)))
    return name, f"{len(times):,}", f"{inserts.entries:,}", *cells


def measure(options: argparse.Namespace) -> Figures:
    """Fill, insert, delete, count."""
    if options.quick:
        options.rows, options.seconds = 100_000, 3.0
    with running_system(workers=1) as system:
        old = fill(system, options.rows)
        app = create_app(system.settings())
        try:
            alone, beside, (seconds, deleted, slices) = asyncio.run(measure_inserts(system, app, options))
        finally:
            app.close()
        check(system, old, deleted)
    note = (
        f"{deleted:,} of {options.rows:,} rows were deleted in {number(seconds)} s, "
        f"{number(deleted / seconds)} a second, by {slices} messages. Times are from the moment at which a "
        f"batch of {BATCH} was due to its commit."
    )
    lines = [describe("inserts alone", alone), describe("while the retention deletes", beside)]
    columns = ("", "batches", "entries", "p50, ms", "p99, ms", "p99.9, ms", "worst, ms")
    return Figures(
        [Table(f"{options.rate:,.0f} inserts/s while old rows are deleted", columns, lines, note)],
        targets=[
            Target(
                f"longest wait of an insert while {deleted:,} of {options.rows:,} rows are deleted",
                max(beside.milliseconds),
                MOST_WAIT_MS,
                "ms",
            )
        ],
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rate", type=float, default=1_000.0, metavar="ENTRIES", help="per second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of inserts alone")


if __name__ == "__main__":
    main(__doc__, measure, add_options)
