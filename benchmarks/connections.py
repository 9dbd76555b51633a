"""A host under load: which database connections its log takes, and what its requests notice of it.

    python benchmarks/connections.py [--tasks 1000] [--calls 10] [--pool 10] [--rounds 3]

Tasks that run at the same time log a record after each of their steps. Next to them the host answers
requests of its own: a `SELECT 1` every few milliseconds over its pool of connections. Three hosts, in
rounds that alternate:

- one that logs nothing,
- one that makes an INSERT for each record over that pool, as hosts do that have no logger,
- one with this library: a real Celery worker writes the rows, by way of a real Redis.

Everybody's connections bear a name, and PostgreSQL is asked every 10 ms how many of each there are.
The rows are counted. Host, worker and servers share the machine.
"""

import argparse
import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from uuid_utils import uuid7

from execution_logger import Settings
from figures import Figures, Table, Target, main, number, percentile, progress
from system import System, running_system

NOTHING = "a host that logs nothing"
INSERTS = "an INSERT for each record"
OURS = "execution_logger"

HOST, LOGGER, WORKER = "host", "logger", "worker"
"""The names of connections: of the host's pool, of the library in the host, of the worker."""

INSERT = text("""
    INSERT INTO execution_logs (id, task_id, level, category, message, agent_name, duration_ms, created_at)
    VALUES (:id, :task_id, 'info', 'agent', :message, 'intent_analysis', 1500, :created_at)
""")
COUNT = "SELECT application_name, count(*) FROM pg_stat_activity GROUP BY application_name"

Log = Callable[[str, str], Awaitable[object]]
"""Records one message of a run."""


@dataclass
class Round:
    """What a host saw, and PostgreSQL of it."""

    call_us: float
    requests_ms: list[float]
    most_in_use: int
    connections: Counter[str]
    rows_per_second: float


class Census:
    """Counts connections in a thread of its own; `most` is the most of each name that were there at once."""

    def __init__(self, url: str) -> None:
        self.most: Counter[str] = Counter()
        self._url = url
        self._is_over = threading.Event()

    @contextmanager
    def taken(self) -> Iterator["Census"]:
        """Count from now until the end of the block."""
        thread = threading.Thread(target=asyncio.run, args=(self._count(),))
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join()

    async def _count(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            while not self._is_over.wait(0.01):
                for name, count in await connection.fetch(COUNT):
                    self.most[name] = max(self.most[name], count)
        finally:
            await connection.close()


async def drive(log: Log, engine: AsyncEngine, tasks: int, calls: int) -> tuple[float, list[float], int]:
    """The mean microseconds of a call, the milliseconds of each request, and the most connections in use."""
    requests: list[float] = []
    most_in_use = 0
    seconds_in_calls = 0.0

    async def answer_requests() -> None:
        nonlocal most_in_use
        while True:
            began = time.perf_counter()
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
                most_in_use = max(most_in_use, engine.pool.checkedout())  # type: ignore[attr-defined]
            requests.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.005)

    async def run(number: int) -> None:
        nonlocal seconds_in_calls
        for step in range(calls):
            began = time.perf_counter()
            await log(f"run-{number}", f"step {step} finished")
            seconds_in_calls += time.perf_counter() - began
            await asyncio.sleep(0.1)  # a workflow does something between its records

    answering = asyncio.create_task(answer_requests())
    await asyncio.gather(*(run(number) for number in range(tasks)))
    answering.cancel()
    return seconds_in_calls / tasks / calls * 1e6, requests, most_in_use


def named(url: str, name: str) -> str:
    """The URL of connections that bear this name."""
    return f"{url}?application_name={name}"


@asynccontextmanager
async def log_nothing(system: System, engine: AsyncEngine) -> AsyncIterator[Log]:  # noqa: ARG001
    """Wait as long as the others would if their calls took no time."""

    async def log(task_id: str, message: str) -> None: ...

    yield log


@asynccontextmanager
async def insert(system: System, engine: AsyncEngine) -> AsyncIterator[Log]:  # noqa: ARG001
    """A transaction for each record."""

    async def log(task_id: str, message: str) -> None:
        values = {"id": str(uuid7()), "task_id": task_id, "message": message, "created_at": datetime.now(UTC)}
        async with engine.begin() as connection:
            await connection.execute(INSERT, values)

    yield log


