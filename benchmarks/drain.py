"""Workers that empty a full queue: the same messages for all of them."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from figures import progress
from hosts import running_hosts
from ledger import stored_batches
from processors import ProcessorTime
from system import System

from waiting import wait_until
from workers import WorkerProcess

_STORE = 1
"""The Redis database that keeps the messages; workers take theirs from database 0."""
_WARM_UP_ENTRIES = 3_200
_FILL_SECONDS = 120.0
_DRAIN_SECONDS = 300.0


@dataclass(frozen=True)
class Backlog:
    """Messages that were made once, and what making them took."""

    name: str
    batch: int
    """Entries of a message; a few have less."""
    entries: int
    messages: int
    message_bytes: int
    processor_seconds: dict[str, float]


@dataclass(frozen=True)
class Drained:
    """What a drain took."""

    seconds: float
    taken: ProcessorTime


def make_backlog(system: System, batch: int, entries: int) -> Backlog:
    """Let a host fill the queue without a worker, and put its messages away."""
    name = f"backlog-{batch}-{entries}"
    settings = {
        "EXECUTION_LOGGER_BATCH_SIZE": str(batch),
        "EXECUTION_LOGGER_MAX_BATCH_ENTRIES": str(batch),
        "EXECUTION_LOGGER_SHUTDOWN_TIMEOUT_SECONDS": "0",  # nobody confirms what workers get later
        "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(system.folder / name),  # which nobody shall adopt
    }
    with running_hosts(system, 1, **settings) as (host,), system.redis.client() as client:
        host.ask("log", batch)
        wait_until(lambda: client.llen("logs") == 1, _FILL_SECONDS)
        with ProcessorTime(system, [host]) as taken:
            host.ask("log", entries - batch)
            wait_until(lambda: not host.ask("stats")["stats"]["waiting"], _FILL_SECONDS)
        messages, message_bytes = client.llen("logs"), len(client.lindex("logs", -1) or "")
        client.rename("logs", name)
        client.move(name, _STORE)
        client.flushdb()
    share = entries / (entries - batch)
    processor_seconds = {role: seconds * share for role, seconds in taken.seconds.items()}
    return Backlog(name, batch, entries, messages, message_bytes, processor_seconds)


def drain(system: System, backlog: Backlog) -> Drained:
    """Put the messages into the queue at once, and wait until the workers have stored all of them."""
    system.postgres.execute("TRUNCATE execution_logs, execution_log_batches")
    with (
        ProcessorTime(system) as taken,
        system.redis.client(_STORE) as store,
        system.redis.client() as client,
    ):
        store.copy(backlog.name, "logs", destination_db=0)
        began_at = time.time()
        wait_until(lambda: client.llen("logs") + client.hlen("unacked") == 0, _DRAIN_SECONDS)
    system.wait_for_rows(backlog.entries)
    last = stored_batches(system)[-1]
    with system.redis.client() as client:
        client.flushdb()  # the workers' word of the batches: the next drain is of the same ones
    return Drained(last.stored_at - began_at, taken)


@dataclass(frozen=True)
class Crew:
    """Workers of one kind."""

    name: str
    workers: int
    concurrency: int
    pool: str = "threads"

    def drain_all(self, system: System, backlogs: list[Backlog], warm_up: Backlog) -> list[Drained]:
        """Start them, let them empty each of the backlogs, and stop them."""
        progress(f"  {self.name}")
        with ThreadPoolExecutor(self.workers) as pool:  # it takes seconds to start one
            started = list(pool.map(lambda _: self._start(system), range(self.workers)))
            drain(system, warm_up)
            found = [drain(system, backlog) for backlog in backlogs]
            list(pool.map(WorkerProcess.stop, started))
        return found

    def _start(self, system: System) -> WorkerProcess:
        return system.start_worker(
            EXECUTION_LOGGER_WORKER_POOL=self.pool,
            EXECUTION_LOGGER_WORKER_CONCURRENCY=str(self.concurrency),
        )


def bytes_a_row(system: System) -> float:
    """What a row of the last drain takes on the disk, with its indexes and its share of the ledger."""
    tables = "pg_total_relation_size('execution_logs') + pg_total_relation_size('execution_log_batches')"
    ((size, rows),) = system.postgres.execute(f"SELECT {tables}, count(*) FROM execution_logs")  # noqa: S608
    return float(size) / float(rows)


def make_warm_up(system: System) -> Backlog:
    """Enough for each worker to load all that its first batch loads."""
    return make_backlog(system, 50, _WARM_UP_ENTRIES)
