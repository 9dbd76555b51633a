"""How many rows a second the writer stores, and what indexes cost, on a PostgreSQL of its own.

    python benchmarks/store.py [--rows 50000] [--rounds 5]

One writer on one connection, batch after batch, into an empty table. Rounds alternate between the
sets of indexes, so that a machine that becomes slower meanwhile slows all of them; the table shows
medians of rounds, and ratios to the library's own indexes. The server does not wait for the disk.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
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
BATCH_SIZES = (50, 500)
OWN = ("task_id, created_at, id", "created_at")
INDEXES = {
    "primary key only": (),
    "the library's two": OWN,
    "eleven, as hosts often have": (
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
    engine: AsyncEngine, settings: Settings, indexes: tuple[str, ...], batches: list[str]
) -> float:
    """Seconds to write the batches into an empty table with these indexes."""
    async with engine.begin() as connection:
        await connection.execute(text(f"TRUNCATE {TABLE}"))
        found = await connection.execute(
            text("SELECT indexname FROM pg_indexes WHERE tablename = :table AND indexname NOT LIKE '%pkey'"),
            {"table": TABLE},
        )
        for name in found.scalars().all():
            await connection.execute(text(f"DROP INDEX {name}"))
        for columns in indexes:
            await connection.execute(text(f"CREATE INDEX ON {TABLE} ({columns})"))
    writer = Writer(engine, settings)
    began = time.perf_counter()
    for batch in batches:
        await writer.write("batch", batch)
    return time.perf_counter() - began


async def run(url: str, rows: int, rounds: int) -> None:
    """Measure all sets in turn, and print the table."""
    settings = Settings(database_url=url)
    engine = create_engine(settings, pool_size=1)
    await upgrade(engine, settings)
    rates: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for size in BATCH_SIZES:
            batches = make_batches(rows, size)
            for name, indexes in INDEXES.items():
                rates[name, size].append(rows / await measure(engine, settings, indexes, batches))
    await engine.dispose()
    print(f"{'indexes':30}" + "".join(f"{f'batches of {size}':>28}" for size in BATCH_SIZES))
    for name in INDEXES:
        cells = []
        for size in BATCH_SIZES:
            rate = statistics.median(rates[name, size])
            ratio = rate / statistics.median(rates["the library's two", size])
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
