"""The host's metrics: what `stats()` says of this process, read when Prometheus asks.

Nothing is counted twice, and nothing is done in a logging call for it. Needs the extra `prometheus`.

>>> instrument()                                                    # in the default registry
>>> registry.register(ExecutionLoggerCollector(execution_logger))   # in one of your own
>>> serve(range(9550, 9560))                                        # a port for each of several processes
"""

import errno
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.diagnostics import report
from execution_logger.errors import ExecutionLoggerError, SettingsError
from execution_logger.metrics import (
    REGISTRY,
    Collector,
    CollectorRegistry,
    Metric,
    MetricsServer,
    counter,
    gauge,
    histogram,
    labelled_counter,
)

_REASONS = ("buffer_full", "journal_full", "journal_failed", "journal_unreadable")
"""Why entries are dropped: told from the start, or the first drop would be no increase."""

_COUNTERS = {
    "accepted": ("entries_accepted", "Entries recorded; delivered + waiting + dropped."),
    "delivered": ("entries_delivered", "Entries sent; stored + dead_lettered + handed_over + unconfirmed."),
    "stored": ("entries_stored", "Entries whose rows are known to be committed."),
    "dead_lettered": ("entries_dead_lettered", "Entries that the database has refused for good."),
    "handed_over": (
        "entries_handed_over",
        "Entries the broker has taken, and no worker confirms.",
    ),
    "adopted": ("entries_adopted", "Entries of dead processes that this one has sent."),
    "batches": ("batches_delivered", "Batches sent."),
    "batches_sent_again": ("batches_sent_again", "Batches sent once more, because they were lost."),
    "failed_attempts": ("delivery_failures", "Attempts to send that failed."),
    "internal_errors": ("internal_errors", "Errors of the library itself that it has survived."),
}

_GAUGES = {
    "waiting": ("entries_waiting", "Entries not sent yet, in memory and on disk."),
    "unconfirmed": ("entries_unconfirmed", "Entries sent and not known to be stored."),
    "waiting_bytes": ("waiting_bytes", "Size of the entries not sent yet."),
    "memory_bytes": ("memory_bytes", "Size of the entries held in memory."),
    "journal_bytes": ("journal_bytes", "Size of this process's journal on disk."),
    "oldest_unwritten_seconds": (
        "oldest_unwritten_age_seconds",
        "Age of the oldest entry that is not safe elsewhere; 0 without one.",
    ),
    "held_back": ("held_back", "Whether sending is held back because the broker is full."),
}

_UP = {
    "last_error": ("delivery_up", "Whether the last attempt to send worked."),
    "confirmation_error": ("confirmation_up", "Whether the result backend answered last time."),
    "journal_error": ("journal_up", "Whether the journal takes entries."),
}

_LIMITS = {
    "buffer_max_bytes": ("memory_limit_bytes", "Most bytes of entries held in memory."),
    "journal_max_bytes": ("journal_limit_bytes", "Most bytes of the journal on disk."),
    "queue_max_messages": ("queue_limit_messages", "Length of the queue at which sending is held back."),
}

_HISTOGRAMS = {
    "batch_entries": ("batch_entries", "Entries in a batch."),
    "delivery_seconds": ("delivery_seconds", "Time to send a batch; without Celery, to write it."),
    "store_seconds": (
        "store_seconds",
        "Time from sending a batch to the confirmation that it is stored.",
    ),
}


class ExecutionLoggerCollector(Collector):
    """A collector for any registry, of one logger.

    It reads the logger's `stats()`, and so shows the process that is asked: a forked child its own.

    Args:
        logger: the ready `execution_logger` by default. Loggers that are bound to fields share one.
    """

    def __init__(self, logger: ExecutionLogger = execution_logger) -> None:
        self._logger = logger
        self._has_reported = False

    def describe(self) -> Iterable[Metric]:
        """Nothing: a logger is not to be used before the host has configured it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now; none while a setting is wrong, which the first call says as well."""
        try:
            stats, settings = self._logger.stats(), self._logger.settings
        except SettingsError as error:
            if not self._has_reported:
                self._has_reported = True
                report(logging.ERROR, "there are no metrics of the execution logger: %s", error)
            return
        yield from _counters(stats)
        yield from (gauge(*names, float(stats[key])) for key, names in _GAUGES.items())
        yield from (gauge(*names, float(stats[key] is None)) for key, names in _UP.items())
        yield from (gauge(*names, float(getattr(settings, key))) for key, names in _LIMITS.items())
        if stats["guarantee"] is not None:
            text = "Whether entries are kept until they are stored, and not only until the broker has them."
            yield gauge("confirmed", text, float(stats["guarantee"] == "stored"))
        yield from (histogram(*names, stats[key]) for key, names in _HISTOGRAMS.items())


def instrument(
    logger: ExecutionLogger = execution_logger, registry: CollectorRegistry = REGISTRY
) -> ExecutionLoggerCollector:
    """Show a logger's metrics with all the others of the host; return what `registry.unregister` takes."""
    collector = ExecutionLoggerCollector(logger)
    registry.register(collector)
    return collector


def serve(
    ports: Iterable[int], address: str = "127.0.0.1", *, logger: ExecutionLogger = execution_logger
) -> MetricsServer:
    """Show a logger's metrics on a port of this process's own: the first of `ports` that is free.

    For hosts of several processes, each of which calls it, after the fork: Prometheus' client cannot
    merge what collectors say, and a process behind a shared port would answer for itself only.

    Returns:
        The server, whose `close()` ends it.

    Raises:
        ExecutionLoggerError: none of the ports is free.
    """
    ports = list(ports)
    for port in ports:
        try:
            return MetricsServer([ExecutionLoggerCollector(logger)], address, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ExecutionLoggerError(
                    f"{address}:{port}: no metrics can be shown there: {error}"
                ) from error
    raise ExecutionLoggerError(f"{address}: no port is free among {ports}: give more ports than processes")


def _counters(stats: dict[str, Any]) -> Iterator[Metric]:
    yield from (counter(*names, stats[key]) for key, names in _COUNTERS.items())
    dropped = dict.fromkeys(_REASONS, 0) | stats["dropped"]
    yield labelled_counter("entries_dropped", "Entries dropped, with memory or disk full.", "reason", dropped)
