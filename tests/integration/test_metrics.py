"""What Prometheus is told by real workers, with a real Redis and a real PostgreSQL."""

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

import scraping
from batches import batch, encoded
from execution_logger import ExecutionLogger, Settings
from execution_logger.integrations.prometheus import ExecutionLoggerCollector
from messages import send_batch
from processes import LocalProcess
from rows import count_rows, upgrade_database
from scraping import scrape
from server import free_port
from servers import PostgresServer, RedisServer
from waiting import let_pass, wait_until
from workers import CELERY, WorkerProcess

PREFIX = "execution_logger_"
WORKER = f"{PREFIX}worker_"


class Site:
    """A queue, a database, and a worker with a port."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self.database_url = database_url
        self.port = free_port()
        self._settings = Settings(broker_url=redis_url)
        self.environment = {
            "CELERY_BROKER_URL": redis_url,
            "DATABASE_URL": database_url,
            "EXECUTION_LOGGER_METRICS_PORT": str(self.port),
            "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
            "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "2",
        }

    @contextmanager
    def worker(self, *arguments: str, **environment: str) -> Iterator[WorkerProcess]:
        """Started as deployments do."""
        with WorkerProcess((*CELERY, *arguments), environment=self.environment | environment) as worker:
            yield worker

    def send(self, first: int, count: int, entries: int = 10) -> None:
        """Put batches on the queue; a number that was sent before is the same batch."""
        for number in range(first, first + count):
            ids = [f"0192e4a0-0000-7000-8000-{number:06d}{entry:06d}" for entry in range(entries)]
            send_batch(self._settings, f"batch-{number}", batch(*(encoded(id=entry_id) for entry_id in ids)))

    def worker_says(self, name: str) -> float:
        """One of the worker's own metrics."""
        return scrape(self.port)[WORKER + name]

    def wait_for(self, worker: WorkerProcess, batches: int) -> None:
        """Return when the worker says that it has written so many."""
        wait_until(
            lambda: self.worker_says("batches_written_total") == batches,
            30,
            message=lambda: worker.output,
            pause_seconds=0.1,
        )


@pytest.fixture
def site(redis_url: str, database_url: str) -> Site:
    """Nothing is on the queue."""
    return Site(redis_url, database_url)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_counts_what_it_writes(site: Site, pool: str) -> None:
    """While batches flow, and over all processes of the pool; the figures are those of the table."""
    with site.worker("-P", pool, "-c", "2", EXECUTION_LOGGER_WORKER_POOL=pool) as worker:
        site.send(1, 30)
        site.wait_for(worker, 30)
        site.send(1, 2)
        site.send(31, 1, entries=50)
        site.wait_for(worker, 33)
        found = scrape(site.port)
    assert found[f"{WORKER}rows_stored_total"] == count_rows(site.database_url) == 350
    assert found[f"{WORKER}rows_duplicate_total"] == 20
    assert found[f"{WORKER}batch_entries_sum"] == 370
    assert found[f"{WORKER}write_seconds_count"] == found[f'{WORKER}batch_entries_bucket{{le="+Inf"}}'] == 33
    assert 0 < found[f"{WORKER}write_seconds_sum"] < 33
    assert found[f"{WORKER}batches_in_hand"] == found[f"{WORKER}batches_requeued_total"] == 0
    assert found["process_start_time_seconds"] > 0


def test_a_child_that_is_killed_takes_no_count_along(site: Site) -> None:
    """Whoever takes its place goes on in its row; and the port is not kept by children."""
    with site.worker("-P", "prefork", "-c", "1", EXECUTION_LOGGER_WORKER_POOL="prefork") as worker:
        site.send(1, 3)
        site.wait_for(worker, 3)
        (child,) = psutil.Process(worker.pid).children()
        assert not child.net_connections(kind="tcp") or all(
            connection.laddr.port != site.port for connection in child.net_connections(kind="tcp")
        )
        child.send_signal(signal.SIGKILL)
        site.send(4, 3)
        site.wait_for(worker, 6)
        assert site.worker_says("rows_stored_total") == count_rows(site.database_url) == 60


