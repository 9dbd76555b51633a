"""What a worker process holds: one event loop in a thread of its own, one engine, one writer."""

import asyncio
import os
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from execution_logger.diagnostics import logger
from execution_logger.errors import StoreUnavailableError
from execution_logger.settings import Settings
from execution_logger.store import Writer, WriteResult, create_engine

_T = TypeVar("_T")

_SLICE_SECONDS = 0.1
_PAUSE_SECONDS = 1.0
_GRACE_SECONDS = 5.0


class _Process:
    """The loop's thread, the engine and the writer of the process that made them."""

    def __init__(self, settings: Settings, connections: int) -> None:
        self.pid = os.getpid()
        # First, because it may raise, and the thread would be left over.
        self._engine = create_engine(settings, pool_size=connections)
        self.writer = Writer(self._engine, settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="execution-logger-store", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_seconds: float) -> _T:
        result = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return result.result(timeout_seconds)
        except TimeoutError:
            result.cancel()
            raise

    def close(self) -> None:
        try:
            self.run(self._engine.dispose(), _GRACE_SECONDS)
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
        self._settings = settings
        # Celery gives a batch to another worker after the visibility timeout. Half of it is for waiting,
        # the other half for the attempt that is under way when the waiting ends.
        limits = (
            settings.visibility_timeout_seconds,
            settings.task_soft_time_limit,
            settings.task_time_limit,
        )
        self._patience_seconds = min(limit for limit in limits if limit is not None) / 2
        self._process: _Process | None = None
        self._lock = threading.Lock()
        self._is_down = False

    def write(self, batch_id: str, entries: str) -> WriteResult:
        """Write the batch; while the database is away try again, for half the visibility timeout.

        Raises:
            StoreUnavailableError: that time is over, or the worker shuts down; the batch goes back.
        """
        give_up_at = time.monotonic() + self._patience_seconds
        while True:
            try:
                result = self._attempt(batch_id, entries)
            except StoreUnavailableError as error:
                self._note_down(error)
                self.pause()
                if self.stopping or time.monotonic() >= give_up_at:
                    raise
            else:
                self._note_up()
                return result

    def pause(self) -> None:
        """Wait a second, or until the worker shuts down."""
        until = time.monotonic() + _PAUSE_SECONDS
        while not self.stopping and time.monotonic() < until:
            time.sleep(_SLICE_SECONDS)

    def close(self) -> None:
        """Close the connections and end the loop's thread; does nothing in a process that has none."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            process.close()

    def _attempt(self, batch_id: str, entries: str) -> WriteResult:
        process = self._current()
        # The writer keeps to its own timeout; this one is for a loop that does not turn any more.
        timeout_seconds = self._settings.database_timeout_seconds + _GRACE_SECONDS
        try:
            return process.run(process.writer.write(batch_id, entries), timeout_seconds)
        except TimeoutError as error:
            raise StoreUnavailableError(f"no answer within {timeout_seconds:g} s") from error

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
