"""PostgreSQL goes away in every way, and comes back: batches wait in the queue, none is given up."""

import asyncio
import json
import os
import shutil
import threading
import zoneinfo
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from integration.faults.cell import Cell
from integration.faults.proxy import Proxy
from integration.faults.site import Site
from waiting import let_pass, wait_until
from workers import WorkerProcess

_WAITING = "batches wait in the queue"
"""What the worker says, once, when the database takes no rows."""
_WORKING = "the database takes rows again"
"""What it says when it does."""


@pytest.fixture
def site(bare_site: Site) -> Site:
    """Each test starts a worker of its own, to be harmed or to be the first one."""
    return bare_site


class TestPostgres:
    """A host logs all the time, a worker stores; PostgreSQL is harmed at random moments."""

    @pytest.mark.parametrize("harm", [pytest.param("stopped", marks=pytest.mark.long), "killed", "frozen"])
    def test_away_and_back(self, cell: Cell, frail_database_site: Site, harm: str) -> None:
        """Shut down in order, killed, or stopped by SIGSTOP, for a random time."""
        site = frail_database_site
        away, back = {
            "stopped": (site.postgres.stop, site.postgres.start),
            "killed": (site.postgres.kill, site.postgres.start),
            "frozen": (site.postgres.pause, site.postgres.resume),
        }[harm]
        with logging_host(cell, site):
            for _ in cell.repetitions(2):
                cell.let_pass_up_to(1)
                away()
                let_pass(cell.random.uniform(0.1, 3))
                back()

    @pytest.mark.long
    def test_restarted_again_and_again(self, cell: Cell, frail_database_site: Site) -> None:
        """Restarts without a pause, while batches are being written."""
        site = frail_database_site
        with logging_host(cell, site):
            for _ in cell.repetitions():
                cell.let_pass_up_to(0.5)
                site.postgres.restart()

    @pytest.mark.long  # test_store_outages.py does it to the writer; the worker waits as in any other outage
    def test_read_only(self, cell: Cell, site: Site) -> None:
        """A standby that was not promoted yet refuses rows."""
        with logging_host(cell, site) as worker:
            for _ in cell.a_few():
                with outage(worker) as wait_for_it:
                    site.execute(f"ALTER DATABASE {site.database} SET default_transaction_read_only = on")
                    site.end_sessions()
                    wait_for_it()
                    # From another database, since this one takes no changes either.
                    site.postgres.execute(
                        f"ALTER DATABASE {site.database} RESET default_transaction_read_only"
                    )
                    site.end_sessions()

    @pytest.mark.long  # test_store_outages.py does it to the writer; the worker waits as in any other outage
    def test_out_of_connections(self, cell: Cell, frail_database_site: Site) -> None:
        """Others have taken every connection, and keep them for a while."""
        site = frail_database_site
        with logging_host(cell, site) as worker:
            for _ in cell.a_few():
                with outage(worker) as wait_for_it, all_connections(site):
                    wait_for_it()

    @pytest.mark.long
    def test_table_locked(self, cell: Cell, site: Site) -> None:
        """Somebody's ALTER TABLE holds the table longer than an attempt may last."""
        with logging_host(cell, site) as worker:
            for _ in cell.a_few():
                with outage(worker) as wait_for_it, table_lock(site):
                    wait_for_it()

    @pytest.mark.long  # test_store_outages.py does it to the writer; the worker waits as in any other outage
    def test_statement_timeout(self, cell: Cell, site: Site) -> None:
        """The database ends statements that take long, and while the table is locked all do."""
        site.execute(f"ALTER DATABASE {site.database} SET statement_timeout = '300ms'")
        with logging_host(cell, site) as worker:
            for _ in cell.a_few():
                with outage(worker) as wait_for_it, table_lock(site):
                    wait_for_it()

    @pytest.mark.long
    def test_sessions_ended(self, cell: Cell, site: Site) -> None:
        """`pg_terminate_backend` of all sessions, again and again, while batches are being written."""
        with logging_host(cell, site):
            for _ in cell.repetitions(10):
                cell.let_pass_up_to(0.3)
                site.end_sessions()

    @pytest.mark.long
    def test_out_of_reach(self, cell: Cell, site: Site) -> None:
        """A network between worker and database that swallows everything, then works again."""
        with Proxy(site.postgres.port) as proxy:
            distant = f"postgresql://postgres@127.0.0.1:{proxy.port}/{site.database}"
            with logging_host(cell, site, database_url=distant) as worker:
                for _ in cell.a_few():
                    with outage(worker) as wait_for_it:
                        proxy.swallow()
                        wait_for_it()
                        proxy.heal()

    def test_answers_are_swallowed(self, cell: Cell, site: Site) -> None:
        """Commits whose answers never arrive: they are in doubt, made again, and stored once."""
        with Proxy(site.postgres.port) as proxy:
            distant = f"postgresql://postgres@127.0.0.1:{proxy.port}/{site.database}"
            with logging_host(cell, site, database_url=distant):
                for _ in cell.repetitions(2):
                    cell.let_pass_up_to(1)
                    proxy.swallow(requests=False)
                    let_pass(1)
                    proxy.heal()