@asynccontextmanager
async def ours(system: System, engine: AsyncEngine) -> AsyncIterator[Log]:  # noqa: ARG001
    """The library, which knows the database's URL as well."""
    logger = system.logger(database_url=named(system.postgres.url(), LOGGER))

    async def log(task_id: str, message: str) -> None:
        await logger.log_agent_complete(task_id, "intent_analysis", message, 1500)

    yield log
    await logger.shutdown()


HOSTS: dict[str, Callable[[System, AsyncEngine], AbstractAsyncContextManager[Log]]] = {
    NOTHING: log_nothing,
    INSERTS: insert,
    OURS: ours,
}


async def run(system: System, name: str, tasks: int, calls: int, pool: int) -> Round:
    """Drive a host, and wait until every row is stored."""
    await asyncio.to_thread(system.clear)
    url = system.postgres.url().replace("postgresql://", "postgresql+asyncpg://")
    settings = {"server_settings": {"application_name": HOST}}
    engine = create_async_engine(url, pool_size=pool, max_overflow=0, connect_args=settings)
    census = Census(named(system.postgres.url(), "census"))
    expected = 0 if name == NOTHING else tasks * calls
    try:
        with census.taken():
            async with HOSTS[name](system, engine) as log:
                began = time.perf_counter()
                call_us, requests, most_in_use = await drive(log, engine, tasks, calls)
                await asyncio.to_thread(system.wait_for_rows, expected)
                seconds = time.perf_counter() - began
    finally:
        await engine.dispose()
    return Round(call_us, requests, most_in_use, census.most, expected / seconds)


async def compare(system: System, rounds: int, tasks: int, calls: int, pool: int) -> dict[str, list[Round]]:
    """Rounds of each host; the first one of ours, which imports Celery and connects, does not count."""
    await run(system, OURS, 10, 10, pool)
    found: defaultdict[str, list[Round]] = defaultdict(list)
    for turn in range(rounds):
        for name in HOSTS:
            progress(f"round {turn + 1}/{rounds}: {name}")
            found[name].append(await run(system, name, tasks, calls, pool))
    return found


def most(rounds: list[Round], name: str) -> int:
    """The most connections of this name that were there at once, in any round."""
    return max(each.connections[name] for each in rounds)


def table(found: dict[str, list[Round]], tasks: int, calls: int, pool: int) -> Table:
    """A row for each host."""
    rows = []
    for name, rounds in found.items():
        is_silent = name == NOTHING
        rows.append((
            name,
            "" if is_silent else number(median(each.call_us for each in rounds)),
            *(number(median(percentile(each.requests_ms, p) for each in rounds)) for p in (50, 95)),
            f"{max(each.most_in_use for each in rounds)}",
            f"{most(rounds, LOGGER)}",
            f"{most(rounds, WORKER)}",
            "" if is_silent else number(median(each.rows_per_second for each in rounds)),
        ))  # fmt: skip
    columns = (
        "host", "µs a call", "request p50, ms", "p95", "its connections in use", "opened by the library",
        "by the worker", "rows/s",
    )  # fmt: skip
    return Table(
        f"{tasks:,} tasks at once, {calls} records each, a pool of {pool} connections", columns, rows
    )


def measure(options: argparse.Namespace) -> Figures:
    """Compare the hosts."""
    rounds, tasks, calls = options.rounds, options.tasks, options.calls
    if options.quick:
        rounds, tasks, calls = 1, 200, 5
    with running_system() as system:
        system.start_worker(DATABASE_URL=named(system.postgres.url(), WORKER))
        found = asyncio.run(compare(system, rounds, tasks, calls, options.pool))
    own = found[OURS]
    if not most(own, WORKER):
        raise RuntimeError("no connection of the worker was seen: they do not bear its name")
    targets = [
        Target("database connections that the library opens in the host", most(own, LOGGER), 0),
        Target("database connections of the worker", most(own, WORKER), Settings().worker_concurrency),
    ]
    return Figures([table(found, tasks, calls, options.pool)], targets=targets)


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--pool", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    main(__doc__, measure, add_options)
