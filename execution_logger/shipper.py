"""The one background thread of a process: waits, takes batches, delivers them, backs off, reports.

The order of things that matters here:

* The wake-up event is cleared *before* looking for work, namely by waking up: an entry which arrives
  meanwhile wakes the thread again (as in Sentry's batcher; the other way round a full batch waits).
* No lock that anybody but a fork waits for is held while delivering, and none that a logging call
  takes is held while waiting.
* A batch stays at the head, with its id, until it is delivered: order survives every failure.
* What a logging call does may be interrupted by a signal handler that logs, anywhere.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future

from execution_logger.auto_reset_event import AutoResetEvent
from execution_logger.backoff import Backoff
from execution_logger.buffer import Batch, Buffer
from execution_logger.delivery import Delivery
from execution_logger.diagnostics import InternalErrors, report
from execution_logger.errors import DeliveryError
from execution_logger.flushes import Flushes
from execution_logger.settings import Settings

THREAD_NAME = "execution-logger"

_FLUSHING_PAUSE_SECONDS = 0.25
"""Longest pause between attempts while somebody waits in flush()."""


class Shipper:
    """Moves entries from the buffer to the delivery.

    Args:
        settings: batch sizes, intervals, bounds.
        make_delivery: called in the thread, at the first attempt.
        before_thread: called in the host's thread before a new thread starts.
        after_delivery: called in the thread after each delivered batch; returns whether it added an
            entry that flushes on their way include.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        settings: Settings,
        make_delivery: Callable[[], Delivery],
        *,
        before_thread: Callable[[], None] = lambda: None,
        after_delivery: Callable[[], bool] = lambda: False,
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
        self._backoff = Backoff(settings.retry_pause_max_seconds)
        self._flushing_pause_seconds = min(_FLUSHING_PAUSE_SECONDS, settings.retry_pause_max_seconds)
        self._retry_at = 0.0
        self._attempt_now = False
        self._flushes = Flushes()
        self._stops: list[Future[None]] = []
        self._event = AutoResetEvent()
        self._thread: threading.Thread | None = None
        self._driver: threading.Thread | None = None
        # Held during each attempt, and waited for by nobody but a fork: what a delivery has locked in the
        # middle of one (kombu's properties, modules that are being imported) is locked in the child for ever.
        self.delivering = threading.RLock()
        self._running = False
        self._can_start = True
        # Never waited for: who finds it taken has interrupted a start, or is beside one. To start a
        # thread means to wait for locks of the interpreter's, which may wait for us in turn.
        self._start_lock = threading.Lock()

    # Called by the host's threads ------------------------------------------------------------

    def accept(self, encoded: bytes) -> bool:
        """Take an entry to deliver; False when the buffer is full."""
        waiting = self.buffer.put(encoded)
        # The thread sleeps until the first entry arms its timer or a batch is full. Each full batch
        # also finds out whether the thread still lives.
        if waiting == 1 or not self._running or (waiting and waiting % self._batch_size == 0):
            self.wake()
        return waiting > 0

    def wake(self) -> None:
        """Let the thread look for work; start it when there is none (first call, died, shut down)."""
        self._event.set()
        # Again, when the thread has ended by the time the lock is free: it found us in its way.
        while self._event.is_set() and not self.is_alive and self._start_lock.acquire(blocking=False):
            try:
                if not self.is_alive and not self._start():
                    return
            finally:
                self._start_lock.release()

    def flush(self, timeout_seconds: float, *, then_stop: bool = False) -> "Future[None]":
        """Deliver all that was accepted so far, now; the future is done when it is all settled.

        With `then_stop` the thread then ends, and the future is done when it has. The next accepted
        entry starts a new one. The timeout says how long the caller looks: nothing is dropped after it.
        """
        ticket = self.buffer.queued
        nothing_to_do = self.buffer.settled >= ticket and not (then_stop and self.is_alive)
        if nothing_to_do or self.is_own_thread():
            done: Future[None] = Future()
            done.set_result(None)
            return done
        done = self._flushes.add(ticket, self._monotonic() + timeout_seconds, then_stop=then_stop)
        self._attempt_now = True
        self.wake()
        return done

    def drive(self, until: float) -> None:
        """Do the thread's work in the caller's thread until all is delivered, or `until` (monotonic).

        For the end of the interpreter: it does nothing unless the attempt to start a thread has
        failed. How long the last attempt to deliver takes is then up to the delivery.
        """
        if not self._become_driver():
            return
        try:
            while self.buffer.held and (left := until - self._monotonic()) > 0:
                self._event.wait(min(left, self.seconds_until_due() or 0.0))
                self.deliver_due()
                self._ended()
        finally:
            self._driver = None

    def is_own_thread(self) -> bool:
        """Whether the caller is the thread that delivers, which must never wait for itself."""
        return threading.current_thread() in (self._thread, self._driver)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs, or another one does its work."""
        return self._driver is not None or (self._thread is not None and self._thread.is_alive())

    # The thread ------------------------------------------------------------------------------

    def _start(self) -> bool:
        try:
            self._before_thread()
        except Exception as error:  # noqa: BLE001 - no reason for a logging call to raise
            self.errors.record("registering for the end of the process", error)
        thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread, self._running = thread, True
        try:
            thread.start()
        except RuntimeError:  # while the interpreter shuts down: see drive()
            self._thread, self._running, self._can_start = None, False, False
        else:
            self._can_start = True
        return self._can_start

    def _become_driver(self) -> bool:
        if not self._start_lock.acquire(blocking=False):
            return False
        try:
            if self.is_alive or self._can_start:
                return False
            self._driver = threading.current_thread()
            return True
        finally:
            self._start_lock.release()

    def _run(self) -> None:
        try:
            while not self._ended():
                self._wait_and_deliver()
        finally:
            if self.is_own_thread():  # it was killed: the next call starts another one
                self._running = False

    def _wait_and_deliver(self) -> None:
        try:
            self._event.wait(self.seconds_until_due())
            self.deliver_due()
        except BaseException as error:  # noqa: BLE001 - SystemExit, CancelledError: nothing may end the thread
            self._unexpected(error)

    def _ended(self) -> bool:
        if not self._stops:
            return False
        stops, self._stops = self._stops, []
        delivery, self._delivery = self._delivery, None
        # An entry that comes from here on starts the next thread; one that came before is seen below.
        self._thread, self._running = None, False
        self._close(delivery)
        # What came while we stopped is delivered as ever, and who still waits in flush() is served;
        # otherwise, what an outage holds back waits for the next call.
        if self._flushes or (self.buffer.held and self.last_error is None):
            self.wake()
        for stop in stops:
            stop.set_result(None)
        return True

    def seconds_until_due(self) -> float | None:
        """Seconds until the next attempt; 0 for now, None when there is nothing to do."""
        if self._stops:
            return 0.0
        due = 0.0 if self._flushes else self.buffer.seconds_until_due()
        if due is None or self._attempt_now:
            return due
        return max(due, self._retry_at - self._monotonic())

    def deliver_due(self) -> None:
        """Deliver every batch that is due, until an attempt fails or a stop is asked for."""
        while not self._stops and self.seconds_until_due() == 0:
            self._attempt_now = False  # before the attempt: a flush() that comes meanwhile wants another
            try:
                batch = self.buffer.take()
                if batch is None:
                    self._answer_flushes()
                    return
                self._attempt(batch)
            except Exception as error:  # noqa: BLE001 - the batch is kept, and its turn comes again
                self._unexpected(error)

    def _attempt(self, batch: Batch) -> None:
        try:
            with self.delivering:
                self._delivery = self._delivery or self._make_delivery()
                self._delivery.deliver(batch)
        except DeliveryError as error:
            self._failed(str(error))
            return
        self._delivered(batch)

    def _delivered(self, batch: Batch) -> None:
        failed_before, kept = self.last_error is not None, self.buffer.held
        self.buffer.settle(batch)
        self.batches_delivered += 1
        self.last_error = None
        self._retry_at = 0.0
        self._backoff.reset()
        if self._after_delivery():
            self._flushes.extend(self.buffer.queued)
        self._answer_flushes()
        if failed_before:
            report(logging.INFO, "delivery works again; %d entries were kept", kept)

    def _failed(self, reason: str) -> None:
        failed_before = self.last_error is not None
        self.failed_attempts += 1
        self.last_error = reason
        self._answer_flushes()
        # The attempts of an impatient flush() are no reason for longer pauses afterwards.
        pause = self._flushing_pause_seconds if self._flushes else self._backoff.next_pause_seconds()
        self._retry_at = self._monotonic() + pause
        if not failed_before:
            report(logging.WARNING, "delivery failed, entries are kept and sent again: %s", reason)

    def _unexpected(self, error: BaseException) -> None:
        self._failed("".join(traceback.format_exception_only(error)).strip())
        self.errors.record("shipper", error)

    def _answer_flushes(self) -> None:
        self._stops += self._flushes.answer(self.buffer.settled, self._monotonic())

    def _close(self, delivery: Delivery | None) -> None:
        try:
            if delivery is not None:
                with self.delivering:
                    delivery.close()
        except BaseException as error:  # noqa: BLE001 - the connection is given up in any case
            self.errors.record("closing the delivery", error)
