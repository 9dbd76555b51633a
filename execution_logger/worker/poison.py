"""Counts the workers that died over a batch: it may be too large, or a trap for what reads it."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from execution_logger.errors import StoreUnavailableError
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.confirmations import Confirmer

CAREFUL_DEATHS = 3
"""After so many a batch is stored entry by entry: less to choke on, and what is stored stays stored."""

MOST_DEATHS = 8
"""After so many it is not tried any more. Workers are killed for other reasons, too, again and again."""

_SLICE_SECONDS = 0.1


class Deaths:
    """Watches over the batches of a process.

    Of those that come again one at a time is tried: when the worker dies, only that one is to blame.
    """

    def __init__(self, confirmer: Confirmer) -> None:
        self._confirmer = confirmer
        self._one_at_a_time = threading.Lock()

    def watch(self, batch: ReceivedBatch, may_wait: Callable[[], bool]) -> "Watch":
        """Enter the watch to try the batch; `may_wait` is asked while others come first."""
        return Watch(batch, self._confirmer, self._one_at_a_time, may_wait)


class Watch:
    """While it is entered and not ended, the end of the process is a death over the batch.

    A message says only that a worker was given it before. That counts as a death, unless the worker
    handed it back, or waited for the database: then `end()` has taken it off. So nothing is counted
    for a batch that comes for the first time and is written at once.
    """

    def __init__(
        self, batch: ReceivedBatch, confirmer: Confirmer, lock: threading.Lock, may_wait: Callable[[], bool]
    ) -> None:
        self.deaths = 0
        self._batch = batch
        self._confirmer = confirmer
        self._lock = lock
        self._may_wait = may_wait
        self._is_over = False

    @property
    def is_suspicious(self) -> bool:
        """Whether the batch is to be tried with care."""
        return self.deaths >= CAREFUL_DEATHS

    @property
    def is_deadly(self) -> bool:
        """Whether the batch is not to be tried."""
        return self.deaths >= MOST_DEATHS

    def __enter__(self) -> Self:
        if self._batch.is_redelivered:
            self._wait()
            self.deaths = self._confirmer.add_deaths(self._batch, 1)
        return self

    def end(self) -> None:
        """The batch was tried and nobody has died; it will be tried again."""
        if not self._is_over:
            self._release()
            self._confirmer.add_deaths(self._batch, -1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.end()
            return
        if not self._is_over:
            self._release()
        if self._batch.is_redelivered:
            self._confirmer.forget_deaths(self._batch)

    def _wait(self) -> None:
        while not self._lock.acquire(timeout=_SLICE_SECONDS):
            if not self._may_wait():
                raise StoreUnavailableError("other batches that come again take too long")

    def _release(self) -> None:
        self._is_over = True
        if self._batch.is_redelivered:
            self._lock.release()
