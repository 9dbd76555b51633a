"""What more hosts, more workers and a longer backlog change.

    python benchmarks/scale.py [--parts hosts,workers,outage] [--rounds 3] [--entries 80000]

Hosts: 1 to 8 processes log as fast as they can, and at a steady rate, to one worker. Workers: 1 to 4
processes, and 1 to 8 threads, empty a queue of the same messages, of 50 and of 1,000 entries. Outage:
10,000 to 1,000,000 entries pile up at a host whose broker is away, and are sent when it is back. All
rows are counted. Rounds alternate between the configurations. The servers share the machine with hosts
and workers; PostgreSQL does not wait for the disk, Redis has its AOF.

The processor time of every role is noted down as well: `simulate.py` calculates with it.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from statistics import median

import crews
import fleet
import outage
from figures import Figures, Plot, Table, Target, main, number, progress, spread
from hosts import running_hosts
from services import ROLES
from system import System, running_system

HOSTS = (1, 2, 4, 8)
STEADY_RATES = ((1, 200), (1, 1000), (4, 1000), (8, 1000))
"""Hosts, and entries a second of each."""
STEADY_SECONDS = 8.0
OUTAGES = (10_000, 100_000, 1_000_000)
LEAST_RATIO, MOST_MEMORY_MB = 0.8, 16.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which parts, and how much."""
    parser.add_argument("--parts", default="hosts,workers,outage", help="which of these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entries", type=int, default=80_000, help="of all hosts together, in each round")


def measure(options: argparse.Namespace) -> Figures:
    """All parts that are asked for, over the same servers."""
    figures = Figures(values={"cores": float(os.cpu_count() or 1)})
    parts = {"hosts": measure_hosts, "workers": crews.measure_workers, "outage": measure_outages}
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
                runs[count].append(fleet.run(system, hosts[:count], "burst", entries))
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
