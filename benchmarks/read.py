"""What reading costs: the API over ten million rows, live streams, and what both take from the writers.

    python benchmarks/read.py [--rows 10000000] [--requests 100] [--rounds 5]

PostgreSQL holds so many rows: runs of 1,000 entries, twenty of them under way at a time, and one of 100,000.
`execution-logger ui` serves them as an operator starts it, and is asked over HTTP by one client. Beside the
skeleton of a run stands what its whole rows cost. Then entries are written one by one while 1, 10 and 100
watch their run: the time from the commit to the event. At last a writer stores batches as fast as it can,
in turns with nobody who looks and with twenty. All share one machine.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from batches import batch, encoded
from execution_logger import Settings
from execution_logger.store import Writer, create_engine
from figures import Figures, Table, Target, main, number, percentile, progress
from processes import LocalProcess
from servers import PostgresServer
from system import running_postgres
from ui_process import StreamReader, UiProcess

_CHUNK = 500_000
_LONG_ENTRIES = 100_000
_WATCHERS = (1, 10, 100)
_SPOKEN = 40
"""Entries that are written while so many watch."""
_ROUND_SECONDS = 4.0
_INDEXES = """
    SELECT indexdef FROM pg_indexes WHERE tablename = 'execution_logs' AND indexname <> 'execution_logs_pkey'
"""
_ENTRY = """
    INSERT INTO execution_logs (id, task_id, level, category, step, agent_name, message, details, duration_ms,
        created_at, operation_id, parent_id)
    SELECT
        CAST(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15) AS uuid),
        run,
        CASE WHEN k % 97 = 50 THEN 'error' WHEN k % 31 = 7 THEN 'warning' ELSE 'info' END,
        CASE WHEN k % 10 IN (0, 9) THEN 'agent' ELSE 'tool' END,
        'step_' || (k / 100), 'agent_' || (k / 10) % 7,
        CASE WHEN k = 0 THEN 'analysis started' WHEN k = last THEN 'analysis completed'
            WHEN k % 10 = 0 THEN 'step ' || k / 10 || ' started'
            WHEN k % 10 = 9 THEN 'step ' || k / 10 || ' completed'
            ELSE 'looked something up in the archive of the court, item ' || k END,
        CASE WHEN k = 0 THEN '{"run_state": "running"}'::jsonb
            WHEN k = last THEN '{"run_state": "done"}'::jsonb
            ELSE jsonb_build_object('tool_name', 'search', 'query', h, 'result', repeat(h, 4))
        END,
        CASE WHEN k % 10 = 9 THEN 240 END,
        at,
        CASE WHEN k IN (0, last) THEN md5(run)::uuid WHEN k % 10 IN (0, 9) THEN md5(run || k / 10)::uuid END,
        CASE WHEN k NOT IN (0, last) THEN
            CASE WHEN k % 10 IN (0, 9) THEN md5(run)::uuid ELSE md5(run || k / 10)::uuid END END
    FROM (SELECT *, md5(run || '-' || k) AS h FROM ({source}) AS numbers) AS entries
"""
_RUNS = """
    SELECT 'run-' || (n / 20000) * 20 + n % 20 AS run, (n / 20) % 1000 AS k, 999 AS last,
        CAST($3 AS timestamptz) + n * interval '30 milliseconds' AS at
    FROM generate_series(CAST($1 AS bigint), $2) AS n
"""
_LONG = """
    SELECT 'long' AS run, n AS k, $2 - 1 AS last,
        CAST($3 AS timestamptz) + n * interval '3 milliseconds' AS at
    FROM generate_series($1::bigint, $2 - 1) AS n
"""


_READ = """
import asyncio, sys, urllib.parse

async def read(url):
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    place = parts.path + "?" + parts.query
    writer.write(f"GET {place} HTTP/1.1\\r\\nHost: {parts.netloc}\\r\\n\\r\\n".encode())
    while await reader.read(65536):
        pass

async def main():
    await asyncio.gather(*map(read, sys.argv[1:]), asyncio.Event().wait())

