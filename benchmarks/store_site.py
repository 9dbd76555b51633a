"""A database that is measured: what it takes to store batches there, one way or another."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import mean, median

import psutil
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from entries import make_batches
from execution_logger import Settings
from execution_logger.store import create_engine, upgrade
from figures import Plot, Table, number
from store_peers import TABLE, Way

LEDGER = "execution_log_batches"

COUNT_ROWS = f"SELECT count(*) FROM {TABLE}"  # noqa: S608 - all of it is from here
FIND_INDEXES = f"""
    SELECT indexname FROM pg_indexes WHERE tablename = '{TABLE}' AND indexname NOT LIKE '%pkey'
"""  # noqa: S608
FIND_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"


@dataclass(frozen=True)
class Round:
    """What it took to store some batches."""

    rows: int
    batches: int
    seconds: float
    own_cpu_seconds: float
    server_cpu_seconds: float

    @property
    def rows_per_second(self) -> float:
        """The figure of most tables."""
        return self.rows / self.seconds


@dataclass
class Site:
    """A database with the library's tables, and what was measured there by name and size of the batches."""

    engine: AsyncEngine
    settings: Settings
    rounds: dict[tuple[str, int], list[Round]] = field(default_factory=dict)

    async def measure(self, name: str, way: Way, rows: int, size: int) -> None:
        """Store batches in the empty tables."""
        batches = [way.prepare(batch) for batch in make_batches(rows, size)]
        await self._clear()
        server_cpu = await self._server_cpu_seconds()
        began, own_cpu = time.perf_counter(), time.process_time()
        for batch in batches:
            await way.store(batch)
        seconds, own_cpu = time.perf_counter() - began, time.process_time() - own_cpu
        server_cpu = await self._server_cpu_seconds() - server_cpu
        async with self.engine.connect() as connection:
            found = (await connection.execute(text(COUNT_ROWS))).scalar_one()
        if found != rows:
            raise RuntimeError(f"{name}: {found} rows are stored instead of {rows}")
        took = Round(rows, len(batches), seconds, own_cpu, server_cpu)
        self.rounds.setdefault((name, size), []).append(took)

    def ratio(self, name: str, other: str, size: int) -> float:
        """How many times as fast as the other, in the same round."""
        pairs = zip(self.rounds[name, size], self.rounds[other, size], strict=True)
        return median(one.rows_per_second / another.rows_per_second for one, another in pairs)

    def rates(self, title: str, base: str, note: str = "") -> Table:
        """Rows a second, and the ratios to `base`."""
        names = dict.fromkeys(name for name, _ in self.rounds)
        sizes = list(dict.fromkeys(size for _, size in self.rounds))
        rows = [(name, *(self._rate(name, base, size) for size in sizes)) for name in names]
        return Table(title, ("", *(f"batches of {size:,}" for size in sizes)), rows, note)

    def costs(self, title: str, names: tuple[str, ...], size: int) -> Table:
        """Microseconds a batch; CPU times as means, because the system counts them in hundredths."""
        rows = []
        for name in names:
            rounds = self.rounds[name, size]
            per_batch = [
                median(each.seconds / each.batches for each in rounds),
                mean(each.own_cpu_seconds / each.batches for each in rounds),
                mean(each.server_cpu_seconds / each.batches for each in rounds),
            ]
            rows.append((name, *(number(seconds * 1e6) for seconds in per_batch)))
        return Table(title, ("µs a batch", "elapsed", "CPU, this process", "CPU, PostgreSQL"), rows)

    def plot(self, title: str) -> Plot:
        """The rates over the size of the batches."""
        series: dict[str, list[tuple[str | float, float]]] = {}
        for (name, size), rounds in self.rounds.items():
            series.setdefault(name, []).append((size, median(each.rows_per_second for each in rounds)))
        return Plot(title, "entries in a batch", "rows/s", series, kind="lines", is_log_x=True, is_log_y=True)

    async def set_indexes(self, indexes: tuple[str, ...]) -> None:
        """Replace the indexes of the table, but for the primary key."""
        async with self.engine.connect() as connection:
            for name in (await connection.execute(text(FIND_INDEXES))).scalars().all():
                await connection.execute(text(f"DROP INDEX {name}"))
            for columns in indexes:
                await connection.execute(text(f"CREATE INDEX ON {TABLE} ({columns})"))

    async def drop_columns(self, *names: str) -> None:
        """Have a table without these."""
        async with self.engine.connect() as connection:
            for name in names:
                await connection.execute(text(f"ALTER TABLE {TABLE} DROP COLUMN {name}"))

    def _rate(self, name: str, base: str, size: int) -> str:
        rate = median(each.rows_per_second for each in self.rounds[name, size])
        return f"{number(rate)} ({self.ratio(name, base, size):.2f}x)"

    async def _clear(self) -> None:
        verb = "TRUNCATE" if self._is_postgresql else "DELETE FROM"
        async with self.engine.connect() as connection:
            for table in (TABLE, LEDGER):
                await connection.execute(text(f"{verb} {table}"))

    async def _server_cpu_seconds(self) -> float:
        if not self._is_postgresql:
            return 0.0
        async with self.engine.connect() as connection:
            sessions = (await connection.execute(text(FIND_SESSIONS))).scalars().all()
        return sum(_cpu_seconds(pid) for pid in sessions)

    @property
    def _is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"


@asynccontextmanager
async def open_site(url: str) -> AsyncIterator[Site]:
    """The database at `url`, with the library's tables and an engine of one connection."""
    settings = Settings(database_url=url)
    engine = create_engine(settings, pool_size=1)
    try:
        await upgrade(engine, settings)
        yield Site(engine, settings)
    finally:
        await engine.dispose()


def _cpu_seconds(pid: int) -> float:
    """Zero for a server in a container: its process ids are its own."""
    try:
        process = psutil.Process(pid)
        return sum(process.cpu_times()[:2]) if process.name() == "postgres" else 0.0
    except psutil.NoSuchProcess:
        return 0.0
