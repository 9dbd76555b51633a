"""What more hosts, more workers and a longer backlog change.

    python benchmarks/scale.py [--parts hosts,workers,outage] [--rounds 3] [--entries 40000]

Hosts: 1 to 8 processes log as fast as they can, and at a steady rate, to one worker. Workers: 1 to 4
processes, and 1 to 8 threads, empty a queue of the same messages, of 50 and of 500 entries. Outage:
10,000 to 1,000,000 entries pile up at a host whose broker is away, and are sent when it is back. All
rows are counted. Rounds alternate between the configurations. The servers share the machine with hosts
and workers; PostgreSQL does not wait for the disk, Redis has its AOF.

The processor time of every role is noted down as well: `simulate.py` calculates with it.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

import drain
import fleet
import outage
from drain import Backlog, Crew, Drained
from figures import Figures, Plot, Table, Target, main, number, progress, spread
from hosts import running_hosts
from services import ROLES
from system import System, running_system

HOSTS = (1, 2, 4, 8)
STEADY_RATES = ((1, 200), (1, 1000), (4, 1000), (8, 1000))
"""Hosts, and entries a second of each."""
STEADY_SECONDS = 8.0
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
BACKLOGS = ((50, 50_000), (500, 100_000))
"""Entries of a message, and of all messages."""
OUTAGES = (10_000, 100_000, 1_000_000)
LEAST_RATIO, MOST_MEMORY_MB = 0.8, 16.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which parts, and how much."""
    parser.add_argument("--parts", default="hosts,workers,outage", help="which of these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entries", type=int, default=40_000, help="of all hosts together, in each round")


def measure(options: argparse.Namespace) -> Figures:
    """All parts that are asked for, over the same servers."""
    figures = Figures()
    parts = {"hosts": measure_hosts, "workers": measure_workers, "outage": measure_outages}
    with running_system() as system:
        for part in options.parts.split(","):
            progress(part)
            system.clear()
            parts[part](system, options, figures)
    return figures


# Hosts ---------------------------------------------------------------------------------------


def measure_hosts(system: System, options: argparse.Namespace, figures: Figures) -> None:
    """As fast as they can, then at a steady rate."""
    counts, rounds = ((1, 2), 1) if options.quick else (HOSTS, options.rounds)
    worker = system.start_worker()
    with running_hosts(system, max(counts)) as hosts:
        fleet.warm_up(system, hosts)
        runs: dict[int, list[fleet.Run]] = {count: [] for count in counts}
        for _ in range(rounds):
            for count in counts:
                progress(f"  {count} hosts")
                entries = (5_000 if options.quick else options.entries) // count
                runs[count].append(fleet.run(system, hosts[:count], "log", entries))
        steady = []
        for count, rate in ((1, 1000),) if options.quick else STEADY_RATES:
            progress(f"  {count} hosts with {rate} entries a second each")
            seconds = 2.0 if options.quick else STEADY_SECONDS
            steady.append((rate, fleet.run(system, hosts[:count], "load", rate, seconds)))
    worker.stop()
    report_hosts(runs, figures)
    report_steady(steady, figures)


def report_hosts(runs: Mapping[int, Sequence[fleet.Run]], figures: Figures) -> None:
    """A row for each number of hosts; ratios of the same round."""
    first, rows = next(iter(runs)), []
    for count, some in runs.items():
        ratio = median(each.rate / one.rate for each, one in zip(some, runs[first], strict=True))
        rates, calls = [each.rate for each in some], [each.call_us for each in some]
        rows.append((f"{count}", spread(rates), f"{ratio:.2f}", number(median(calls))))
        figures.values[f"hosts {count}"] = median(rates)
        figures.values[f"others hosts {count}"] = median(each.taken.others for each in some)
    figures.tables.append(
        Table(
            "Hosts that log as fast as they can, one worker",
            ("hosts", "entries/s stored", "ratio", "mean call, µs"),
            rows,
            "From the first call to the last row; hosts, worker and servers share the cores.",
        )
    )
    figures.targets.append(
        Target(f"{count} hosts against {first}: entries/s", ratio, LEAST_RATIO, is_least=True)
    )
    points: list[tuple[str | float, float]] = [
        (float(count), median(each.rate for each in some)) for count, some in runs.items()
    ]
    figures.plots.append(Plot("Hosts", "host processes", "entries/s stored", {"stored": points}, "lines"))


