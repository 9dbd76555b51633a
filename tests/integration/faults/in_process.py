"""A host inside the test's own process: what its calls return, and what its accounts say."""

import sys

from execution_logger import ExecutionLogger, LogCategory, Settings
from rows import count_rows, fetch, messages_in_order, upgrade_database
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import CELERY, WorkerProcess

# A killed worker's batch is back after the visibility timeout: ten seconds, so that a test can wait for it.
QUICK = {
    "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
    "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "2",
}

SUPERVISED = (sys.executable, "-m", "execution_logger.cli", "worker")


class InProcessSite:
    """A host's logger, its Redis and its PostgreSQL, all to be harmed; the worker is started by the test."""

    def __init__(
        self, redis: RedisServer, postgres: PostgresServer, settings: Settings | None = None
    ) -> None:
        self.redis = redis
        self.postgres = postgres
        self.database_url = postgres.url()
        upgrade_database(self.database_url)
        settings = settings or Settings(broker_url=redis.url(), retry_pause_max_seconds=1.0)
        self.logger = ExecutionLogger(settings)
        self.calls = 0

    def close(self) -> None:
        """End the host's logger, whatever still waits."""
        self.logger.sync.shutdown(1)
        del self.logger  # what it could not send keeps its files open until it is collected

    def log(self, count: int) -> None:
        """Make `count` calls, numbered on."""
        for _ in range(count):
            self.logger.sync.info("t", LogCategory.WORKFLOW, str(self.calls))
            self.calls += 1

    def log_batches(self, count: int) -> None:
        """Make calls that fill `count` messages of 50 entries each."""
        for _ in range(count):
            self.log(50)
            assert self.logger.sync.flush(10).complete

    def worker(self, pool: str = "threads", *arguments: str) -> WorkerProcess:
        """A worker as deployments start it, not started yet."""
        environment = {
            "CELERY_BROKER_URL": self.redis.url(),
            "DATABASE_URL": self.database_url,
            "EXECUTION_LOGGER_WORKER_POOL": pool,
            **QUICK,
        }
        return WorkerProcess((*CELERY, *arguments), environment=environment)

    def supervised_worker(self) -> WorkerProcess:
        """The worker that starts again when it dies, as it may when Redis goes away."""
        worker = self.worker()
        worker.command = SUPERVISED
        return worker

    def in_flight(self) -> int:
        """Batches that a worker has taken and not acknowledged."""
        with self.redis.client() as client:
            return int(client.hlen("logs.unacked"))

    def queued(self) -> int:
        """`LLEN logs`."""
        with self.redis.client() as client:
            return int(client.llen("logs"))

    def rows(self) -> int:
        """Rows in the database."""
        return count_rows(self.database_url)

    def dead_letters(self) -> list[str]:
        """The reasons of the dead letters."""
        rows = fetch(self.database_url, "SELECT reason FROM execution_log_dead_letters ORDER BY created_at")
        return [row["reason"] for row in rows]

    def check(self, timeout_seconds: float = 40) -> None:
        """Each call is one row, in the order of the calls, and the accounts agree."""
        report = self.logger.sync.flush(20)
        assert report.complete, str(report)
        wait_until(
            lambda: self.rows() == self.calls, timeout_seconds, message=lambda: f"{self.rows()}/{self.calls}"
        )
        assert messages_in_order(self.database_url, "t") == [str(number) for number in range(self.calls)]
        stats = self.logger.stats()
        assert (stats["accepted"], stats["delivered"], stats["waiting"]) == (self.calls, self.calls, 0)
        assert (stats["dropped"], stats["internal_errors"]) == ({}, 0)
        assert self.dead_letters() == []
        # What a killed worker held comes again, and changes nothing.
        wait_until(lambda: self.queued() + self.in_flight() == 0, timeout_seconds)
        assert self.rows() == self.calls
