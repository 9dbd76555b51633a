"""How many rows a second the writer stores, and what ledger and indexes cost, on a PostgreSQL of its own.

    python benchmarks/store.py [--rows 50000] [--rounds 5]

One writer on one connection, batch after batch, into empty tables. Rounds alternate between the
kinds of tables, so that a machine that becomes slower meanwhile slows all of them; the output shows
medians of rounds, and medians of the ratios to the library's own tables in the same round. The
server does not wait for the disk.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils import uuid7

from execution_logger import LogEntry, Settings
from execution_logger.store import Writer, create_engine, upgrade

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from servers import PostgresServer

TABLE = "execution_logs"
LEDGER = "execution_log_batches"
BATCH_SIZES = (50, 500)


@dataclass(frozen=True)
class Kind:
    """The indexes of the entries' table, and whether batches are noted in the ledger."""

    indexes: tuple[str, ...]
    has_ledger: bool = True


OWN = "the library's own"
OWN_INDEXES = ("task_id, created_at, id", "created_at")
KINDS = {
    OWN: Kind(OWN_INDEXES),
    "without the ledger": Kind(OWN_INDEXES, has_ledger=False),
    "primary key only": Kind(()),
    "eleven indexes, as hosts have": Kind(
        (
            "task_id",
            "roadmap_id",
            "concept_id",
            "level",
            "category",
            "step",
            "agent_name",
            "created_at",
            "task_id, created_at",
            "task_id, level",
            "task_id, category",
        )
    ),
}


def make_batches(rows: int, size: int) -> list[str]:
    """Encoded entries of runs of 100 calls each, as a workflow makes them."""
    start = datetime.now(UTC)
    entries = [
        LogEntry(
            id=str(uuid7()),
            created_at=start + timedelta(microseconds=number),
            task_id=f"task-{number // 100}",
            level="info",
            category="agent",
            message=f"agent has finished step {number}",
            step="analysis",
            agent_name=f"agent-{number % 7}",
            roadmap_id=f"roadmap-{number // 1000}",
            details={"model": "m", "tokens": number, "prompt": "x" * 60},
            duration_ms=number % 5000,
        )
        for number in range(rows)
    ]
    encode = msgspec.json.Encoder().encode
    return [encode(entries[at : at + size]).decode() for at in range(0, rows, size)]


async def measure(
    engine: AsyncEngine, settings: Settings, kind: Kind, batches: list[str], size: int
) -> float:
    """Seconds to write the batches into empty tables of this kind."""
    async with engine.begin() as connection:
        await connection.execute(text(f"TRUNCATE {TABLE}, {LEDGER}"))
        found = await connection.execute(
            text("SELECT indexname FROM pg_indexes WHERE tablename = :table AND indexname NOT LIKE '%pkey'"),
            {"table": TABLE},
        )
        for name in found.scalars().all():
            await connection.execute(text(f"DROP INDEX {name}"))
        for columns in kind.indexes:
            await connection.execute(text(f"CREATE INDEX ON {TABLE} ({columns})"))
    writer = Writer(engine, settings)
    process = "host-1234-0193" if kind.has_ledger else None
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        await writer.write(f"batch-{number}", batch, process=process, first=1 + number * size)
    return time.perf_counter() - began


async def run(url: str, rows: int, rounds: int) -> None:
    """Measure all kinds in turn, and print the table."""
    settings = Settings(database_url=url)
    engine = create_engine(settings, pool_size=1)
    await upgrade(engine, settings)
    rates: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for size in BATCH_SIZES:
            batches = make_batches(rows, size)
            for name, kind in KINDS.items():
                seconds = await measure(engine, settings, kind, batches, size)
                rates[name, size].append(rows / seconds)
    await engine.dispose()
    print(f"{'tables':30}" + "".join(f"{f'batches of {size}':>28}" for size in BATCH_SIZES))
    for name in KINDS:
        cells = []
        for size in BATCH_SIZES:
            rate = statistics.median(rates[name, size])
            ratio = statistics.median(
                one / other for one, other in zip(rates[name, size], rates[OWN, size], strict=True)
            )
            cells.append(f"{rate:>16,.0f} rows/s {ratio:4.2f}")
        print(f"{name:30}" + "".join(f"{cell:>28}" for cell in cells))


def main() -> None:
    """Read the options, start the server, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with PostgresServer() as server:
        asyncio.run(run(server.url(), options.rows, options.rounds))


if __name__ == "__main__":
    main()
