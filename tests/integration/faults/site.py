"""A deployment to be harmed: hosts, a broker, workers, a database, and the count of what arrived."""

import json
import os
import shutil
import sys
import tempfile
import time
from bisect import insort
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

from integration.faults.calls import Progress, progress_of
from integration.faults.cell import Cell
from integration.faults.count import Count
from processes import LocalProcess
from rows import fetch, upgrade_database
from servers import PostgresServer, RedisServer
from waiting import wait_until
from workers import CELERY, WorkerProcess

SUPERVISED = (sys.executable, "-m", "execution_logger.cli", "worker")

OWN_TASK_ID = "execution_logger"
"""The run that the library's own entries belong to."""

_TESTS = Path(__file__).resolve().parents[2]
_COUNT_PAUSE_SECONDS = 0.2

_QUICK = {
    # As short as is allowed, so that a test can wait for it.
    "EXECUTION_LOGGER_ADOPT_INTERVAL_SECONDS": "0.5",
    "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS": "2",
    "EXECUTION_LOGGER_FLUSH_INTERVAL_SECONDS": "0.5",
    "EXECUTION_LOGGER_RETRY_PAUSE_MAX_SECONDS": "1",
    "EXECUTION_LOGGER_VISIBILITY_TIMEOUT_SECONDS": "10",
}

# A message that is no number is that of no call, as 0 is.
_NUMBERS = r"""
    SELECT task_id, array_agg(
        CASE WHEN message ~ '^\d{1,18}$' THEN message::bigint ELSE 0 END ORDER BY created_at, id
    ) AS numbers
    FROM execution_logs WHERE task_id <> $1 GROUP BY task_id
"""


_EMPTY = "TRUNCATE execution_logs, execution_log_batches, execution_log_dead_letters"


def worker_environment(
    redis: RedisServer, postgres: PostgresServer, database: str, redis_database: int = 0
) -> dict[str, str]:
    """What a worker is set up by."""
    return {
        **_QUICK,
        "CELERY_BROKER_URL": redis.url(redis_database),
        "DATABASE_URL": postgres.url(database),
    }