class TestRefusals:
    """PostgreSQL answers all the time, and does not take what it is given: all of it, some, or in time."""

    @pytest.mark.long  # each refused entry waits ten seconds for a host that may be in a migration
    def test_row_security(self, cell: Cell, site: Site) -> None:
        """A policy refuses every tenth entry: each is a dead letter, and holds up none of the others."""
        with row_security(site, "message !~ '7$'") as database_url, worker_of(site, database_url):
            host = site.host("plain", "--rate", 200)
            for _ in cell.a_few():
                site.wait_for_calls(300)
            host.stop()
            site.check_refused(ends_in_seven, 90)

    def test_encoding(self, cell: Cell, latin1_site: Site) -> None:
        """A LATIN1 database cannot hold Chinese: those entries are dead letters, whole, and no others."""
        site = latin1_site
        with site.worker():
            host = site.host("chinese")
            for _ in cell.a_few():
                site.wait_for_calls(150)
            host.stop()
            site.check_refused(ends_in_seven, 90)
        letters = site.fetch("SELECT entry FROM execution_log_dead_letters")
        assert {json.loads(row["entry"])["details"]["some"] for row in letters} == {"详情"}

    @pytest.mark.long  # each attempt that is cut off lasts two seconds
    @pytest.mark.parametrize("query", ["", "?statement_cache_size=0"], ids=["directly", "as for PgBouncer"])
    def test_slow_trigger(self, cell: Cell, site: Site, query: str) -> None:
        """A batch takes longer than an attempt may last: it is stored in pieces, and that is no outage."""
        add_trigger(site, "PERFORM pg_sleep(0.02);")
        # The whole batch would take three seconds.
        url = site.database_url + query
        with worker_of(site, url, EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS="2") as worker:
            for _ in cell.a_few():
                site.host("plain", "--count", 150, EXECUTION_LOGGER_BATCH_SIZE="150")
            site.check(90)
            assert says(worker, "stored in pieces")
            assert not says(worker, "the database takes no rows")

    def test_everything_is_refused(self, cell: Cell, site: Site) -> None:
        """A check that no entry passes: they wait until it is gone, and none is a dead letter."""
        with logging_host(cell, site) as worker:
            for number in cell.a_few():
                name = f"capitals_{number}"
                site.execute(
                    f"ALTER TABLE execution_logs ADD CONSTRAINT {name} CHECK (level = 'INFO') NOT VALID"
                )
                wait_until(partial(says, worker, name), 40, message=lambda: worker.output[-3000:])
                cell.let_pass_up_to(1)
                site.execute(f"ALTER TABLE execution_logs DROP CONSTRAINT {name}")

    def test_unknown_time_zone(self, cell: Cell, site: Site, tmp_path: Path) -> None:
        """A time zone that only Python knows: entries wait until the column is changed."""
        cell.figures.repetitions = 1
        (tmp_path / "New").mkdir()
        (source,) = (place for path in zoneinfo.TZPATH if (place := Path(path, "Asia/Shanghai")).exists())
        shutil.copy(source, tmp_path / "New" / "Zone")
        site.execute("ALTER TABLE execution_logs DROP CONSTRAINT created_at_is_readable")
        site.execute("ALTER TABLE execution_logs ALTER COLUMN created_at TYPE timestamp")
        zone = {
            "EXECUTION_LOGGER_TIME_ZONE": "New/Zone",
            "PYTHONTZPATH": os.pathsep.join([str(tmp_path), *zoneinfo.TZPATH]),
        }
        with worker_of(site, **zone) as worker:
            host = site.host("plain", "--rate", 200)
            wait_until(partial(says, worker, "New/Zone"), 40, message=lambda: worker.output[-3000:])
            assert site.rows() == 0
            site.execute("ALTER TABLE execution_logs ALTER COLUMN created_at TYPE timestamptz")
            host.stop()
            site.check(90)


