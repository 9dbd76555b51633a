"""Asking all parts of the system at once, for a bounded time."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from execution_logger.diagnostics import logger
from execution_logger.errors import ExecutionLoggerError
from execution_logger.metrics import Collector, Metric, gauge
from execution_logger.operate.exporter.broker import read_broker
from execution_logger.operate.exporter.journals import read_journals
from execution_logger.operate.exporter.tables import read_tables
from execution_logger.operate.exporter.workers import read_workers
from execution_logger.settings import Settings

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