def report_steady(steady: Sequence[tuple[int, fleet.Run]], figures: Figures) -> None:
    """A row for each load."""
    rows = []
    for rate, run in steady:
        cores = [run.taken.seconds[role] / run.seconds for role in ROLES]
        rows.append(
            (
                f"{run.hosts} with {rate} entries/s",
                *(number(run.latency_ms(percent)) for percent in (50, 99)),
                *(f"{share:.0%}" for share in cores),
            )
        )
        figures.values[f"steady {run.hosts} {rate}"] = run.latency_ms(50)
        figures.values[f"others steady {run.hosts} {rate}"] = run.taken.others
    figures.tables.append(
        Table(
            "Hosts at a steady rate, one worker",
            ("hosts", "p50, ms", "p99, ms", *(f"{role}, of a core" for role in ROLES)),
            rows,
            "From the oldest call of a full batch to its row: the wait for 50 entries is part of it.",
        )
    )


# Workers -------------------------------------------------------------------------------------


def measure_workers(system: System, options: argparse.Namespace, figures: Figures) -> None:
    """Every crew empties the same queues."""
    crews = (DEFAULT_CREW, CREWS[4]) if options.quick else CREWS
    sizes = ((50, 5_000), (500, 10_000)) if options.quick else BACKLOGS
    warm_up = drain.make_warm_up(system)
    backlogs = [drain.make_backlog(system, batch, entries) for batch, entries in sizes]
    found: defaultdict[str, list[list[Drained]]] = defaultdict(list)
    for _ in range(1 if options.quick else options.rounds):
        for crew in crews:
            found[crew.name].append(crew.drain_all(system, backlogs, warm_up))
    figures.values["row_bytes"] = drain.bytes_a_row(system)
    figures.values["message_bytes"] = backlogs[0].message_bytes
    report_workers(crews, backlogs, found, figures)
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
    many = max(crews, key=lambda crew: crew.workers)
    most, usual_rate = (figures.values[f"drain {crew.workers} 4 50"] for crew in (many, DEFAULT_CREW))
    name = f"{many.workers} workers against 1: rows/s, messages of 50"
    figures.targets.append(Target(name, most / usual_rate, LEAST_RATIO, is_least=True))


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


# Outage --------------------------------------------------------------------------------------


def measure_outages(system: System, options: argparse.Namespace, figures: Figures) -> None:
    """One backlog after the other, each at a fresh host."""
    rows, found = [], []
    for entries in (1_000, 10_000) if options.quick else OUTAGES:
        progress(f"  {entries:,} entries wait")
        each = outage.pile_up_and_drain(system, entries)
        found.append(each)
        memory = (each.memory_before, each.memory_waiting, each.memory_most)
        cells = (each.call_us, each.journal_megabytes, *memory, each.rate)
        rows.append((f"{entries:,}", *map(number, cells)))
    figures.tables.append(
        Table(
            "A backlog at a host whose broker is away",
            (
                "entries", "mean call, µs", "journal, MB", "memory before, MB", "with all waiting",
                "most while they are sent", "rows/s then",
            ),
            rows,
            "Rows/s: from the first batch to the last one, with one worker.",
        )
    )  # fmt: skip
    last, middle, first = found[-1], found[-2], found[0]
    ratio, more = last.rate / middle.rate, last.memory_most - first.memory_most
    names = [f"{each.entries:,}" for each in found]
    figures.targets += [
        Target(f"{names[-1]} waiting against {names[-2]}: rows/s", ratio, LEAST_RATIO, is_least=True),
        Target(f"{names[-1]} waiting against {names[0]}: more memory", more, MOST_MEMORY_MB, "MB"),
    ]


if __name__ == "__main__":
    main(__doc__, measure, add_options)
