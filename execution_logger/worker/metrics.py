"""The worker's metrics: what its processes have written, on a port of the main one.

Nobody is asked for them but this worker's own memory, so an answer never waits for a broker or a database.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from celery import Celery
from celery.signals import celeryd_after_setup, worker_process_init, worker_shutdown

from execution_logger.diagnostics import logger
from execution_logger.metrics import (
    PROCESS_COLLECTOR,
    Collector,
    Metric,
    MetricsServer,
    counter,
    gauge,
    histogram,
)
from execution_logger.settings import Settings
from execution_logger.worker.counters import WorkerCounters

_COUNTERS = {
    "batches_written": "Batches written, and those of which all was there already.",
    "rows_stored": "New rows.",
    "rows_duplicate": "Entries that were in the table already: their batch came once more.",
    "entries_dead_lettered": "Entries that the database has refused for good.",
    "batches_requeued": "Batches given back to the queue, by an outage or a shutdown.",
    "write_failures": "Attempts to write a batch that failed because of the database.",
}


class WorkerCollector(Collector):
    """A collector of what a worker has counted."""

    def __init__(self, counters: WorkerCounters) -> None:
        self._counters = counters

    def describe(self) -> Iterable[Metric]:
        """Nothing: no other collector has these names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now, over all processes of the worker."""
        figures = self._counters.figures()
        numbers = figures.numbers
        yield from (counter(f"worker_{name}", text, numbers[name]) for name, text in _COUNTERS.items())
        in_hand, down_seconds = numbers["batches_in_hand"], figures.database_down_seconds
        yield gauge(
            "worker_batches_in_hand", "Batches that are being written, or wait for the database.", in_hand
        )
        yield gauge(
            "worker_database_up", "Whether the last attempts to write worked.", float(not down_seconds)
        )
        yield gauge("worker_database_down_seconds", "Since when they fail; 0 when they work.", down_seconds)
        yield histogram("worker_batch_entries", "Entries in a batch written.", figures.batch_entries)
        yield histogram("worker_write_seconds", "Time to write a batch.", figures.write_seconds)


def show_metrics(app: Celery, settings: Settings, counters: WorkerCounters) -> None:
    """Show the counters for as long as a worker of this application runs in this process."""
    servers: list[MetricsServer] = []

    def on_setup(instance: Any = None, **_: Any) -> None:
        if getattr(instance, "app", None) is app and (server := _start(settings, counters)) is not None:
            servers.append(server)

    def on_end(**_: Any) -> None:
        while servers:
            servers.pop().close()

    # weak=False: Celery would forget these closures at once.
    celeryd_after_setup.connect(on_setup, weak=False)
    # A child has the socket, too, and would keep the port after its parent's death.
    worker_process_init.connect(on_end, weak=False)
    worker_shutdown.connect(on_end, weak=False)


def _start(settings: Settings, counters: WorkerCounters) -> MetricsServer | None:
    """None when the port cannot be had: batches are more important than figures."""
    address, port = settings.metrics_address, settings.metrics_port
    try:
        server = MetricsServer([WorkerCollector(counters), PROCESS_COLLECTOR], address, port)
    except OSError as error:
        logger.error(
            "the worker runs without metrics: %s:%d cannot be used: %s. Each worker of a machine needs "
            "an EXECUTION_LOGGER_METRICS_PORT of its own",
            address, port, error,
        )  # fmt: skip
        return None
    logger.info("the worker's metrics are at http://%s:%d/metrics", address, server.port)
    return server
