"""Workers of several kinds that empty the same queues: rows a second, processor time, sizes."""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from drain import Backlog, Drained, drain, make_backlog, make_warm_up
from figures import Figures, Table, number, progress, spread
from services import ROLES
from system import System
from workers import WorkerProcess


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


CREWS = (
    Crew("1 worker, 1 thread", 1, 1),
    Crew("1 worker, 2 threads", 1, 2),
    Crew("1 worker, 4 threads (default)", 1, 4),
    Crew("1 worker, 8 threads", 1, 8),
    Crew("2 workers, 4 threads each", 2, 4),
    Crew("4 workers, 4 threads each", 4, 4),
    Crew("1 worker, 4 processes", 1, 4, "prefork"),
)
DEFAULT_CREW = CREWS[2]
BACKLOGS = ((50, 50_000), (1000, 100_000))
"""Entries of a message, and of all messages."""


def measure_workers(system: System, options: argparse.Namespace, figures: Figures) -> None:
    """Every crew empties the same queues."""
    crews = (DEFAULT_CREW, CREWS[4]) if options.quick else CREWS
    sizes = ((50, 5_000), (1000, 10_000)) if options.quick else BACKLOGS
    warm_up = make_warm_up(system)
    backlogs = [make_backlog(system, batch, entries) for batch, entries in sizes]
    found: defaultdict[str, list[list[Drained]]] = defaultdict(list)
    for _ in range(1 if options.quick else options.rounds):
        for crew in crews:
            found[crew.name].append(crew.drain_all(system, backlogs, warm_up))
    report_workers(crews, backlogs, found, figures)
    report_sizes(backlogs, found[DEFAULT_CREW.name], figures)
    report_service(backlogs, found[DEFAULT_CREW.name], figures)


def report_workers(
    crews: Sequence[Crew],
    backlogs: Sequence[Backlog],
    found: Mapping[str, list[list[Drained]]],
    figures: Figures,
) -> None:
    """A row for each crew, two columns for each size of messages."""
    rows = []
    for crew in crews:
        cells = []
        for at, backlog in enumerate(backlogs):
            rates = [backlog.entries / drained[at].seconds for drained in found[crew.name]]
            usual = [backlog.entries / drained[at].seconds for drained in found[DEFAULT_CREW.name]]
            ratio = median(one / other for one, other in zip(rates, usual, strict=True))
            cells += [spread(rates), f"{ratio:.2f}"]
            if crew.pool == "threads":
                name = f"drain {crew.workers} {crew.concurrency} {backlog.batch}"
                figures.values[name] = median(rates)
                figures.values[f"others {name}"] = median(each[at].taken.others for each in found[crew.name])
        rows.append((crew.name, *cells))
    figures.tables.append(
        Table(
            "Workers that empty a full queue: rows/s",
            ("", *(text for each in backlogs for text in (f"messages of {each.batch}", "ratio"))),
            rows,
            f"Queues: {', '.join(f'{each.messages:,} of {each.batch}' for each in backlogs)} entries. "
            "Ratios to the default.",
        )
    )


def report_sizes(backlogs: Sequence[Backlog], drained: list[list[Drained]], figures: Figures) -> None:
    """What an entry takes on its way, and where it stays."""
    rows = []
    for at, backlog in enumerate(backlogs):
        row_bytes, log_bytes = (
            median(getattr(each[at], name) for each in drained) for name in ("row_bytes", "log_bytes")
        )
        cells = (backlog.message_bytes, backlog.message_bytes / backlog.batch, row_bytes, log_bytes)
        rows.append((f"messages of {backlog.batch}", *map(number, cells)))
        for name, value in zip(("message", "row", "log"), (cells[0], *cells[2:]), strict=True):
            figures.values[f"{name}_bytes {backlog.batch}"] = value
    figures.tables.append(
        Table(
            "Sizes, in bytes",
            (
                "",
                "message",
                "its share of an entry",
                "row, with indexes and ledger",
                "write-ahead log of a row",
            ),
            rows,
            "PostgreSQL writes no full pages here (`full_page_writes=off`): usually its log is larger.",
        )
    )


def report_service(backlogs: Sequence[Backlog], drained: list[list[Drained]], figures: Figures) -> None:
    """What a message and an entry cost each role, from messages of two sizes."""
    rows = []
    for role in ROLES:
        costs = [
            1e6
            / backlog.messages
            * (backlog.processor_seconds[role] + median(each[at].taken.seconds[role] for each in drained))
            for at, backlog in enumerate(backlogs)
        ]
        small, large = (backlog.batch for backlog in backlogs)
        entry_us = max(0.0, (costs[1] - costs[0]) / (large - small))
        message_us = max(0.0, costs[0] - small * entry_us)
        rows.append((role, number(message_us), number(entry_us)))
        figures.values[f"{role} message_us"] = message_us
        figures.values[f"{role} entry_us"] = entry_us
    figures.tables.append(
        Table(
            "Processor time, in µs",
            ("", "of a message", "of an entry"),
            rows,
            "Of a message of n entries: the first figure and n times the second. Hosts: calls included.",
        )
    )
