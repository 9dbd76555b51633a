"""What the ledger of the stored batches tells, and what it costs to ask when there are 25 million of them.

    python benchmarks/ledger.py [--batches 25000000] [--processes 10]

A ledger of the last 60 days of some processes, as an earlier version has left it: a row a batch, and no
index. `db upgrade` makes the indexes, the jobs merge the batches; then everything is asked that is asked of
a ledger. 25 million batches take 12 GB of disk. PostgreSQL has its default settings, but
does not wait for the disk.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from execution_logger.errors import StoreUnavailableError
from execution_logger.read.audit import audit
from execution_logger.read.overview import read_overview
from execution_logger.settings import Settings
from execution_logger.store import create_engine, upgrade
from execution_logger.store.compaction import AT_REST_AFTER, compact
from execution_logger.store.deletion import Expiry
from figures import Figures, Table, Target, main, number, progress
from servers import PostgresServer
from system import System, running_postgres
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

_TIMEOUT_SECONDS = 900.0
_PAUSE_SECONDS = 0.05

_CHUNK = 1_000_000
_TIMES = 20
_LONG_SECONDS = 2.0
"""Who took so long in all is not asked again."""
_MOST_MS = 50.0
_ASK_SECONDS = 30
_PASSES = 2  # the second merges what the chunks of the first have left side by side

_DROP = (
    "DROP INDEX IF EXISTS ix_execution_log_batches_place",
    "DROP INDEX IF EXISTS ix_execution_log_batches_stored_at",
)
_FILL = """
    INSERT INTO execution_log_batches
        (batch_id, process, first, entries, dead_lettered, deliveries, oldest_at, newest_at, stored_at)
    SELECT lpad(to_hex(n), 12, '0') || '-7000-8000-000000000000', 'host-' || n % $3, 1 + 50 * (n / $3),
        50, 0, 1,
        at - interval '2 seconds', at - interval '100 milliseconds', at
    FROM generate_series($1::bigint, $2::bigint) AS n,
    LATERAL (SELECT now() - interval '60 days' * (1 - n / $4::float8) AS at) AS moment
"""

_INDEXES = (
    "CREATE INDEX ix_execution_log_batches_place ON execution_log_batches (process, first)",
    "CREATE INDEX ix_execution_log_batches_stored_at ON execution_log_batches (stored_at)",
)
_NOTED = 500
_NOTE = f"""
    EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) INSERT INTO execution_log_batches AS known
        (batch_id, process, first, entries, dead_lettered, oldest_at, newest_at)
    SELECT CAST(gen_random_uuid() AS text), 'host-' || n % 10, 1 + 50 * (n / 10), 50, 0, now(), now()
    FROM generate_series(1, {_NOTED}) AS n
    ON CONFLICT (batch_id) DO UPDATE SET deliveries = known.deliveries + 1
"""  # noqa: S608 - no words of others
_ROUNDS = 200
_WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'"


@dataclass(frozen=True)
class StoredBatch:
    """A batch that a worker has stored."""

    first: int
    """The number of its first entry among those of its process."""
    stored_at: float
    """In seconds since 1970."""
    latency_seconds: float
    """Since the call of its oldest entry."""


def count_entries(system: System) -> int:
    """How many entries the stored batches have."""
    (row,) = system.postgres.execute("SELECT coalesce(sum(entries), 0) FROM execution_log_batches")
    return int(row[0])


def wait_for_ledger(system: System, expected: int) -> None:
    """Wait for so many entries, and then count the rows, which must be as many."""
    wait_until(lambda: count_entries(system) >= expected, _TIMEOUT_SECONDS, pause_seconds=_PAUSE_SECONDS)
    system.wait_for_rows(expected)


def stored_batches(system: System, since: float = 0.0) -> list[StoredBatch]:
    """Those that were stored since then (seconds since 1970), in their order."""
    rows = system.postgres.execute(
        "SELECT first, extract(epoch FROM stored_at)::float8,"
        " extract(epoch FROM stored_at - oldest_at)::float8"
        " FROM execution_log_batches WHERE stored_at > to_timestamp($1) ORDER BY stored_at",
        since,
    )
    return [StoredBatch(*row) for row in rows]


async def measure_size(
    engine: "AsyncEngine", settings: Settings, postgres: PostgresServer, label: str
) -> list[str]:
    """How long each question takes, in ms, the best of up to 20 times."""
    now = datetime.now(UTC)

    async def retention() -> None:
        async for _ in Expiry(
            engine, settings, now - timedelta(days=90), timeout_seconds=_ASK_SECONDS
        ).ledger():
            pass

    async def health() -> None:
        since = now - timedelta(days=2)
        async for _ in compact(engine, settings, now - AT_REST_AFTER, since, timeout_seconds=_ASK_SECONDS):
            break  # what there is time for; the next check goes on

    questions: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: read_overview(engine, settings, {}),
        health,
        lambda: audit(engine, settings),
        lambda: audit(engine, settings, since=now - timedelta(hours=1)),
        retention,
    )
    (row,) = postgres.execute(
        "SELECT count(*), pg_total_relation_size('execution_log_batches') FROM execution_log_batches"
    )
    cells = [label, f"{row[0]:,}", number(row[1] / 1e6)]
    for question in questions:
        times: list[float] = []
        while len(times) < _TIMES and sum(times) < _LONG_SECONDS * 1e3:
            began = time.perf_counter()
            try:
                await question()
            except StoreUnavailableError:
                break
            times.append((time.perf_counter() - began) * 1e3)
        cells.append(number(min(times)) if times else f"> {_ASK_SECONDS * 1000:,}")
        progress(f"{label}: {cells}")
    return cells


def measure_indexes(postgres: PostgresServer) -> Table:
    """What a batch's row costs with both indexes, with one, and without."""
    rows = []
    for indexes in (_INDEXES, _INDEXES[:1], ()):
        for statement in ("TRUNCATE execution_log_batches", *_DROP, *indexes):
            postgres.execute(statement)
        (before,) = postgres.execute(_WAL)
        times = []
        for _ in range(_ROUNDS):
            (plan,) = postgres.execute(_NOTE)
            times.append(json.loads(plan[0])[0]["Execution Time"] * 1e3 / _NOTED)
        (after,) = postgres.execute(_WAL)
        wal_bytes = float(after[0] - before[0]) / _NOTED / _ROUNDS
        label = f"the primary key and {len(indexes)} indexes"
        rows.append([label, f"{min(times):.1f}", f"{wal_bytes:,.0f}"])
        progress(f"{rows[-1]}")
    for statement in ("TRUNCATE execution_log_batches", *_DROP, *_INDEXES):
        postgres.execute(statement)
    note = f"The best of {_ROUNDS} rounds of {_NOTED:,} rows, which the server inserts by itself."
    columns = ("indexes of the ledger", "µs a row", "bytes of WAL a row")
    return Table("What the ledger's indexes cost a batch", columns, rows, note)