asyncio.run(main())
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much, and how often."""
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the table")
    parser.add_argument("--requests", type=int, default=100, help="requests of each kind")
    parser.add_argument("--rounds", type=int, default=5, help="rounds with a writer")
    parser.add_argument("--database", metavar="URL", help="one that is filled like this already")


def fill(postgres: PostgresServer, rows: int) -> None:
    """Make the table: without its indexes, which are made again in the end."""
    begins_at = datetime.now(UTC) - timedelta(milliseconds=30 * rows)
    indexes = [row[0] for row in postgres.execute(_INDEXES)]
    for definition in indexes:
        postgres.execute(f"DROP INDEX {definition.split()[2]}")
    for first in range(0, rows, _CHUNK):
        last = min(first + _CHUNK, rows) - 1
        postgres.execute(_ENTRY.replace("{source}", _RUNS), first, last, begins_at)
        progress(f"{last + 1:,} of {rows:,} rows are filled in")
    # In the middle: the newest runs are not those that are hard to find.
    long_at = begins_at + timedelta(milliseconds=15 * rows)
    postgres.execute(_ENTRY.replace("{source}", _LONG), 0, _LONG_ENTRIES, long_at)
    for definition in indexes:
        postgres.execute(definition)
    postgres.execute("VACUUM ANALYZE execution_logs")


class Asking:
    """Asks the API, and notes how long it takes.

    Args:
        client: knows where it is.
        requests: of each kind.
        runs: how many there are.
    """

    def __init__(self, client: httpx.AsyncClient, requests: int, runs: int) -> None:
        self._client = client
        self._requests = requests
        self._runs = runs
        self.rows: list[list[str]] = []

    async def ask(
        self, label: str, path: str, share: float = 1.0, *, first: int | None = None, **query: Any
    ) -> float:
        """Ask for something, each time of another run, the newest first; the 95th percentile, in ms."""
        first = self._runs - 1 if first is None else first
        times, size = [], 0
        for number_ in range(max(3, int(self._requests * share))):
            name = f"run-{(first - number_) % self._runs}"
            values = {key: name if value is ... else value for key, value in query.items()}
            began = time.perf_counter()
            answer = await self._client.get(path, params=values)
            times.append((time.perf_counter() - began) * 1e3)
            answer.raise_for_status()
            size = len(answer.content)
        slow = percentile(times, 95)
        self.rows.append([label, number(median(times)), number(slow), f"{size / 1000:,.1f}"])
        progress(str(self.rows[-1]))
        return slow

    async def read_all(self, label: str, path: str, **query: Any) -> float:
        """Ask for all pages, one after the other; the time in ms."""
        began, size, following = time.perf_counter(), 0, dict[str, str]()
        while True:
            answer = await self._client.get(path, params={**query, **following})
            answer.raise_for_status()
            size += len(answer.content)
            found = answer.json()
            token = found.get("next") or found.get("after")
            if token is None:
                break
            following = {"after": token}
        took = (time.perf_counter() - began) * 1e3
        self.rows.append([label, number(took), "", f"{size / 1000:,.1f}"])
        progress(str(self.rows[-1]))
        return took


async def ask_all(client: httpx.AsyncClient, options: argparse.Namespace) -> tuple[Table, list[Target]]:
    """Every kind of question."""
    asking = Asking(client, options.requests, options.rows // 1000)
    runs = await asking.ask("50 newest runs", "runs")
    await asking.ask("50 newest with errors", "runs", 0.2, with_errors="true")
    await asking.ask("50 newest with a step", "runs", 0.2, step="step_3")
    await asking.ask("activity of 20 runs", "runs/activity", 0.2, task_id=[f"run-{n}" for n in range(20)])
    summary = await asking.ask("a run, with its names", "run", task_id=...)
    skeleton = await asking.ask("its skeleton: 1,000 entries", "run/skeleton", task_id=...)
    page = await asking.ask("100 of its entries, with all fields", "run/entries", task_id=...)
    search = await asking.ask("a search over it", "run/search", task_id=..., text="ITEM 77")
    await asking.ask("its completeness", "run/completeness", 0.2, task_id=...)
    await asking.ask(
        "the skeleton of a run of days ago", "run/skeleton", 0.2, first=options.rows // 5000, task_id=...
    )
    await asking.ask("5,000 of 100,000 entries", "run/skeleton", 0.2, task_id="long")
    await asking.ask("a search over 100,000", "run/search", 0.1, task_id="long", text="item 777")
    whole = await asking.read_all("all 100,000 entries, as skeletons", "run/skeleton", task_id="long")
    full = await asking.read_all(
        "all 100,000 entries, with all fields", "run/entries", task_id="long", limit=200
    )
    await asking.ask("errors of a day, grouped", "errors", 0.1)
    note = (
        f"One client; {options.requests} requests of each kind, fewer of the slow ones, each of "
        "another of the newest runs. Of days ago nothing is in memory. "
        f"All of the long run: its skeleton takes {full / whole:.0f} times less time than its rows."
    )
    columns = ("what is asked for", "ms, median", "ms, p95", "KB")
    table = Table(f"The API over {options.rows:,} rows", columns, asking.rows, note)
    worst = max(summary, skeleton, page, search)
    return table, [
        Target("a run of 1,000 entries, p95 of its slowest resource", worst, 50, "ms"),
        Target("the list of runs, p95", runs, 100, "ms"),
    ]


@asynccontextmanager
async def watching(url: str, watchers: int, **query: str) -> AsyncIterator[list[StreamReader]]:
    """So many who read a stream."""
    readers = [StreamReader(url, query) for _ in range(watchers)]
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        for reader in readers:
            await reader.wait_for("begin")
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure_latency(ui: UiProcess, writer: Writer) -> tuple[Table, list[Target]]:
    """From the commit of an entry to its event."""
    rows, worst = [], 0.0
    for watchers in _WATCHERS:
        run = f"live-{watchers}"
        delays: list[float] = []
        async with watching(f"{ui.url}api/run/live", watchers, task_id=run) as readers:
            for spoken in range(_SPOKEN):
                at = datetime.now(UTC).isoformat()
                await writer.write(f"{run}-{spoken}", batch(encoded(task_id=run, created_at=at)))
                committed_at = time.perf_counter()
                arrivals = [arrival(reader, spoken + 1) for reader in readers]
                delays += [done - committed_at for done in await asyncio.gather(*arrivals)]
                await asyncio.sleep(0.013 * (spoken % 40))  # at any moment between two looks
        slow = percentile(delays, 95) * 1e3
        worst = max(worst, slow)
        rows.append([f"{watchers}", number(median(delays) * 1e3), number(slow), number(max(delays) * 1e3)])
        progress(str(rows[-1]))
    columns = ("watchers", "ms, median", "ms, p95", "ms, most")
    note = f"{_SPOKEN} entries, each written by itself; the poller looks twice a second."
    return Table("From the commit to the event", columns, rows, note), [
        Target("from the commit to the event, p95", worst, 1000, "ms")
    ]


async def arrival(reader: StreamReader, number_: int) -> float:
    """When so many entries have come."""
    await reader.wait_for_entries(number_)
    return time.perf_counter()


@contextmanager
def reading_elsewhere(urls: Sequence[str], folder: Path) -> Iterator[None]:
    """A process that reads these streams, and throws away what comes."""
    process = LocalProcess([sys.executable, "-c", _READ, *urls], output=folder / "readers.txt")
    try:
        yield
    finally:
        process.kill()


async def measure_writers(
    ui: UiProcess, writer: Writer, folder: Path, rounds: int
) -> tuple[Table, list[Target]]:
    """How many rows a writer stores in a second, with and without people who look."""
    looking = [f"{ui.url}api/runs/live"] * 10 + [f"{ui.url}api/run/live?task_id=run-1"] * 10
    rates: dict[str, list[float]] = {"nobody": [], "10 at the list, 10 at a run": []}
    for round_ in range(rounds):
        for label, urls in zip(rates, ([], looking), strict=True):
            with reading_elsewhere(urls, folder):
                await asyncio.sleep(1.0)  # until they read
                rates[label].append(await write_for(writer, f"written-{round_}-{len(urls)}", _ROUND_SECONDS))
        progress(str({label: number(each[-1]) for label, each in rates.items()}))
    rows = [
        [label, number(median(found)), number(min(found)), number(max(found))]
        for label, found in rates.items()
    ]
    alone, looked_at = (median(found) for found in rates.values())
    columns = ("who looks", "rows/s, median", "least", "most")
    note = (
        f"One writer, batches of 50, {rounds} rounds of {_ROUND_SECONDS:g} s in turns; all on the same cores."
    )
    return Table("What looking takes from a writer", columns, rows, note), [
        Target("what looking takes from a writer", 100 * (1 - looked_at / alone), 2, "%")
    ]


async def write_for(writer: Writer, run: str, seconds: float) -> float:
    """Write batches one after the other; how many rows in a second."""
    began, written = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        at = datetime.now(UTC).isoformat()
        entries = [encoded(task_id=f"{run}", created_at=at, details={"tool_name": "x"}) for _ in range(50)]
        await writer.write(f"{run}-{written}", batch(*entries))
        written += 50
    return written / took


async def measure_all(url: str, folder: Path, options: argparse.Namespace) -> Figures:
    """On a database that is filled."""
    engine = create_engine(Settings(database_url=url), pool_size=1)
    writer = Writer(engine, Settings(database_url=url))
    with UiProcess(url, folder) as ui:
        async with httpx.AsyncClient(base_url=f"{ui.url}api/", timeout=60) as client:
            asked, targets = await ask_all(client, options)
        latency, latency_targets = await measure_latency(ui, writer)
        costs, cost_targets = await measure_writers(ui, writer, folder, options.rounds)
    await engine.dispose()
    return Figures([asked, latency, costs], targets=[*targets, *latency_targets, *cost_targets])


def measure(options: argparse.Namespace) -> Figures:
    """With a server of its own."""
    if options.quick:
        options.rows, options.requests, options.rounds = 100_000, 5, 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        if options.database is None:
            postgres = stack.enter_context(running_postgres())
            fill(postgres, options.rows)
            options.database = postgres.url()
        return asyncio.run(measure_all(options.database, folder, options))


if __name__ == "__main__":
    main(__doc__, measure, add_options)
