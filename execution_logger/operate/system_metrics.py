"""The metrics that belong to no process: queue, broker, workers, tables, journals on this machine's disk.

They are asked for when Prometheus asks, all at once and for a bounded time, by one small process of their
own: a worker that has died cannot tell that there is none.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from execution_logger.diagnostics import logger
from execution_logger.metrics import Collector, Metric, gauge, labelled_gauge
from execution_logger.operate.asking import Asking, Facts
from execution_logger.operate.facts import ask_for
from execution_logger.settings import Settings

ANSWER_SECONDS = 1.7
"""How long a part is waited for: workers take a second to answer."""

_FRESH_SECONDS = 1.0

_UP = {
    "queue": ("broker", "Whether the broker has answered."),
    "dead_letters": ("database", "Whether the database has answered."),
    "journals": ("journals", "Whether the journals' directory could be read."),
}
"""What a part stands for."""


class SystemCollector(Collector):
    """A collector of what the parts of the system say.

    Of a part that is away, or does not answer in time, it says just that.

    Args:
        settings: name the parts.
        asking: asks them.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        settings: Settings,
        asking: Asking | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Never the table of the entries itself, which is large.
        of_database = ("dead_letters", "jobs") if settings.database_url else ()
        names = ("journals", "queue", "workers", *of_database)
        self._settings = settings
        self._asking = asking or ask_for(settings, names, ANSWER_SECONDS)
        self._monotonic = monotonic
        self._errors: dict[str, str] = {}
        self._lock = threading.Lock()
        self._families: list[Metric] = []
        self._fresh_until = monotonic()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering it asks nobody."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics; those of the last second, if there are any."""
        with self._lock:
            if self._monotonic() >= self._fresh_until:
                self._families = list(self._ask())
                self._fresh_until = self._monotonic() + _FRESH_SECONDS
            families = self._families
        yield from families

    def _ask(self) -> Iterator[Metric]:
        for name, part in self._asking.ask().items():
            subject, text = _UP.get(name, (name, ""))
            self._note(subject, part.error)
            if text:
                yield gauge(f"{subject}_up", text, float(part.error is None))
            if part.error is None:
                yield from _METRICS[name](part.facts, self._settings)

    def _note(self, name: str, error: str | None) -> None:
        """Say when a part goes away, and when it is back, but not with every scrape."""
        if error is not None and name not in self._errors:
            logger.warning("%s: no metrics: %s", name, error)
        if error is None and self._errors.pop(name, None) is not None:
            logger.info("%s: metrics again", name)
        if error is not None:
            self._errors[name] = error


def _queue(facts: Facts, settings: Settings) -> Iterator[Metric]:
    """How much is in the queue, how old it is, and how full a Redis is."""
    length = facts["length"]
    yield gauge("queue_messages", "Batches that wait in the queue.", length.waiting)
    limit = settings.queue_max_messages
    yield gauge("queue_limit_messages", "Length of the queue at which sending is held back.", limit)
    if length.in_flight is not None:  # other brokers do not tell
        yield gauge("queue_in_flight_messages", "Batches that workers have in hand.", length.in_flight)
        text = "Age of the oldest entry in the queue or in a worker's hands; 0 without one."
        yield gauge("queue_oldest_age_seconds", text, _age_seconds(length.oldest))
    if length.quarantined is not None:
        yield gauge("queue_quarantined_messages", "Malformed messages, moved aside.", length.quarantined)
    if facts["memory"] is not None:
        used, most = facts["memory"]
        yield gauge("broker_memory_bytes", "Memory that Redis has used.", used)
        if most:
            yield gauge("broker_memory_limit_bytes", "Redis' maxmemory; absent without one.", most)


def _age_seconds(oldest: datetime | None) -> float:
    return 0.0 if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())


def _workers(facts: Facts, _: Settings) -> Iterator[Metric]:
    """Those of one name count once."""
    yield gauge("workers_online", "Workers that take from the queue.", len(facts["online"]))


def _dead_letters(facts: Facts, _: Settings) -> Iterator[Metric]:
    text = "Entries that the database has refused, and that are kept."
    yield gauge("dead_letters", text, facts["dead_letters"])


def _jobs(facts: Facts, _: Settings) -> Iterator[Metric]:
    succeeded_at = {job.job.name: job.run.succeeded_at for job in facts["jobs"]}
    seconds = {name: 0.0 if at is None else at.timestamp() for name, at in succeeded_at.items()}
    text = "When a scheduled job has last succeeded; 0 for never."
    # Not the label `job`, which is Prometheus' own for what it scrapes.
    yield labelled_gauge("job_last_success_timestamp_seconds", text, "name", seconds)


def _journals(facts: Facts, _: Settings) -> Iterator[Metric]:
    """Those of all destinations, of living processes and of those that left something."""
    numbers, sizes = ({"living": 0.0, "dead": 0.0} for _ in range(2))
    for journal in (each for destination in facts["destinations"] for each in destination.journals):
        state = "living" if journal.is_alive else "dead"
        numbers[state] += journal.size_bytes > 0
        sizes[state] += journal.size_bytes
    yield labelled_gauge("journals", "Journals on this machine that hold something.", "process", numbers)
    yield labelled_gauge("journals_bytes", "Their size.", "process", sizes)


_METRICS: dict[str, Callable[[Facts, Settings], Iterator[Metric]]] = {
    "journals": _journals,
    "queue": _queue,
    "workers": _workers,
    "dead_letters": _dead_letters,
    "jobs": _jobs,
}