def test_an_outage_of_the_database_shows(redis_url: str, own_postgres_server: PostgresServer) -> None:
    """Since when it is away, and what waits for it in the worker's hands; then all is well again."""
    upgrade_database(own_postgres_server.url())
    site = Site(redis_url, own_postgres_server.url())
    with site.worker() as worker:
        own_postgres_server.stop()
        site.send(1, 2)
        wait_until(lambda: site.worker_says("database_down_seconds") > 0.5, 20, message=lambda: worker.output)
        found = scrape(site.port)
        assert found[f"{WORKER}database_up"] == found[f"{WORKER}batches_written_total"] == 0
        assert found[f"{WORKER}batches_in_hand"] == 2
        assert found[f"{WORKER}write_failures_total"] >= 2
        own_postgres_server.start()
        site.wait_for(worker, 2)
        found = scrape(site.port)
    assert (found[f"{WORKER}database_up"], found[f"{WORKER}database_down_seconds"]) == (1, 0)
    assert found[f"{WORKER}rows_stored_total"] == count_rows(site.database_url)


class Exporter:
    """`execution-logger metrics` as a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "execution_logger.cli", "metrics", "--port", str(self.port)]
        self.process = LocalProcess(
            command, output=folder / "exporter.txt", environment=os.environ | environment, folder=folder
        )
        wait_until(lambda: "metrics are at" in self.process.output, 20, message=lambda: self.process.output)

    def scrape(self) -> dict[str, float]:
        """Its samples, which come within two seconds whatever is away."""
        began_at = time.monotonic()
        found = {name.removeprefix(PREFIX): value for name, value in scrape(self.port).items()}
        assert time.monotonic() - began_at < 2.0
        return found

    def close(self) -> None:
        """End it as service managers do; it ends in order, and at once."""
        try:
            self.process.stop()
            assert self.process.wait() == 0
        finally:
            self.process.kill()
            print(self.process.output)


def test_host_worker_and_exporter_agree_with_the_table(site: Site, tmp_path: Path) -> None:
    """From the call to the row: what is accepted is stored, and what waits is in the queue."""
    settings = Settings(broker_url=site.environment["CELERY_BROKER_URL"], flush_interval_seconds=0.1)
    logger = ExecutionLogger(settings)
    with closing(Exporter(tmp_path, site.environment)) as exporter:
        for number in range(120):
            logger.sync.info("task", "workflow", f"entry {number}")
        assert logger.sync.flush(20).complete
        found = exporter.scrape()
        assert found["queue_messages"] == samples(logger)["batches_delivered_total"] > 0
        assert 0 < found["queue_oldest_age_seconds"] < 20
        assert found["broker_memory_bytes"] > 0
        assert (found["workers_online"], found["dead_letters"]) == (0, 0)
        assert found['journals{process="living"}'] == 1
        assert samples(logger)["entries_unconfirmed"] == 120
        assert 0 < samples(logger)["oldest_unwritten_age_seconds"] < 20
        with site.worker():
            assert logger.sync.flush(20, until="stored").complete
            wait_until(lambda: exporter.scrape()["workers_online"] == 1, pause_seconds=1)
            host = samples(logger)
            assert host["entries_stored_total"] == host["entries_accepted_total"] == 120
            assert host["entries_unconfirmed"] == host["oldest_unwritten_age_seconds"] == 0
            assert host["store_seconds_count"] == host["batches_delivered_total"]
            assert site.worker_says("rows_stored_total") == count_rows(site.database_url) == 120
        logger.sync.shutdown()
        wait_until(lambda: exporter.scrape()["queue_in_flight_messages"] == 0, pause_seconds=1)
        assert exporter.scrape()["queue_oldest_age_seconds"] == 0


@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_a_broker_that_is_away_never_hangs_a_scrape(
    own_redis_server: RedisServer, database_url: str, tmp_path: Path, harm: str
) -> None:
    """Gone or silent: the answer comes within two seconds and says so; and that it is back."""
    environment = {"CELERY_BROKER_URL": own_redis_server.url(), "DATABASE_URL": database_url}
    with closing(Exporter(tmp_path, environment)) as exporter:
        assert exporter.scrape()["broker_up"] == 1
        getattr(own_redis_server, harm)()
        let_pass(1.0)  # for which an answer is good
        for _ in range(2):
            found = exporter.scrape()
            assert (found["broker_up"], found["database_up"], found["dead_letters"]) == (0, 1, 0)
            assert "queue_messages" not in found
            let_pass(1.0)
        {"kill": own_redis_server.start, "pause": own_redis_server.resume}[harm]()
        wait_until(lambda: exporter.scrape()["broker_up"] == 1, pause_seconds=0.5)
        assert exporter.process.output.count("broker: no metrics") == 1


def test_a_redis_with_a_limit_shows_how_full_it_is(
    own_redis_server: RedisServer, database_url: str, tmp_path: Path
) -> None:
    """And one whose user may not ask for it is up all the same."""
    environment = {"CELERY_BROKER_URL": own_redis_server.url(), "DATABASE_URL": database_url}
    with own_redis_server.client() as client:
        client.config_set("maxmemory", "200mb")
        with closing(Exporter(tmp_path, environment)) as exporter:
            found = exporter.scrape()
            assert found["broker_memory_limit_bytes"] == 200 * 1024**2
            assert 0 < found["broker_memory_bytes"] < found["broker_memory_limit_bytes"]
            client.acl_setuser("default", commands=["-info"], nopass=True, enabled=True)
            let_pass(1.0)  # for which an answer is good
            found = exporter.scrape()
    assert found["broker_up"] == 1
    assert "broker_memory_bytes" not in found


HOST = """
from execution_logger import execution_logger

