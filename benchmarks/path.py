"""A host under load: an INSERT for each record, as hosts do today, against this library's whole path.

    python benchmarks/path.py [--runs 100] [--calls 100] [--pool 10]

`--runs` workflows log `--calls` records each at the same time, and next to them the host answers
requests of its own: a `SELECT 1` every few milliseconds, over the same pool of connections. With
the library a real Celery worker writes the rows by way of a real Redis, on the same machine. Every
row is counted. The servers are the benchmark's own; PostgreSQL does not wait for the disk.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from uuid_utils import uuid7

from execution_logger import ExecutionLogger, Settings

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from rows import count_rows, upgrade_database
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import WorkerProcess

INSERT = text("""
    INSERT INTO execution_logs (id, task_id, level, category, message, agent_name, duration_ms, created_at)
    VALUES (:id, :task_id, 'info', 'agent', :message, 'intent_analysis', 1500, :created_at)
""")

Log = Callable[[str, str], Awaitable[object]]
"""Records one message of a run."""


@dataclass
class Outcome:
    """What a host saw."""

    call_us: float
    request_p50_ms: float
    request_p95_ms: float
    most_connections: int
    rows_per_second: float


async def drive(log: Log, engine: AsyncEngine, runs: int, calls: int) -> tuple[float, list[float], int]:
    """The mean seconds of a call, the seconds of each request, and the most connections in use."""
    requests: list[float] = []
    most_connections = 0
    seconds_in_calls = 0.0

    async def answer_requests() -> None:
        nonlocal most_connections
        while True:
            began = time.perf_counter()
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
                most_connections = max(most_connections, engine.pool.checkedout())  # type: ignore[attr-defined]
            requests.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)

    async def run(number: int) -> None:
        nonlocal seconds_in_calls
        for step in range(calls):
            began = time.perf_counter()
            await log(f"run-{number}", f"step {step} finished")
            seconds_in_calls += time.perf_counter() - began
            await asyncio.sleep(0.001)  # a workflow does something between its records

    answering = asyncio.create_task(answer_requests())
    await asyncio.gather(*(run(number) for number in range(runs)))
    answering.cancel()
    return seconds_in_calls / runs / calls, requests, most_connections


async def measure(log: Log, engine: AsyncEngine, database_url: str, options: argparse.Namespace) -> Outcome:
    """Drive the host and wait until every row is stored."""
    expected, began = count_rows(database_url) + options.runs * options.calls, time.perf_counter()
    seconds_per_call, requests, most_connections = await drive(log, engine, options.runs, options.calls)
    await asyncio.to_thread(wait_until, lambda: count_rows(database_url) == expected, 120)
    return Outcome(
        call_us=seconds_per_call * 1e6,
        request_p50_ms=statistics.median(requests) * 1e3,
        request_p95_ms=statistics.quantiles(requests, n=20)[-1] * 1e3,
        most_connections=most_connections,
        rows_per_second=options.runs * options.calls / (time.perf_counter() - began),
    )


async def compare(database_url: str, broker_url: str, options: argparse.Namespace) -> dict[str, Outcome]:
    """Both hosts, one after the other, each with a pool of its own."""

    async def insert(task_id: str, message: str) -> None:
        values = {"id": str(uuid7()), "task_id": task_id, "message": message, "created_at": datetime.now(UTC)}
        async with engine.begin() as connection:
            await connection.execute(INSERT, values)

    logger = ExecutionLogger(Settings(broker_url=broker_url, journal_directory=options.journal_directory))

    async def log(task_id: str, message: str) -> None:
        await logger.log_agent_complete(task_id, "intent_analysis", message, 1500)

    outcomes = {}
    for name, kind in {"an INSERT for each record": insert, "execution_logger": log}.items():
        url = database_url.replace("://", "+asyncpg://")
        engine = create_async_engine(url, pool_size=options.pool, max_overflow=0)
        try:
            outcomes[name] = await measure(kind, engine, database_url, options)
        finally:
            await engine.dispose()
    await logger.shutdown()
    return outcomes


def main() -> None:
    """Start the servers and the worker, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--pool", type=int, default=10)
    options = parser.parse_args()
    folder = TemporaryDirectory()
    options.journal_directory = folder.name
    # The worker's helper prints the worker's output when it ends.
    with folder, redirect_stdout(sys.stderr), PostgresServer() as postgres, RedisServer() as redis:
        upgrade_database(postgres.url())
        environment = {"CELERY_BROKER_URL": redis.url(), "DATABASE_URL": postgres.url()}
        with WorkerProcess(environment=environment) as worker:
            outcomes = asyncio.run(compare(postgres.url(), redis.url(), options))
            worker.stop()
    print(f"{options.runs} runs of {options.calls} records, a pool of {options.pool} connections")
    print(f"{'':28}{'µs/call':>10}{'request p50':>14}{'p95':>10}{'connections':>13}{'rows/s':>9}")
    for name, each in outcomes.items():
        requests = f"{each.request_p50_ms:11.1f} ms{each.request_p95_ms:7.1f} ms"
        print(
            f"{name:28}{each.call_us:10.1f}{requests}{each.most_connections:13}{each.rows_per_second:9,.0f}"
        )


if __name__ == "__main__":
    main()
