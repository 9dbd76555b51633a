"""What the library takes in memory: a waiting entry, a host and workers under load, and its import.

    python benchmarks/memory.py [--minutes 10] [--rate 1000] [--parts waiting,load,imports]

Waiting entries are measured in fresh processes whose broker is away, by the growth of the resident
memory and by what Python says that it has allocated. Under load a host logs at a steady rate, and two
workers, one of threads and one of processes, share its queue; every few seconds the memory and the
open files of all are noted down. Nothing may grow: the last fifth of the time is compared with the
second one, which are minutes 2 and 3 of 10, and all rows are counted. Imports are timed in fresh processes.

Peers: pip install loguru opentelemetry-sdk sentry-sdk structlog
"""

import argparse
import os
from collections.abc import Iterator
from functools import partial
from itertools import product
from statistics import median
from tempfile import TemporaryDirectory

import footprint
import imports
from figures import Figures, Plot, Table, Target, main, number, progress
from footprint import OURS, Footprint, Method
from hosts import running_hosts
from resources import folder_megabytes
from servers import RedisServer
from system import System, running_system
from watched import Watched, growth_targets, look_at, memory_plot, table_of, watch_processes

MB = 1e6
SIZES = {"small": 0, "2 KB": 2_000}
LIMIT_FACTOR, LIMIT_BYTES = 1.5, 200


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which parts, and how long."""
    parser.add_argument("--parts", default="waiting,load,imports", help="which of these")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the load is")
    parser.add_argument("--rate", type=float, default=1000.0, help="entries a second of the load")
    parser.add_argument("--interval", type=float, default=3.0, help="seconds between two looks")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; imports get three times as many")


def measure(options: argparse.Namespace) -> Figures:
    """All parts that are asked for."""
    if options.quick:
        options.minutes, options.interval, options.rounds = min(options.minutes, 0.05), 0.2, 1
    figures = Figures()
    parts = {"waiting": measure_waiting, "load": measure_load, "imports": measure_imports}
    for part in options.parts.split(","):
        progress(part)
        parts[part](options, figures)
    return figures


# Waiting entries -----------------------------------------------------------------------------


def measure_waiting(options: argparse.Namespace, figures: Figures) -> None:
    """In memory, on disk, and on their way."""
    entries = {"small": 90_000, "2 KB": 25_000}
    methods: tuple[Method, ...] = ("resident", "traced")
    if options.quick:  # too few to be seen in the resident memory
        entries, methods = dict.fromkeys(entries, 2_000), ("traced",)
    compare_waiting(entries, methods, options.rounds, figures)
    measure_journalled((20_000,) if options.quick else (10_000, 100_000, 300_000), figures)
    measure_unconfirmed(5_000 if options.quick else 50_000, figures)


def compare_waiting(
    entries: dict[str, int], methods: tuple[Method, ...], rounds: int, figures: Figures
) -> None:
    """A row for each logger, a column for each size of entries and each method."""
    rows: dict[str, list[str]] = {"encoded, for comparison": [], **{name: [] for name in footprint.LOGGERS}}
    for size, method in product(SIZES, methods):
        for name in footprint.LOGGERS:
            measured = [footprint.measure(name, entries[size], SIZES[size], method) for _ in range(rounds)]
            found = median(each.bytes_an_entry for each in measured)
            rows[name].append(number(found))
            if name == OURS:
                encoded = encoded_bytes(measured[0])
                rows["encoded, for comparison"].append(number(encoded))
                figures.targets.append(waiting_target(size, method, encoded, found))
    figures.tables.append(
        Table(
            "Memory of a waiting entry, in bytes",
            ("waits in", *(f"{size}, {method}" for size, method in product(SIZES, methods))),
            [(name, *cells) for name, cells in rows.items()],
            "Resident: growth of the process. Traced: what Python has allocated. What the others keep has "
            "still to be encoded, and their details are the caller's own objects; ours is a copy.",
        )
    )


def encoded_bytes(found: Footprint) -> float:
    """The encoded size of one entry."""
    return float(found.stats["waiting_bytes"]) / float(found.stats["waiting"])


def waiting_target(size: str, method: Method, encoded: float, found: float) -> Target:
    """What is allowed for entries of this size."""
    limit = LIMIT_FACTOR * encoded + LIMIT_BYTES
    return Target(f"a waiting entry, {size}, {method} memory", found, limit, "bytes")


def measure_journalled(counts: tuple[int, ...], figures: Figures) -> None:
    """In an outage entries are on disk, and only a window of them in memory."""
    rows = []
    for entries in counts:
        found = footprint.measure("journalled", entries, 0, "resident")
        cells = found.memory_bytes / MB, found.stats["journal_bytes"] / MB, found.stats["memory_bytes"] / MB
        rows.append((f"{entries:,}", *map(number, cells), number(max(0.0, found.bytes_an_entry))))
    figures.tables.append(
        Table(
            "What waits while the broker is away, journal on",
            ("entries", "memory, MB", "journal, MB", "entries held in memory, MB", "bytes an entry"),
            rows,
            "In memory is a window of 10,000 entries or 8 MiB; the first 2,000 were there before.",
        )
    )


def measure_unconfirmed(entries: int, figures: Figures) -> None:
    """What the broker has and the worker has not stored yet."""
    rows = []
    for kind in ("unconfirmed", "unconfirmed, journalled"):
        for batch in (50, 500):
            found = footprint.measure(kind, entries, 0, "traced", batch_size=batch, max_batch_entries=batch)
            if found.stats["unconfirmed"] != entries + footprint.WARM_UP_ENTRIES:
                raise RuntimeError(f"{found.stats['unconfirmed']} entries are unconfirmed")
            cells = found.bytes_an_entry, found.bytes_an_entry * batch
            rows.append((f"{kind}, batches of {batch}", *map(number, cells)))
    figures.tables.append(
        Table(
            "Memory of what is sent and not confirmed",
            ("", "bytes an entry", "bytes a batch"),
            rows,
            "Traced. Without a journal entries are kept until the worker's word; with one, their numbers.",
        )
    )


# Under load ----------------------------------------------------------------------------------


def measure_load(options: argparse.Namespace, figures: Figures) -> None:
    """A steady load for minutes."""
    seconds = options.minutes * 60
    with running_system() as system:
        workers = {
            "worker of 4 threads": system.start_worker(),
            "worker of 2 processes": system.start_worker(
                EXECUTION_LOGGER_WORKER_POOL="prefork", EXECUTION_LOGGER_WORKER_CONCURRENCY="2"
            ),
        }
        with running_hosts(system, 1) as (host,):
            pids = {"host": host.process.pid, **{name: worker.pid for name, worker in workers.items()}}
            watched = [*watch_processes(pids), *watch_stores(system)]
            host.begin("load", options.rate, seconds)
            look_at(watched, seconds, options.interval)
            answer = host.answer()
            system.wait_for_rows(answer["entries"])
    title = f"Under {number(options.rate)} entries a second, for {number(options.minutes)} minutes"
    note = f"{answer['entries']:,} entries, as many rows. Workers: sums of processes."
    figures.tables.append(table_of(watched, title, note))
    processes = [each for each in watched if each.name in pids]
    figures.plots.append(memory_plot(processes))
    figures.targets += growth_targets(processes)


def watch_stores(system: System) -> Iterator[Watched]:
    """What the journal and Redis hold."""
    yield Watched("journal", "MB", partial(folder_megabytes, system.folder / "journal"))
    with system.redis.client() as client:
        yield Watched("Redis", "MB", lambda: client.info("memory")["used_memory"] / MB)
        yield Watched("Redis", "keys", lambda: float(client.dbsize()))


# Imports -------------------------------------------------------------------------------------


def measure_imports(options: argparse.Namespace, figures: Figures) -> None:
    """Ours beside others."""
    with RedisServer() as redis, TemporaryDirectory() as folder:
        places = {"CELERY_BROKER_URL": redis.url(), "EXECUTION_LOGGER_JOURNAL_DIRECTORY": folder}
        rounds = 1 if options.quick else options.rounds * 3
        table, milliseconds = imports.compare(rounds, {**os.environ, **places})
    figures.tables.append(table)
    shown = {name: value for name, value in milliseconds.items() if name != imports.NOTHING}
    figures.plots.append(Plot("Import", "", "ms", {"import": [*shown.items()]}))


if __name__ == "__main__":
    main(__doc__, measure, add_options)