def ends_in_seven(number: int) -> bool:
    """Whether it is one of every ten."""
    return number % 10 == 7


def says(worker: WorkerProcess, text: str) -> bool:
    """Whether the worker has said that yet."""
    return text in worker.output


def worker_of(site: Site, database_url: str | None = None, **variables: str) -> WorkerProcess:
    """A worker that is set up in another way, not started yet."""
    worker = site.worker()
    worker.environment |= {"DATABASE_URL": database_url or site.database_url, **variables}
    return worker


def add_trigger(site: Site, body: str) -> None:
    """Let the host do something with each row before it is stored."""
    site.execute(
        f"CREATE FUNCTION hosts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$"
    )
    site.execute("CREATE TRIGGER hosts BEFORE INSERT ON execution_logs FOR EACH ROW EXECUTE FUNCTION hosts()")


@contextmanager
def row_security(site: Site, condition: str) -> Iterator[str]:
    """The URL of a user with all rights, who may insert rows only on a condition."""
    for statement in (
        "CREATE USER tenant",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO tenant",
        "ALTER TABLE execution_logs ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY reading ON execution_logs FOR SELECT USING (true)",
        f"CREATE POLICY writing ON execution_logs FOR INSERT WITH CHECK ({condition})",
    ):
        site.execute(statement)
    try:
        yield site.database_url.replace("postgres@", "tenant@")
    finally:
        site.execute("DROP OWNED BY tenant")
        site.execute("DROP USER tenant")


@contextmanager
def logging_host(cell: Cell, site: Site, *, database_url: str | None = None) -> Iterator[WorkerProcess]:
    """A worker, and a host that logs at a rate during the block; then the count."""
    with worker_of(site, database_url) as worker:
        site.host("plain", "--count", 1_000, "--rate", 500)
        yield worker
        site.stop_hosts()
        site.host("idle")
        site.check(90)


@contextmanager
def outage(worker: WorkerProcess) -> Iterator[Callable[[], None]]:
    """A block in which the database takes no rows for a while, and takes them again at its end.

    The function waits until the worker says that it takes none; the end of the block, until it works.
    """

    def said(text: str) -> int:
        return worker.output.count(text)

    def wait_for_it() -> None:
        wait_until(lambda: said(_WAITING) > before, 40, message=lambda: worker.output[-3000:])

    before = said(_WAITING)
    yield wait_for_it
    wait_until(lambda: said(_WORKING) == said(_WAITING), 60, message=lambda: worker.output[-3000:])


@contextmanager
def table_lock(site: Site) -> Iterator[None]:
    """Hold the table as ALTER TABLE does."""

    async def hold(locked: threading.Event, over: threading.Event) -> None:
        connection = await asyncpg.connect(site.database_url, timeout=60)
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL statement_timeout = 0")
                await connection.execute("LOCK TABLE execution_logs IN ACCESS EXCLUSIVE MODE")
                locked.set()
                await asyncio.to_thread(over.wait)
        finally:
            await connection.close()

    with in_thread(hold):
        yield


@contextmanager
def all_connections(site: Site) -> Iterator[None]:
    """End everybody's sessions and take every connection that the server has."""

    async def hold(taken: threading.Event, over: threading.Event) -> None:
        connections: list[asyncpg.Connection] = []
        try:
            while True:
                try:
                    connections.append(await asyncpg.connect(site.postgres.url(), timeout=60))
                except asyncpg.TooManyConnectionsError:
                    if taken.is_set():
                        break
                    # The worker has some of them: they are ours as soon as it loses them.
                    await connections[0].execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
                        site.database,
                    )
                    taken.set()
            await asyncio.to_thread(over.wait)
        finally:
            for connection in connections:
                await connection.close()

    with in_thread(hold):
        yield


@contextmanager
def in_thread(
    hold: Callable[[threading.Event, threading.Event], Coroutine[Any, Any, None]],
) -> Iterator[None]:
    """Run a coroutine function in a thread, which sets one event when it is ready and waits for another."""
    ready, over = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(lambda: asyncio.run(hold(ready, over)))
        try:
            wait_until(lambda: ready.is_set() or holding.done(), 20)
            yield
        finally:
            over.set()
            holding.result(20)