def fill(postgres: PostgresServer, batches: int, processes: int) -> None:
    """Make the ledger."""
    for statement in ("ALTER TABLE execution_log_batches SET UNLOGGED", *_DROP):
        postgres.execute(statement)
    for first in range(0, batches, _CHUNK):
        postgres.execute(_FILL, first, min(first + _CHUNK, batches) - 1, processes, float(batches))
        progress(f"{first + _CHUNK:,} of {batches:,} batches are filled in")
    postgres.execute("VACUUM ANALYZE execution_log_batches")


async def measure_all(postgres: PostgresServer, options: argparse.Namespace) -> Figures:
    """Before and after."""
    settings = Settings(
        database_url=postgres.url(),
        database_timeout_seconds=_ASK_SECONDS,
        visibility_timeout_seconds=2 * _ASK_SECONDS,
    )
    engine = create_engine(settings, pool_size=1)
    try:
        costs = await asyncio.to_thread(measure_indexes, postgres)
        await asyncio.to_thread(fill, postgres, options.batches, options.processes)
        rows = [await measure_size(engine, settings, postgres, "as it was")]
        began = time.perf_counter()
        await upgrade(engine, settings)
        upgrade_seconds = time.perf_counter() - began
        rows.append(await measure_size(engine, settings, postgres, "with indexes"))
        began = time.perf_counter()
        for _ in range(_PASSES):
            until = datetime.now(UTC) - AT_REST_AFTER
            async for at in compact(engine, settings, until, timeout_seconds=_ASK_SECONDS):
                progress(f"merged up to {at}")
        compact_seconds = time.perf_counter() - began
        rows.append(await measure_size(engine, settings, postgres, "merged"))
        await asyncio.to_thread(postgres.execute, "VACUUM ANALYZE execution_log_batches")
        rows.append(await measure_size(engine, settings, postgres, "merged, after the autovacuum"))
    finally:
        await engine.dispose()
    columns = ("ledger", "rows", "MB", "status", "health", "audit", "audit --since 1h", "retention")
    note = (
        f"ms, the best of up to {_TIMES}. The indexes took {upgrade_seconds:,.0f} s, "
        f"while it can be written; merging took {compact_seconds:,.0f} s: "
        f"{options.batches / compact_seconds:,.0f} rows/s."
    )
    worst = max(float(cell.replace(",", "")) for cell in rows[-1][3:])
    return Figures(
        tables=[Table(f"A ledger of {options.batches:,} batches", columns, rows, note), costs],
        targets=[Target("the slowest question to the ledger, merged", worst, _MOST_MS, "ms")],
    )


def measure(options: argparse.Namespace) -> Figures:
    """With a server of its own."""
    with running_postgres() as postgres:
        return asyncio.run(measure_all(postgres, options))


def add_options(parser: argparse.ArgumentParser) -> None:
    """How large the ledger is."""
    parser.add_argument("--batches", type=int, default=25_000_000, help="how many batches were stored")
    parser.add_argument("--processes", type=int, default=10, help="by how many processes")


if __name__ == "__main__":
    main(__doc__, measure, add_options)
