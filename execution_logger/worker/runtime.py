"""What a worker process holds: one event loop in a thread of its own, one engine, one writer."""

import asyncio
import os
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from execution_logger.diagnostics import logger, untraced
from execution_logger.errors import BatchHeldError, StoreUnavailableError
from execution_logger.settings import Settings
from execution_logger.store import Writer, WriteResult, create_engine
from execution_logger.worker.batch import ReceivedBatch
from execution_logger.worker.confirmations import Confirmer
from execution_logger.worker.counters import WorkerCounters
from execution_logger.worker.jobs import time_limit_seconds
from execution_logger.worker.poison import Watch

_T = TypeVar("_T")

_SLICE_SECONDS = 0.1
_PAUSE_SECONDS = 1.0
_GRACE_SECONDS = 5.0
_HELD_AGAIN_SECONDS = 5.0


class _Process:
    """The loop's thread, the engine and the writer of the process that made them."""

    def __init__(self, settings: Settings, connections: int) -> None:
        self.pid = os.getpid()
        # First, because it may raise, and the thread would be left over.
        self.engine = create_engine(settings, pool_size=connections)
        self.writer = Writer(self.engine, settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="execution-logger-store", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_seconds: float) -> _T:
        with untraced():  # the loop runs it in a copy of the context that is here
            result = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return result.result(timeout_seconds)
        except TimeoutError:
            result.cancel()
            raise

    def close(self) -> None:
        try:
            self.run(self.engine.dispose(), _GRACE_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_GRACE_SECONDS)
            self._loop.close()


class Runtime:
    """Writes batches for the task, and waits while the database is away.

    Loop and engine are made at the first batch of each process: an engine that a fork copied would
    share its sockets with the parent, and a new loop per task could not reuse a connection.
    """

    def __init__(self, settings: Settings) -> None:
        self.connections = settings.worker_concurrency
        # A plain flag: it is set inside a signal handler, which may interrupt any lock of its thread.
        self.stopping = False
        self.counters = WorkerCounters()
        self._settings = settings
        # Celery gives a batch to another worker after the visibility timeout. Half of it is for waiting,
        # the other half for the attempt that is under way when the waiting ends.
        self._patience_seconds = time_limit_seconds(settings) / 2
        self._confirmer = Confirmer(settings)
        self._one_at_a_time = threading.Lock()
        self._process: _Process | None = None
        self._lock = threading.Lock()
        self._is_down = False

    def write(self, batch: ReceivedBatch) -> WriteResult:
        """Write the batch; while the database is away try again, for half the visibility timeout.

        Its producer is told what has become of it, if it asks. A batch that has ended several workers
        becomes dead letters.

        Raises:
            StoreUnavailableError: that time is over, or the worker shuts down, or the database wants this
                batch later (`BatchHeldError`); it goes back.
        """
        give_up_at = time.monotonic() + self._patience_seconds

        def may_wait() -> bool:
            return not self.stopping and time.monotonic() < give_up_at

        held_at = None
        watch = Watch(batch, self._confirmer, self._one_at_a_time, may_wait)
        with untraced(), self.counters.in_hand(), watch:
            while True:
                began_at = time.monotonic()
                try:
                    result = self._attempt(batch, watch)
                except BatchHeldError as error:
                    # Others may be stored meanwhile, so this is no outage, and it keeps no thread.
                    watch.end()
                    self.counters.failed(is_down=False)
                    self._hold(batch, error)
                    self.pause()
                    raise
                except StoreUnavailableError as error:
                    watch.end()
                    self.counters.failed()
                    self._note_down(error)
                    held_at = self._hold(batch, error) if held_at is None else held_at
                    self.pause()
                    if not may_wait():
                        if time.monotonic() - held_at > _HELD_AGAIN_SECONDS:
                            self._hold(batch, error)
                        raise
                else:
                    self.counters.written(result, time.monotonic() - began_at)
                    self._note_up()
                    self._confirmer.stored(batch, result)
                    return result

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_seconds: float) -> _T:
        """Run something of the worker's on the loop; a little later than its own timeout it is given up.

        Raises:
            StoreUnavailableError: the loop does not turn any more.
        """
        timeout_seconds += _GRACE_SECONDS
        try:
            return self._current().run(coroutine, timeout_seconds)
        except TimeoutError as error:
            raise StoreUnavailableError(f"no answer within {timeout_seconds:g} s") from error

    def pause(self) -> None:
        """Wait a second, or until the worker shuts down."""
        until = time.monotonic() + _PAUSE_SECONDS
        while not self.stopping and time.monotonic() < until:
            time.sleep(_SLICE_SECONDS)

    def close(self) -> None:
        """Close the connections and end the loop's thread; does nothing in a process that has none."""
        self._confirmer.close()
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            process.close()

    def _attempt(self, batch: ReceivedBatch, watch: Watch) -> WriteResult:
        process = self._current()
        place: dict[str, Any] = {"process": batch.process, "first": batch.first}
        if watch.is_deadly:
            reason = f"{watch.deaths} workers have died over its batch"
            writing = process.writer.refuse(batch.id, batch.entries, reason, **place)
        else:
            writing = process.writer.write(batch.id, batch.entries, **place, one_by_one=watch.is_suspicious)
        result = self.run(writing, self._settings.database_timeout_seconds)
        if watch.is_deadly:
            logger.error("batch %s is in the dead letters, whole: %s", batch.id, reason)
        return result

    def _hold(self, batch: ReceivedBatch, error: StoreUnavailableError) -> float:
        """Tell the producer that the batch waits; return when."""
        self._confirmer.held(batch, str(error))
        return time.monotonic()

    def _current(self) -> _Process:
        with self._lock:
            if self._process is None or self._process.pid != os.getpid():
                self._process = _Process(self._settings, self.connections)
            return self._process

    def _note_down(self, error: StoreUnavailableError) -> None:
        if not self._is_down:
            self._is_down = True
            logger.error("the database takes no rows, batches wait in the queue: %s", error)

    def _note_up(self) -> None:
        if self._is_down:
            self._is_down = False
            logger.warning("the database takes rows again")