class Site:
    """Servers, and what runs on them; everything that it has started is killed by `close()`.

    Args:
        cell: that is told what was counted.
        redis: the broker.
        postgres: in which a database of its own is made.
        template: a database with the library's tables, to make it quickly.
        redis_database: the number of the one that is the broker.
        database: one that a running worker writes to already, instead of one of its own.
        broker_url: what the hosts use instead of the broker's own address.
        variables: of the environment of hosts and workers.
    """

    def __init__(
        self,
        cell: Cell,
        redis: RedisServer,
        postgres: PostgresServer,
        *,
        redis_database: int = 0,
        template: str | None = None,
        database: str | None = None,
        broker_url: str | None = None,
        **variables: str,
    ) -> None:
        self.cell = cell
        self.redis = redis
        self.postgres = postgres
        self.broker_url = redis.url(redis_database)
        """The broker's own address."""
        self._redis_database = redis_database
        self._has_own_database = database is None
        self.database = database or postgres.create_database(template or "template1")
        self.database_url = postgres.url(self.database)
        if database:
            self.execute(_EMPTY)
        elif not template:
            upgrade_database(self.database_url)
        self.folder = Path(tempfile.mkdtemp(prefix="execution-logger-"))
        self.journal = self.folder / "journal"
        self.calls = self.folder / "calls"
        self.calls.mkdir()
        self._worker_environment = {**worker_environment(redis, postgres, self.database, redis_database)}
        self.environment = {
            **os.environ,
            **self._worker_environment,
            "CELERY_BROKER_URL": broker_url or self.broker_url,
            "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(self.journal),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_TESTS), os.environ.get("PYTHONPATH")])),
            **variables,
        }
        self.hosts: list[LocalProcess] = []

    # What runs -------------------------------------------------------------------------------

    def host(self, variant: str = "plain", *options: object, **variables: str) -> LocalProcess:
        """Start a host's program (see host.py) and wait until it has made its first call."""
        before = set(self.progress())
        words = ["-m", "integration.faults.host", variant, str(self.calls), *map(str, options)]
        host = self.program([sys.executable, *words], **variables)
        wait_until(lambda: self._has_begun(before, host), 30, message=lambda: host.output)
        return host

    def program(self, command: list[str], **variables: str) -> LocalProcess:
        """Start any program in the hosts' environment."""
        host = LocalProcess(
            command,
            output=self.folder / f"host-{len(self.hosts)}.txt",
            environment={**self.environment, **variables},
            folder=self.folder,
        )
        self.hosts.append(host)
        return host

    def worker(self, pool: str = "threads", *options: str, supervised: bool = False) -> WorkerProcess:
        """A worker as deployments start it, not started yet."""
        environment = {**self._worker_environment, "EXECUTION_LOGGER_WORKER_POOL": pool}
        command = SUPERVISED if supervised else CELERY
        return WorkerProcess((*command, *options), environment=environment)

    def stop_hosts(self) -> None:
        """Have the hosts that still run end in order."""
        for host in self.hosts:
            host.stop()

    # What is where ---------------------------------------------------------------------------

    def progress(self) -> dict[str, Progress]:
        """How far each stream of calls has come."""
        return progress_of(self.calls)

    def returned(self) -> int:
        """Calls that have returned, of all streams."""
        return sum(progress.returned for progress in self.progress().values())

    def wait_for_calls(self, more: int, timeout_seconds: float = 20) -> None:
        """Wait until so many more calls have returned."""
        goal = self.returned() + more
        wait_until(lambda: self.returned() >= goal, timeout_seconds, message=self.hosts[-1].output.__str__)

    def rows(self) -> int:
        """Rows in the database, the library's own entries left out."""
        found = self.fetch("SELECT count(*) AS n FROM execution_logs WHERE task_id <> $1", OWN_TASK_ID)
        return int(found[0]["n"])

    def fetch(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        """The rows of a statement."""
        return fetch(self.database_url, statement, *arguments)

    def execute(self, statement: str) -> None:
        """Run a statement in the site's database."""
        self.postgres.execute(statement, database=self.database)

    def end_sessions(self) -> None:
        """End all sessions in the site's database."""
        statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
        self.postgres.execute(statement, self.database)

    def client(self) -> "redis.Redis":
        """A client of the broker's database, for a `with` statement."""
        return self.redis.client(self._redis_database)

    def queued(self) -> int:
        """`LLEN logs`."""
        with self.client() as client:
            return int(client.llen("logs"))

    def in_flight(self) -> int:
        """Batches that a worker has taken and not acknowledged."""
        with self.client() as client:
            return int(client.hlen("logs.unacked"))

    def dead_letters(self) -> list[str]:
        """The reasons of the dead letters."""
        rows = self.fetch("SELECT reason FROM execution_log_dead_letters ORDER BY created_at")
        return [str(row["reason"]) for row in rows]

    def refused(self) -> list[tuple[str, int]]:
        """The stream and the number of each call that is a dead letter."""
        texts = [row["entry"] for row in self.fetch("SELECT entry FROM execution_log_dead_letters")]
        return [(entry["task_id"], int(entry["message"])) for entry in map(json.loads, texts)]

    def journals(self) -> list[Path]:
        """The folder of each process that has entries on disk."""
        # Processes remove theirs meanwhile; a recursive search would stumble over that.
        return [folder for folder in self.journal.glob("*/*") if (folder / "lock").exists()]

    # The count -------------------------------------------------------------------------------

    def count(self, *, only_streams: bool = False, may_refuse: bool = False) -> Count:
        """Compare calls and rows as they are now; `only_streams` leaves rows out that no host has made.

        With `may_refuse` a call may as well be a dead letter; one that is both counts twice.
        """
        # First the rows, or one of a call that is made meanwhile would belong to none.
        stored = {row["task_id"]: row["numbers"] for row in self.fetch(_NUMBERS, OWN_TASK_ID)}
        for name, number in self.refused() if may_refuse else ():
            insort(stored.setdefault(name, []), number)  # in its place, if the rows are in order
        progress = self.progress()
        if only_streams:
            stored = {name: numbers for name, numbers in stored.items() if name in progress}
        return Count.of(progress, stored)

    def check_rows(
        self, timeout_seconds: float = 60, *, only_streams: bool = False, may_refuse: bool = False
    ) -> float:
        """Wait until each call is one row, and fail unless it is so; the seconds that it took.

        The hosts make no calls any more, or are waited for only as far as they have come by now.
        """
        began_at = time.monotonic()
        calls = self.returned()
        try:
            self._wait_for_rows(calls, timeout_seconds, may_refuse=may_refuse)
        finally:
            recovery_seconds = time.monotonic() - began_at
            count = self.count(only_streams=only_streams, may_refuse=may_refuse)
            self.cell.add(count, recovery_seconds)
        assert count.is_exact, f"{count}\n{self._outputs()}"
        assert "internal error" not in self._outputs()
        return recovery_seconds

    def check(self, timeout_seconds: float = 60) -> float:
        """The same, and nothing was refused: there are no dead letters."""
        recovery_seconds = self.check_rows(timeout_seconds)
        dead = self.dead_letters()
        assert dead == [], f"{len(dead)} dead letters: {dead[0]}"
        return recovery_seconds

    def check_refused(self, is_refused: Callable[[int], bool], timeout_seconds: float = 60) -> None:
        """The same, but the calls with some numbers are dead letters, and no others."""
        self.check_rows(timeout_seconds, may_refuse=True)
        refused = self.refused()
        assert refused
        assert [number for _, number in refused if not is_refused(number)] == []
        expected = sum(
            is_refused(number + 1) for each in self.progress().values() for number in range(each.returned)
        )
        assert len(refused) >= expected  # a call that had begun may be one, too
        self.cell.figures.rows -= len(refused)
        self.cell.figures.note = f"{len(refused)} dead letters, none lost"

    def _wait_for_rows(self, calls: int, timeout_seconds: float, *, may_refuse: bool) -> None:
        deadline = time.monotonic() + timeout_seconds
        try:
            if not may_refuse:
                wait_until(lambda: self.rows() >= calls, timeout_seconds, pause_seconds=_COUNT_PAUSE_SECONDS)
            # Rows of calls that never returned may stand in for lost ones.
            left = max(1.0, deadline - time.monotonic())
            wait_until(
                lambda: not self.count(may_refuse=may_refuse).lost, left, pause_seconds=_COUNT_PAUSE_SECONDS
            )
        except TimeoutError:
            return  # the count says what is missing
        # What a killed worker held comes again, and changes nothing.
        left = max(1.0, deadline - time.monotonic())
        wait_until(lambda: self.queued() + self.in_flight() == 0, left, pause_seconds=_COUNT_PAUSE_SECONDS)

    # Life ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill the hosts and remove everything."""
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder)
            stack.callback(self._drop_database)
            for host in self.hosts:
                stack.callback(host.kill)

    def _drop_database(self) -> None:
        if self._has_own_database and self.postgres.is_running:
            self.postgres.drop_database(self.database)

    def _has_begun(self, before: set[str], host: LocalProcess) -> bool:
        assert host.is_running() or host.wait() == 0, host.output
        return any(each.returned for name, each in self.progress().items() if name not in before)

    def _outputs(self) -> str:
        return "".join(f"--- host {host.pid}:\n{host.output[-4000:]}" for host in self.hosts)
