"""The metrics that belong to no process: queue, broker, workers, tables, journals on this machine's disk.

They are asked for when Prometheus asks, all at once and for a bounded time, by one small process of their
own: a worker that has died cannot tell that there is none.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from execution_logger.broker.depth import is_redis, open_channel, queue_length
from execution_logger.diagnostics import logger
from execution_logger.errors import ExecutionLoggerError
from execution_logger.journal.directory import lock_folder, own_folders, state_directory
from execution_logger.journal.segment import Segment
from execution_logger.metrics import Collector, Metric, gauge, labelled_gauge
from execution_logger.operate.workers import workers_online
from execution_logger.read.overview import Vitals, vitals
from execution_logger.settings import Settings
from execution_logger.store import create_engine

_ATTEMPT_SECONDS = 1.5


def read_tables(settings: Settings) -> list[Metric]:
    """The dead letters, and the jobs that look after the tables; never the table of the entries itself.

    Raises:
        StoreUnavailableError: the database cannot be used now, or a table is missing.
    """
    seconds = min(_ATTEMPT_SECONDS, settings.database_timeout_seconds)
    found = asyncio.run(_read(replace(settings, database_timeout_seconds=seconds)))
    letters = gauge(
        "dead_letters", "Entries that the database has refused, and that are kept.", found.dead_letters
    )
    return [letters, *_jobs(found.jobs_succeeded_at)] if found.jobs_succeeded_at else [letters]


async def _read(settings: Settings) -> Vitals:
    engine = create_engine(settings, pool_size=1)
    try:
        return await vitals(engine, settings)
    finally:
        await engine.dispose()


def _jobs(succeeded_at: Mapping[str, float]) -> list[Metric]:
    text = "When a scheduled job has last succeeded; 0 for never."
    # Not the label `job`, which is Prometheus' own for what it scrapes.
    return [labelled_gauge("job_last_success_timestamp_seconds", text, "name", succeeded_at)]


def read_broker(settings: Settings) -> list[Metric]:
    """How much is in the queue, how old it is, and how full a Redis is.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    length = queue_length(settings)
    numbers = {
        ("queue_messages", "Batches that wait in the queue."): length.waiting,
        ("queue_limit_messages", "Length of the queue at which sending is held back."): (
            settings.queue_max_messages
        ),
        ("queue_in_flight_messages", "Batches that workers have in hand."): length.in_flight,
        ("queue_quarantined_messages", "Malformed messages, moved aside."): length.quarantined,
    }
    found = [gauge(*names, number) for names, number in numbers.items() if number is not None]
    if length.in_flight is not None:  # other brokers do not tell
        text = "Age of the oldest entry in the queue or in a worker's hands; 0 without one."
        found.append(gauge("queue_oldest_age_seconds", text, _age_seconds(length.oldest)))
    return [*found, *_read_memory(settings)]


def _age_seconds(oldest: datetime | None) -> float:
    return 0.0 if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())


def _read_memory(settings: Settings) -> list[Metric]:
    """What Redis compares itself when it refuses a write; nothing where this user may not ask."""
    with open_channel(settings) as channel:
        if not is_redis(channel):
            return []
        try:
            memory = channel.client.info("memory")
        except channel.ResponseError:
            return []
    if "used_memory" not in memory:  # a server that is like Redis, but for this
        return []
    used = memory["used_memory"] - memory.get("mem_not_counted_for_evict", 0)
    found = [gauge("broker_memory_bytes", "Memory that Redis has used.", used)]
    if limit := memory.get("maxmemory"):
        found.append(gauge("broker_memory_limit_bytes", "Redis' maxmemory; absent without one.", limit))
    return found


_STATES = ("living", "dead")


class JournalsUnreadableError(ExecutionLoggerError):
    """The journals of this machine cannot be read."""


def read_journals(settings: Settings) -> list[Metric]:
    """How many there are, and how large they are, of living processes and of those that left something.

    Those of all destinations, and of this user.

    Raises:
        JournalsUnreadableError: naming the directory.
    """
    directory = state_directory(settings)
    try:
        journals, size_bytes = _sum_up(directory)
    except OSError as error:
        raise JournalsUnreadableError(f"{directory} cannot be read: {error}") from error
    return [
        labelled_gauge("journals", "Journals on this machine that hold something.", "process", journals),
        labelled_gauge("journals_bytes", "Their size.", "process", size_bytes),
    ]


