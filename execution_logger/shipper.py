"""The one background thread of a process: waits, takes batches, delivers them, backs off, reports.

The order of things that matters here:

* The wake-up event is cleared *before* looking for work, so that an entry which arrives meanwhile
  wakes the thread again (as Sentry's batcher does; the other way round a full batch waits).
* No lock is held while delivering, and none that a logging call takes is held while waiting.
* A batch stays at the head, with its id, until it is delivered: order survives every failure.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from execution_logger.backoff import Backoff
from execution_logger.buffer import Batch, Buffer
from execution_logger.delivery import Delivery
from execution_logger.diagnostics import InternalErrors, logger
from execution_logger.errors import DeliveryError
from execution_logger.settings import Settings

THREAD_NAME = "execution-logger"

_FLUSHING_PAUSE_SECONDS = 0.25
"""Longest pause between attempts while somebody waits in flush()."""


@dataclass(slots=True, eq=False)
class _Flush:
    """Somebody waits, until `expires_at`, for the ticket to be settled; then the thread may have to stop."""

    ticket: int
    expires_at: float
    then_stop: bool
    done: "Future[None]"


class Shipper:
    """Moves entries from the buffer to the delivery.

    Args:
        settings: batch sizes, intervals, bounds.
        make_delivery: called in the thread, at the first attempt.
        before_thread: called in the host's thread before a new thread starts.
        after_delivery: called in the thread after each delivered batch.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        settings: Settings,
        make_delivery: Callable[[], Delivery],
        *,
        before_thread: Callable[[], None] = lambda: None,
        after_delivery: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.buffer = Buffer(settings, monotonic)
        self.errors = InternalErrors()
        self.batches_delivered = 0
        self.failed_attempts = 0
        self.last_error: str | None = None
        self._batch_size = settings.batch_size
        self._make_delivery = make_delivery
        self._before_thread = before_thread
        self._after_delivery = after_delivery
        self._monotonic = monotonic
        self._delivery: Delivery | None = None
        self._batch: Batch | None = None
        self._backoff = Backoff(settings.retry_pause_max_seconds)
        self._retry_at = 0.0
        self._flushes: list[_Flush] = []
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._running = False
        self._stops: list[Future[None]] = []
        # For starting and ending the thread, and the list of flushes; held for assignments only.
        self._lock = threading.RLock()

    # Called by the host's threads ------------------------------------------------------------

    def accept(self, encoded: bytes) -> bool:
        """Take an entry to deliver; False when the buffer is full."""
        waiting = self.buffer.put(encoded)
        # The thread sleeps until the first entry arms its timer or a batch is full. Each full batch
        # also finds out whether the thread still lives.
        if waiting == 1 or waiting % self._batch_size == 0 or not self._running:
            self.wake()
        return waiting > 0

    def wake(self) -> None:
        """Let the thread look for work; start it when there is none (first call, died, shut down)."""
        with self._lock:
            if not self.is_alive:
                self._start()
        self._wake.set()

    def flush(self, timeout_seconds: float, *, then_stop: bool = False) -> "Future[None]":
        """Deliver all that was accepted so far, now; the future is done when it is all settled.

        With `then_stop` the thread then ends, and the future is done when it has. The next accepted
        entry starts a new one. The timeout says how long the caller looks: nothing is dropped after it.
        """
        done: Future[None] = Future()
        # A running future cannot be cancelled: set_result() never meets one that asyncio gave up.
        done.set_running_or_notify_cancel()
        ticket = self.buffer.queued
        nothing_to_do = self.buffer.settled >= ticket and not (then_stop and self.is_alive)
        if nothing_to_do or self.is_own_thread():
            done.set_result(None)
            return done
        with self._lock:
            self._flushes.append(_Flush(ticket, self._monotonic() + timeout_seconds, then_stop, done))
        self._retry_at = 0.0
        self.wake()
        return done

    def drive(self, until: float) -> None:
        """Do the thread's work in the caller's thread until all is delivered, or `until` (monotonic).

        For the end of the interpreter, when no thread can be started any more.
        """
        while self.buffer.held and not self.is_alive and (left := until - self._monotonic()) > 0:
            self._wake.wait(min(left, self.seconds_until_due() or 0.0))
            self._wake.clear()
            self.deliver_due()
            self._ended()

    def is_own_thread(self) -> bool:
        """Whether the caller is the shipper's thread, which must never wait for itself."""
        return threading.current_thread() is self._thread

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    # The thread ------------------------------------------------------------------------------

    def _start(self) -> None:
        self._before_thread()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._running = True
        try:
            self._thread.start()
        except RuntimeError:  # no thread can start while the interpreter shuts down: see drive()
            self._thread, self._running = None, False

    def _run(self) -> None:
        while not self._ended():
            self._wake.wait(self.seconds_until_due())
            self._wake.clear()
            self.deliver_due()

    def _ended(self) -> bool:
        with self._lock:
            if not self._stops:
                return False
            # Under the lock: an entry that comes now either sees the thread and wakes it, or sees that
            # it is gone and starts the next one.
            self._thread, self._running = None, False
            stops, self._stops = self._stops, []
            delivery, self._delivery = self._delivery, None
        self._close(delivery)
        # What came while we stopped is delivered as ever; what an outage holds back waits for the next call.
        if self.buffer.held and self.last_error is None:
            self.wake()
        for stop in stops:
            stop.set_result(None)
        return True

    def seconds_until_due(self) -> float | None:
        """Seconds until the next attempt; 0 for now, None when there is nothing to do."""
        if self._stops:
            return 0.0
        if self._batch is None and not self._flushes:
            return self.buffer.seconds_until_due()
        return max(0.0, self._retry_at - self._monotonic())

    def deliver_due(self) -> None:
        """Deliver every batch that is due, until an attempt fails or a stop is asked for."""
        while not self._stops and self.seconds_until_due() == 0:
            try:
                self._batch = self._batch or self.buffer.take()
                if self._batch is None:
                    self._answer_flushes()
                    return
                self._attempt(self._batch)
            except Exception as error:  # noqa: BLE001 - nothing may end the thread
                self.errors.record("shipper", error)
                self._failed(f"{type(error).__name__}: {error}")

    def _attempt(self, batch: Batch) -> None:
        try:
            self._delivery = self._delivery or self._make_delivery()
            self._delivery.deliver(batch)
        except DeliveryError as error:
            self._failed(str(error))
            return
        self._delivered(batch)

    def _delivered(self, batch: Batch) -> None:
        if self.last_error is not None:
            logger.info("delivery works again; %d entries were kept", self.buffer.held)
        self.last_error = None
        self._backoff.reset()
        self.batches_delivered += 1
        self._batch = None
        self.buffer.settle(batch)
        self._answer_flushes()
        self._after_delivery()

    def _failed(self, reason: str) -> None:
        if self.last_error is None:
            logger.warning("delivery failed, entries are kept and sent again: %s", reason)
        self.last_error = reason
        self.failed_attempts += 1
        self._answer_flushes()
        pause = self._backoff.next_pause_seconds()
        if self._flushes:
            pause = min(pause, _FLUSHING_PAUSE_SECONDS)
        self._retry_at = self._monotonic() + pause

    def _answer_flushes(self) -> None:
        """Answer those whose entries are settled, and those who wait no longer."""
        settled, now = self.buffer.settled, self._monotonic()
        with self._lock:
            requests = self._flushes
            self._flushes = [each for each in requests if each.ticket > settled and each.expires_at > now]
            answered = [each for each in requests if each not in self._flushes]
            self._stops += [each.done for each in answered if each.then_stop]
        for each in answered:
            if not each.then_stop:
                each.done.set_result(None)

    def _close(self, delivery: Delivery | None) -> None:
        try:
            if delivery is not None:
                delivery.close()
        except Exception as error:  # noqa: BLE001 - the connection is given up in any case
            self.errors.record("closing the delivery", error)
