"""Worker, Beat and Flower together under load for an hour: nothing grows, and every scheduled job runs.

    python benchmarks/operation.py [--minutes 60] [--rate 200]

A host logs at a steady rate; `execution-logger worker`, `beat` and `flower` run beside it as an operator
starts them, but with every job due twelve times in the time given. Memory and open files of all are
noted down every few seconds, the last fifth of the time is compared with the second one, and all rows
are counted. Flower's page is asked for all the time, as by somebody who leaves it open.
"""

import argparse
import json
import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from figures import Figures, Table, Target, main, number, progress
from hosts import running_hosts
from processes import LocalProcess
from rows import fetch
from server import free_port
from system import System, running_system
from waiting import wait_until
from watched import Watched, growth_targets, look_at, memory_plot, table_of, watch_processes

RUNS = 12
JOBS = ("health", "statistics", "retention")
READY = {"worker": "ready.", "beat": "beat: Starting", "flower": "Visit me at"}
"""What each prints when it is."""

_START_SECONDS = 30.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long, and how much."""
    parser.add_argument("--minutes", type=float, default=60.0, help="how long")
    parser.add_argument("--rate", type=float, default=200.0, help="entries a second")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two looks")


def measure(options: argparse.Namespace) -> Figures:
    """Start all, let the time pass, count."""
    if options.quick:
        options.minutes, options.interval = min(options.minutes, 1.2), 0.5
    seconds, every_minutes = options.minutes * 60, max(1, round(options.minutes / RUNS))
    with (
        running_system() as system,
        running_services(system, every_minutes) as (services, page),
        running_hosts(system, 1) as (host,),
    ):
        pids = {"host": host.process.pid, **{name: service.pid for name, service in services.items()}}
        processes = list(watch_processes(pids))
        host.begin("load", options.rate, seconds)
        look_at([*processes, Watched("page of Flower", "bytes", page)], seconds, options.interval)
        entries = host.answer()["entries"]
        system.wait_for_rows(entries)
        jobs = fetch(system.postgres.url(), "SELECT name, past_runs FROM execution_log_job_runs")
        assert all(service.is_running() for service in services.values())
    runs = {job["name"]: json.loads(job["past_runs"]) for job in jobs}
    least_runs = int(options.minutes / every_minutes) - (0 if options.quick else 1)
    return figures_of(options, processes, entries, runs, least_runs)


@contextmanager
def running_services(system: System, every_minutes: int) -> Iterator[tuple[dict[str, LocalProcess], Any]]:
    """The three commands, started and ready, and what asks for the page of Flower."""
    schedule = f"*/{every_minutes} * * * *"
    port = free_port()
    environment = {
        **os.environ,
        "CELERY_BROKER_URL": system.redis.url(),
        "DATABASE_URL": system.postgres.url(),
        "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(system.folder / "services"),
        "FLOWER_PORT": str(port),
        **{f"EXECUTION_LOGGER_SCHEDULE_{job.upper()}": schedule for job in JOBS},
    }
    with ExitStack() as stack:
        services = {name: stack.enter_context(running(name, system, environment)) for name in READY}
        yield services, partial(length_of_page, f"http://127.0.0.1:{port}/broker")


@contextmanager
def running(name: str, system: System, environment: Mapping[str, str]) -> Iterator[LocalProcess]:
    """`execution-logger NAME`, ready; it ends in order."""
    command = [sys.executable, "-m", "execution_logger.cli", name]
    output = system.folder / f"{name}.txt"
    service = LocalProcess(command, output=output, environment=environment, folder=system.folder)
    try:
        wait_until(lambda: READY[name] in service.output, _START_SECONDS, message=lambda: service.output)
        yield service
    finally:
        service.stop()
        progress(service.output[-2_000:])


def length_of_page(url: str) -> float:
    """Of a web page; the time that it takes counts for nothing here."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own Flower
        return float(len(answer.read()))


def figures_of(
    options: argparse.Namespace,
    watched: Sequence[Watched],
    entries: int,
    jobs: Mapping[str, Sequence[Mapping[str, Any]]],
    least_runs: int,
) -> Figures:
    """Both tables, the plot, and the targets."""
    figures = Figures()
    title = f"An hour's operation at {number(options.rate)} entries a second"
    if options.minutes != 60:  # noqa: PLR2004 - the minutes of an hour
        title = f"{number(options.minutes)} minutes of operation at {number(options.rate)} entries a second"
    figures.tables.append(table_of(watched, title, f"{entries:,} entries, as many rows."))
    figures.tables.append(
        Table(
            "The scheduled jobs meanwhile",
            ("job", "runs", "failed"),
            [(name, str(len(jobs[name])), str(failures(jobs[name]))) for name in JOBS],
        )
    )
    figures.plots.append(memory_plot(watched))
    figures.targets += growth_targets(watched)
    figures.targets += [
        Target(f"runs of the job {name}", len(jobs[name]), least_runs, is_least=True) for name in JOBS
    ]
    figures.targets += [Target(f"failures of the job {name}", failures(jobs[name]), 0) for name in JOBS]
    return figures


def failures(runs: Sequence[Mapping[str, Any]]) -> int:
    """How many of these runs have failed."""
    return sum(run["outcome"] != "succeeded" for run in runs)


if __name__ == "__main__":
    main(__doc__, measure, add_options)
