"""For the tests of hosts: what was logged, in a list.

`capture_entries` is for tests that look at the entries. `MemoryDelivery` is for those that want the
whole way, with batches, failures and flush: `ExecutionLogger(make_delivery=lambda: delivery)`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.entry.entry import LogEntry
from execution_logger.settings import NOTHING, Settings
from execution_logger.shipping.flush import Flush
from execution_logger.shipping.pipeline import Pipeline

__all__ = ["MemoryDelivery", "capture_entries"]


@contextmanager
def capture_entries(logger: ExecutionLogger = execution_logger) -> Iterator[list[LogEntry]]:
    """Keep what is recorded within the block in a list, which each call fills, and deliver none of it.

    That is what comes by way of `logger`, of loggers bound to fields of it and of `logger.sync`, in
    any thread and task. What was recorded before is delivered as ever. The idea is that of
    structlog's `capture_logs`.

    Examples:
        >>> with capture_entries() as entries:
        ...     await run_workflow()
        >>> assert [entry.level for entry in entries] == ["info", "error"]

    Args:
        logger: whose entries; the ready `execution_logger` by default.

    Raises:
        SettingsError: a variable is wrong, as at any first call.
    """
    host = logger._host  # noqa: SLF001 - it is one of us
    used = host.pipeline
    capture = _Capture(used.settings if used else host.settings or Settings.from_environment(uses=NOTHING))
    host.replace(capture)
    try:
        yield capture.entries
    finally:
        host.replace(used)


class _Capture(Pipeline):
    """Ends where entries have been made."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, MemoryDelivery)
        self.entries: list[LogEntry] = []
        make_entry = self.make_entry

        def keep_entry(*fields: Any) -> tuple[LogEntry, bytes]:
            entry, encoded = make_entry(*fields)
            self.entries.append(entry)
            return entry, encoded

        vars(self).update(make_entry=keep_entry, accept=lambda _: True)

    def begin(self) -> Flush:
        """Nothing is delivered: a host that gets ready within the block needs no thread."""
        return self.flush(0.0)

    def in_this_process(self) -> Pipeline:
        """Itself: what a forked child records ends in its copy of the list."""
        return self


class MemoryDelivery:
    """Keeps every batch it is given; `failures` makes the next attempts raise."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.failures: list[Exception] = []

    def deliver(self, batch: Batch) -> Receipt:
        """Keep the batch, or raise the next of `failures`."""
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(batch)
        return Receipt(Guarantee.STORED)

    def close(self) -> None:
        """Nothing to release."""

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Every delivered entry, decoded, in the order of delivery."""
        return [entry for batch in self.batches for entry in msgspec.json.decode(batch.to_json())]
