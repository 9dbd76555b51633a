"""What more machines would do: a simulation of the whole way, fed with measured processor times.

    python benchmarks/simulate.py [--scale FILE] [--commit-ms 1] [--network-ms 0.2] [--seed 1]

FILE is what `scale.py --save FILE` has saved. Its processor times feed the model, and what it has measured
is set beside what the model says of the same machine. Without it the times are those of an earlier run.
Then the model is asked about machines that nobody here has: workers on cores of their own, and a
PostgreSQL that waits for its disk.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import figures as saved
from figures import Figures, Plot, Table, Target, main, number, percentile
from model import Model, Site
from services import Services

MEASURED = {
    "cores": 2.0,
    "hosts message_us": 260.0,
    "hosts entry_us": 9.0,
    "Redis message_us": 280.0,
    "Redis entry_us": 0.45,
    "workers message_us": 1650.0,
    "workers entry_us": 4.7,
    "PostgreSQL message_us": 170.0,
    "PostgreSQL entry_us": 8.7,
    "message_bytes 50": 20_000.0,
    "row_bytes 50": 320.0,
    "log_bytes 50": 400.0,
}
"""What an earlier run of scale.py has found, for a look without one."""
BATCH, LARGEST_BATCH = 50, 1000
MOST_DEVIATION = 0.25
WORKERS, POSTGRES_CORES = (1, 2, 4, 8, 16), (4, 16)
RATES = (100, 1_000, 10_000, 50_000)
FLEETS = ((10, 1), (50, 4), (100, 8))
"""Hosts, and workers."""
FLEET_RATE = 100
"""Entries/s of each host."""
BUSY = 0.7
"""Which part of its time a core should be busy at most: queues grow long beyond."""
SCALE = Path(__file__).resolve().parent / "results" / "scale.json"
_GB = 1e9


def add_options(parser: argparse.ArgumentParser) -> None:
    """What to feed the model with."""
    parser.add_argument(
        "--scale", type=Path, metavar="FILE", default=SCALE if SCALE.exists() else None,
        help="what scale.py has saved; by default, what the report has kept of it",
    )  # fmt: skip
    parser.add_argument("--commit-ms", type=float, default=1.0, help="until a disk has a commit")
    parser.add_argument("--network-ms", type=float, default=0.2, help="one way between two machines")
    parser.add_argument("--seed", type=int, default=1)


def measure(options: argparse.Namespace) -> Figures:
    """Compare with what was measured, then go beyond."""
    figures = Figures()
    values = {**MEASURED, **(saved.load(options.scale).values if options.scale else {})}
    services = Services.measured(values)
    if options.scale:
        check(values, services, options, figures)
    beyond = replace(
        services, commit_seconds=options.commit_ms / 1e3, network_seconds=options.network_ms / 1e3
    )
    predict_workers(beyond, options, figures)
    predict_latencies(beyond, options, figures)
    calculate(values, services, figures)
    return figures


# Against what was measured -------------------------------------------------------------------


def check(
    values: Mapping[str, float], services: Services, options: argparse.Namespace, figures: Figures
) -> None:
    """A row for each measured point; the model knows no more than the processor times and the cores."""
    rows, deviations = [], []
    for name, unit, predicted, found in predictions(values, services, options):
        deviation = predicted / found - 1
        deviations.append(abs(deviation))
        rows.append((name, f"{number(predicted)} {unit}", f"{number(found)} {unit}", f"{deviation:+.0%}"))
    figures.tables.append(
        Table(
            "The model against the measurement",
            ("", "model", "measured", "deviation"),
            rows,
            f"One machine with {values['cores']:.0f} cores, which others may have used as well.",
        )
    )
    name = "deviation of the model from the measurement, median"
    figures.targets.append(Target(name, median(deviations), MOST_DEVIATION))


def predictions(
    values: Mapping[str, float], services: Services, options: argparse.Namespace
) -> Iterator[tuple[str, str, float, float]]:
    """What it is, its unit, what the model says of it, and what was measured."""
    cores = (int(values["cores"]),)
    for key, found in values.items():
        kind, *rest = key.split()
        if f"others {key}" not in values:
            continue
        numbers, others = [int(each) for each in rest], values[f"others {key}"]
        if kind == "drain":
            workers, concurrency, batch = numbers
            site = Site(1, workers, concurrency, cores, others)
            name = f"{workers} x {concurrency} threads empty a queue of messages of {batch}"
            rate = Model(site, services, seed=options.seed).drain(batch, 50_000 // batch)
            yield name, "rows/s", rate, found
            continue
        model = Model(Site(numbers[0], 1, 4, cores, others), services, seed=options.seed)
        if kind == "hosts":
            yield f"{numbers[0]} hosts as fast as they can", "rows/s", model.log(80_000 // numbers[0]), found
        else:
            name = f"{numbers[0]} hosts with {numbers[1]} entries/s each, median latency"
            yield name, "ms", percentile(model.load(numbers[1], 8), 50) * 1e3, found


# Beyond --------------------------------------------------------------------------------------


def predict_workers(services: Services, options: argparse.Namespace, figures: Figures) -> None:
    """Workers with a core each, and a PostgreSQL with few cores or many."""
    rows = []
    series: dict[str, list[tuple[str | float, float]]] = {}
    for workers in WORKERS:
        cells = []
        for batch in (BATCH, LARGEST_BATCH):
            for cores in POSTGRES_CORES:
                model = Model(Site(1, workers, 4, (1, 1, 1, cores)), services, seed=options.seed)
                rate = model.drain(batch, (40 if options.quick else 250) * workers)
                role, share = model.busiest()
                cells.append(f"{rate:,.0f} ({role} {share:.0%})")
                name = f"messages of {batch}, {cores} cores"
                series.setdefault(name, []).append((float(workers), rate))
        rows.append((str(workers), *cells))
    figures.tables.append(
        Table(
            "Predicted: workers on cores of their own, rows/s",
            ("workers of 4 threads", *(f"{name} of PostgreSQL" for name in series)),
            rows,
            f"In brackets who is busiest. {options.commit_ms:g} ms for a commit, {options.network_ms:g} ms "
            "between two machines, one Redis.",
        )
    )
    figures.plots.append(Plot("Predicted", "workers", "rows/s", series, kind="lines"))


def predict_latencies(services: Services, options: argparse.Namespace, figures: Figures) -> None:
    """Many hosts at a usual rate."""
    rows = []
    for hosts, workers in FLEETS:
        model = Model(Site(hosts, workers, 4, (1, 1, 1, 16)), services, seed=options.seed)
        latencies = model.load(FLEET_RATE, 3 if options.quick else 10)
        role, share = model.busiest()
        cells = (percentile(latencies, percent) * 1e3 for percent in (50, 99))
        rows.append((f"{hosts}", f"{workers}", *map(number, cells), f"{role} {share:.0%}"))
    figures.tables.append(
        Table(
            f"Predicted: hosts with {FLEET_RATE} entries/s each",
            ("hosts", "workers", "p50, ms", "p99, ms", "busiest"),
            rows,
            f"From the oldest call of a batch to its row; until {BATCH} entries are there it takes "
            f"{BATCH / FLEET_RATE * 1e3:,.0f} ms.",
        )
    )


def calculate(values: Mapping[str, float], services: Services, figures: Figures) -> None:
    """What a rate takes, without any simulation."""
    rows = []
    for rate in RATES:
        messages, per_day = rate / BATCH, rate * 86_400
        cores = [
            messages * service.of(BATCH)
            for service in (services.worker, services.postgres, services.redis, services.host)
        ]
        workers = max(1, -int(-cores[0] // BUSY))
        rows.append(
            (
                f"{rate:,}",
                number(messages),
                number(messages * values[f"message_bytes {BATCH}"] / 1e6),
                str(workers),
                str(4 * workers),
                *map(number, cores[1:]),
                number(per_day / 1e6),
                number(per_day * values[f"row_bytes {BATCH}"] / _GB),
                number(per_day * values[f"log_bytes {BATCH}"] / _GB),
            )
        )
    figures.tables.append(
        Table(
            "What a rate takes",
            (
                "entries/s", "messages/s", "MB/s into the queue", "workers", "connections",
                "PostgreSQL, cores", "Redis, cores", "hosts, cores",
                "million rows a day", "GB of rows a day", "GB of write-ahead log a day",
            ),
            rows,
            f"Messages of {BATCH} entries; workers of 4 threads that are busy for {BUSY:.0%} of the time; "
            f"rows of {values[f'row_bytes {BATCH}']:,.0f} bytes with their indexes.",
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, measure, add_options)
