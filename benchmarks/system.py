"""The servers, the workers and the hosts that benchmarks measure: real ones, of the benchmark's own."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from execution_logger import ExecutionLogger, Settings
from rows import count_rows, upgrade_database
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import CELERY, WorkerProcess

NAIVE = (sys.executable, "-m", "celery", "-A", "naive", "worker", "-Q", "naive_logs", "--loglevel", "INFO")
"""The worker of naive.py, with as many children as there are cores."""


@dataclass
class System:
    """Redis, PostgreSQL with the library's tables, and as many workers as were started."""

    redis: RedisServer
    postgres: PostgresServer
    folder: Path
    _stack: ExitStack
    workers: list[WorkerProcess] = field(default_factory=list)

    def settings(self, **more: Any) -> Settings:
        """What a host here needs, with a journal in the temporary folder; `more` goes first."""
        places = {
            "broker_url": self.redis.url(),
            "database_url": self.postgres.url(),
            "journal_directory": str(self.folder / "journal"),
        }
        return Settings(**{**places, **more})

    def logger(self, **more: Any) -> ExecutionLogger:
        """A logger of such a host; who made it shuts it down."""
        return ExecutionLogger(self.settings(**more))

    def start_worker(self, command: Sequence[str] = CELERY, **environment: str) -> WorkerProcess:
        """Start a worker with default settings, but for this environment; it ends with the system."""
        places = {"CELERY_BROKER_URL": self.redis.url(), "DATABASE_URL": self.postgres.url()}
        worker = WorkerProcess(command, environment={**places, **environment})
        self.workers.append(self._stack.enter_context(worker))
        return worker

    def start_naive_worker(self) -> WorkerProcess:
        """Start the worker of naive.py; it ends with the system."""
        here = str(Path(__file__).resolve().parent)
        path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
        return self.start_worker(NAIVE, PYTHONPATH=path)

    def count_rows(self) -> int:
        """How many entries are stored."""
        return count_rows(self.postgres.url())

    def wait_for_rows(self, expected: int, timeout_seconds: float = 300) -> None:
        """Wait until that many entries are stored."""
        wait_until(lambda: self.count_rows() >= expected, timeout_seconds)
        if (found := self.count_rows()) != expected:
            raise RuntimeError(f"{found} rows are stored instead of {expected}")

    def clear(self) -> None:
        """Empty the tables and Redis."""
        self.postgres.execute("TRUNCATE execution_logs, execution_log_batches, execution_log_dead_letters")
        with self.redis.client() as client:
            client.flushall()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL with the library's tables, of the benchmark's own; it does not wait for the disk."""
    with PostgresServer() as postgres:
        upgrade_database(postgres.url())
        yield postgres


@contextmanager
def running_system(*, workers: int = 0, **redis_options: str | int) -> Iterator[System]:
    """A system of the benchmark's own; PostgreSQL does not wait for the disk, Redis has its AOF."""
    # Workers print their output when they end: it does not belong to the results.
    with redirect_stdout(sys.stderr), ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="execution-logger-benchmark-")))
        postgres = stack.enter_context(running_postgres())
        redis = stack.enter_context(RedisServer(**redis_options))
        system = System(redis, postgres, folder, stack)
        for _ in range(workers):
            system.start_worker()
        yield system
        for worker in system.workers:
            worker.stop()