def _sum_up(directory: Path) -> tuple[dict[str, float], dict[str, float]]:
    journals, sizes = (dict.fromkeys(_STATES, 0.0) for _ in range(2))
    for folder in _folders(directory):
        try:
            size = sum(each.path.stat().st_size for each in Segment.left_in(folder))
            # Without segments it may be a folder that a process is about to lock.
            state = _STATES[size > 0 and _is_dead(folder)]
        except FileNotFoundError:  # its process is done with it
            continue
        journals[state] += size > 0
        sizes[state] += size
    return journals, sizes


def _folders(directory: Path) -> Iterator[Path]:
    """Those of all processes; nothing where no host has ever run."""
    for destination in own_folders(directory) if directory.is_dir() else ():
        yield from own_folders(destination)


def _is_dead(folder: Path) -> bool:
    lock_fd = lock_folder(folder)
    if lock_fd is not None:
        os.close(lock_fd)
    return lock_fd is not None


def read_workers(settings: Settings) -> list[Metric]:
    """How many take from the queue; those of one name count once.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    return [gauge("workers_online", "Workers that take from the queue.", len(workers_online(settings)))]


ANSWER_SECONDS = 1.7
"""How long a part is waited for: workers take a second to answer."""

_FRESH_SECONDS = 1.0

Read = Callable[[], list[Metric]]
"""Asks a part; raises `ExecutionLoggerError` when it does not answer."""

_UP = {
    "broker": "Whether the broker has answered.",
    "database": "Whether the database has answered.",
    "journals": "Whether the journals' directory could be read.",
}


class SystemCollector(Collector):
    """A collector of what the parts of the system say.

    Of a part that is away, or does not answer in time, it says just that. A part that hangs holds up no
    other one, and is not asked once more until it has answered.

    Args:
        reads: how to ask each part.
        answer_seconds: how long all of them are waited for.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        reads: Mapping[str, Read],
        answer_seconds: float = ANSWER_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reads = reads
        self._answer_seconds = answer_seconds
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(len(reads), thread_name_prefix="execution-logger-exporter")
        self._questions: dict[str, Future[list[Metric]]] = {}
        self._errors: dict[str, str] = {}
        self._lock = threading.Lock()
        self._families: list[Metric] = []
        self._fresh_until = monotonic()

    @classmethod
    def of(cls, settings: Settings) -> "SystemCollector":
        """The collector of the parts that these settings name."""
        parts = {"journals": read_journals}
        if settings.celery_enabled:
            parts |= {"broker": read_broker, "workers": read_workers}
        if settings.database_url:
            parts["database"] = read_tables
        return cls({name: partial(read, settings) for name, read in parts.items()})

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

    def close(self) -> None:
        """Wait until nobody is asked any more."""
        self._pool.shutdown()

    def _ask(self) -> Iterator[Metric]:
        for name, read in self._reads.items():
            if name not in self._questions or self._questions[name].done():
                self._questions[name] = self._pool.submit(read)
        wait(self._questions.values(), self._answer_seconds)
        for name, question in self._questions.items():
            families, error = self._answer(question)
            self._note(name, error)
            if name in _UP:
                yield gauge(f"{name}_up", _UP[name], float(error is None))
            yield from families

    def _answer(self, question: "Future[list[Metric]]") -> tuple[list[Metric], str | None]:
        """What a part says, or why it says nothing."""
        if not question.done():
            return [], f"no answer within {self._answer_seconds:g} s"
        error = question.exception()
        if error is None:
            return question.result(), None
        if not isinstance(error, ExecutionLoggerError):
            logger.error("the exporter has a defect; the other parts are shown", exc_info=error)
        return [], str(error)

    def _note(self, name: str, error: str | None) -> None:
        """Say when a part goes away, and when it is back, but not with every scrape."""
        if error is not None and name not in self._errors:
            logger.warning("%s: no metrics: %s", name, error)
        if error is None and self._errors.pop(name, None) is not None:
            logger.info("%s: metrics again", name)
        if error is not None:
            self._errors[name] = error