def application(environ, start_response):
    execution_logger.sync.info("task", "api", environ["PATH_INFO"])
    start_response("200 OK", [])
    return []
"""

GUNICORN = """
from execution_logger.integrations.prometheus import serve

bind, workers, preload_app, wsgi_app = "127.0.0.1:{port}", 2, True, "host"

def post_fork(server, worker):
    worker.metrics_server = serve({metrics_ports})
"""


def test_each_process_of_a_prefork_host_counts_its_own(redis_url: str, tmp_path: Path) -> None:
    """On a port of its own; together they are all that was recorded. A reload finds its ports free."""
    port, *metrics_ports = (free_port() for _ in range(5))
    (tmp_path / "host.py").write_text(HOST)
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN.format(port=port, metrics_ports=metrics_ports))
    environment = {**os.environ, "CELERY_BROKER_URL": redis_url, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "gunicorn"]
    gunicorn = LocalProcess(command, output=tmp_path / "output.txt", environment=environment, folder=tmp_path)

    def accepted() -> list[float]:
        found = []
        for metrics_port in metrics_ports:
            with suppress(OSError):
                found.append(scrape(metrics_port)[f"{PREFIX}entries_accepted_total"])
        return found

    try:
        wait_until(lambda: accepted() == [0, 0], 20, message=lambda: gunicorn.output, pause_seconds=0.1)
        for number in range(20):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{number}", timeout=60).close()
        assert sum(accepted()) == 20
        gunicorn.send_signal(signal.SIGHUP)
        wait_until(lambda: accepted() == [0, 0], 20, message=lambda: gunicorn.output, pause_seconds=0.1)
        gunicorn.stop()
        assert accepted() == []
    finally:
        gunicorn.kill()


def samples(logger: ExecutionLogger) -> dict[str, float]:
    """What the host would show."""
    found = scraping.samples(ExecutionLoggerCollector(logger).collect())
    return {name.removeprefix(PREFIX): value for name, value in found.items()}
