"""Workers that empty a full queue: the same messages for all of them."""

import time
from dataclasses import dataclass

from hosts import running_hosts
from ledger import stored_batches
from processors import ProcessorTime
from system import System
from waiting import wait_until

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
    row_bytes: float
    """What a row takes in PostgreSQL, with its indexes and its share of the ledger."""
    log_bytes: float
    """What a row takes in the write-ahead log."""
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
    ((began_log_at,),) = system.postgres.execute("SELECT pg_current_wal_lsn()::text")
    with (
        ProcessorTime(system) as taken,
        system.redis.client(_STORE) as store,
        system.redis.client() as client,
    ):
        store.copy(backlog.name, "logs", destination_db=0)
        began_at = time.time()
        wait_until(lambda: client.llen("logs") + client.hlen("logs.unacked") == 0, _DRAIN_SECONDS)
    system.wait_for_rows(backlog.entries)
    last = stored_batches(system)[-1]
    ((table_bytes, log_bytes),) = system.postgres.execute(
        "SELECT pg_total_relation_size('execution_logs') + pg_total_relation_size('execution_log_batches'),"
        " pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::float8",
        began_log_at,
    )
    with system.redis.client() as client:
        client.flushdb()  # the workers' word of the batches: the next drain is of the same ones
    return Drained(
        last.stored_at - began_at, table_bytes / backlog.entries, log_bytes / backlog.entries, taken
    )


def make_warm_up(system: System) -> Backlog:
    """Enough for each worker to load all that its first batch loads."""
    return make_backlog(system, 50, _WARM_UP_ENTRIES)
