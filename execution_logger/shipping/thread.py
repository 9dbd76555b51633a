"""The one background thread of a process: waits, takes batches, delivers them, backs off, reports.

The order of things that matters here:

* The wake-up event is cleared *before* looking for work, namely by waking up: an entry which arrives
  meanwhile wakes the thread again (as in Sentry's batcher; the other way round a full batch waits).
* No lock that anybody but a fork waits for is held while delivering, and none that a logging call
  takes is held while waiting.
* A batch stays at the head, with its id, until it is sent: order survives every failure.
* What a logging call does may be interrupted by a signal handler that logs, anywhere.
"""

import math
import threading
import time
from collections.abc import Callable

from execution_logger.diagnostics import untraced
from execution_logger.settings import Settings
from execution_logger.shipping.accounts import Accounts
from execution_logger.shipping.buffer import Buffer, held_by_caller
from execution_logger.shipping.flush import CONFIRMATION_SECONDS, Flush, Flushes, Report
from execution_logger.shipping.forks import is_to_be_forked, undo_imports_of
from execution_logger.shipping.sender import Sender


class AutoResetEvent:
    """Wakes one thread, which clears the event by waking up (the name is that of .NET and Windows).

    `threading.Event` holds a lock of its own while it is set. A signal handler that logs, or a
    destructor that the garbage collector runs, would wait there for the thread it interrupts.
    """

    def __init__(self) -> None:
        # Held as long as the event is not set. Both ways it changes by one call that nothing interrupts.
        self._unset = threading.Lock()
        self._unset.acquire()

    def is_set(self) -> bool:
        """Whether the next wait is over at once."""
        return not self._unset.locked()

    def set(self) -> None:
        """Wake the thread, or let it not sleep the next time."""
        if self._unset.locked():
            try:
                self._unset.release()
            except RuntimeError:  # another thread was faster
                return

    def wait(self, timeout_seconds: float = math.inf) -> bool:
        """Wait until the event is set, at most so long, and clear it; return whether it was set."""
        return self._unset.acquire(timeout=min(timeout_seconds, threading.TIMEOUT_MAX))


THREAD_NAME = "execution-logger"

_LINGER_SECONDS = 0.1
"""How long entries gather after a batch, unless somebody waits in flush() or the largest batch is full.

At high rates fewer and larger messages cost everybody less (Kafka's `linger.ms`), and nobody sees a
twentieth of the flush interval, which an entry alone waits anyway."""
_STARVED_SECONDS = 0.001
"""How long the thread may wait for the interpreter until calls make way for it."""
_MOMENT_SECONDS = 1e-6
"""The shortest sleep, some 60 µs: a thread that waits for the interpreter is awake by then."""


class Shipper:
    """Runs the sender whenever there is something to do, and answers those who wait for it.

    Args:
        buffer: takes the entries.
        sender: sends them.
        accounts: counts them.
        flushes: who waits for them.
        settings: how many entries wake the thread at once, and how many end its wait for more.
        before_thread: called in the host's thread before a new thread starts.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        buffer: Buffer,
        sender: Sender,
        accounts: Accounts,
        flushes: Flushes,
        settings: Settings,
        *,
        before_thread: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.buffer = buffer
        self.sender = sender
        self.accounts = accounts
        self.now = monotonic
        self._batch_size = settings.batch_size
        self._max_batch_entries = settings.max_batch_entries
        self._max_batch_bytes = settings.max_batch_bytes
        self._linger_seconds = min(_LINGER_SECONDS, settings.flush_interval_seconds)
        self._before_thread = before_thread
        self._sleep = sleep
        self._came_round_at = 0.0
        self._flushes = flushes
        self._stops: list[Flush] = []
        self._children_until = 0.0
        self._event = AutoResetEvent()
        self._linger_over = AutoResetEvent()
        self._thread: threading.Thread | None = None
        self._driver: threading.Thread | None = None
        # Taken by threads of ours only: the next one starts when the last one has closed everything.
        self._dispatching = threading.Lock()
        self._running = False
        self._is_retired = False
        self._can_start = True
        # Never waited for: who finds it taken has interrupted a start, or is beside one. To start a
        # thread means to wait for locks of the interpreter's, which may wait for us in turn.
        self._start_lock = threading.RLock()

    # Called by the host's threads ------------------------------------------------------------

    def accept(self, encoded: bytes) -> bool:
        """Take an entry to deliver; False when the buffer is full."""
        waiting = self.buffer.put(encoded)
        # The thread sleeps until the first entry arms its timer or a batch is full. Each full batch
        # also finds out whether the thread still lives.
        if waiting > 1 and waiting % self._batch_size and self._running:
            return True
        if waiting or not self._running:
            self.wake()
            if waiting >= self._max_batch_entries:
                self._linger_over.set()
                self._make_way()
        return waiting > 0

    def _make_way(self) -> None:
        """Stand aside for a moment when the thread has waited for the interpreter for long.

        A busy event loop lets go of it again and again, for a microsecond each time: too short for a thread
        to wake up, and yet it begins anew to wait the 5 ms after which it would be given its turn.
        """
        if self.now() - self._came_round_at > _STARVED_SECONDS and self.accounts.last_error is None:
            self._sleep(_MOMENT_SECONDS)

    def wake(self, is_needed: Callable[[], object] = lambda: True) -> None:
        """Let the thread look for work; start it when there is none (first call, died, shut down).

        Args:
            is_needed: asked before another thread is started: the last one may have done the work.
        """
        self._event.set()
        # Again, when the thread has ended by the time the lock is free: it found us in its way.
        while self._event.is_set() and not self.is_alive and self._may_start():
            try:
                if not self.is_alive and not (is_needed() and self._start()):
                    return
            finally:
                self._start_lock.release()

    def ship_for_children(self, timeout_seconds: float) -> None:
        """Before the thread ends, let it send what children of this process have left, if anything."""
        if self.sender.look_for_children():
            self._children_until = self.now() + timeout_seconds
        elif not self.is_alive:  # no thread will end, which is what begins anew
            self.sender.look_for_all()

    def flush(self, timeout_seconds: float, *, until_stored: bool = False, then_stop: bool = False) -> Flush:
        """Deliver all that was accepted so far, now; the flush is done when it is all sent.

        With `until_stored` it is done when all is safe elsewhere. With `then_stop` the thread then
        ends, and the flush is done when it has. The next accepted entry starts a new one. The
        timeout says how long the caller looks: nothing is dropped after it.
        """
        flush = self._new_flush(
            self.buffer.queued, timeout_seconds, until_stored=until_stored, then_stop=then_stop
        )
        is_patient = until_stored or (then_stop and self.is_alive)
        reached = self.buffer.settled if is_patient else self.buffer.delivered
        is_to_stop = then_stop and (self.is_alive or self._children_until)
        if (reached >= flush.ticket and not is_to_stop) or self.is_own_thread():
            flush.set_result(None)
            return flush
        self._flushes.add(flush)
        self.sender.hurry()
        self._linger_over.set()
        # A thread that has answered already may have ended: after a shutdown there must be none.
        self.wake(is_needed=lambda: self._flushes)
        return flush

    def report(self, flush: Flush) -> Report:
        """What became of the entries that a flush waits for."""
        buffer, accounts = self.buffer, self.accounts
        reached = buffer.settled if flush.until_stored else buffer.delivered
        return Report(
            complete=reached >= flush.ticket,
            delivered=buffer.delivered - flush.delivered_before,
            waiting=buffer.held,
            elapsed_seconds=self.now() - flush.began_at,
            unconfirmed=accounts.unconfirmed,
            dropped=accounts.dropped,
            last_error=flush.interruption or accounts.last_error or accounts.confirmation_error,
        )

    def prepare(self, timeout_seconds: float) -> Flush:
        """Start the thread, and let it make the delivery before there is anything to deliver.

        What a delivery imports takes a quarter of a second, and gaps in the host's event loop of up
        to 30 ms: better while the host starts than while it is at work. The flush is done when it is
        made, or cannot be made, or after the timeout.
        """
        prepared = self._new_flush(0, timeout_seconds)
        self._flushes.add(prepared)
        self.sender.prepare()
        self.wake()
        return prepared

    def _new_flush(self, ticket: int, timeout_seconds: float, **kind: bool) -> Flush:
        began_at = self.now()
        return Flush(self, self.buffer.delivered, ticket, began_at, began_at + timeout_seconds, **kind)

    def retire(self) -> None:
        """End the thread as soon as all is safe elsewhere: nobody can log any more."""
        self._is_retired = True
        self._event.set()

    def abandon(self) -> None:
        """Let go, in a forked child, of the parent's files, and of what its thread was in the middle of."""
        self.sender.abandon()
        if self._thread is not None and self._thread.ident is not None:
            undo_imports_of(self._thread.ident)

    def include_newest(self) -> None:
        """Let everybody who waits in flush() wait for the newest entry too."""
        self._flushes.extend(self.buffer.queued)

    def drive(self, until: float) -> None:
        """Do the thread's work in the caller's thread until all is delivered, or `until` (monotonic).

        For the end of the interpreter, and for uWSGI's master: it does nothing unless a thread could not be
        started. How long the last attempt to deliver takes is then up to the delivery.
        """
        if not self._become_driver():
            return
        try:
            while self._flushes and (left := until - self.now()) > 0:
                self._event.wait(min(left, self.seconds_until_due()))
                self.run_due()
                self._ended()
        finally:
            self._driver = None

    def is_own_thread(self) -> bool:
        """Whether the caller is the thread that delivers, which must never wait for itself."""
        return threading.current_thread() in (self._thread, self._driver)

    def waits_for_caller(self) -> bool:
        """Whether nothing can be delivered before the caller returns.

        It is a signal handler, or a destructor, that has interrupted its own thread where that puts an
        entry into the buffer, or starts the thread.
        """
        is_starting = held_by_caller(self._start_lock) and not self.is_alive
        return is_starting or held_by_caller(self.buffer.guard)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs, or another one does its work."""
        return self._driver is not None or (self._thread is not None and self._thread.is_alive())

    # The thread ------------------------------------------------------------------------------

    def _may_start(self) -> bool:
        """Take the lock of the start, unless it is taken: by this thread, too, which is interrupted then."""
        return not held_by_caller(self._start_lock) and self._start_lock.acquire(blocking=False)

    def _start(self) -> bool:
        if is_to_be_forked():
            self._can_start = False
            return False
        try:
            self._before_thread()
        except Exception as error:  # noqa: BLE001 - no reason for a logging call to raise
            self.accounts.errors.record("registering for the end of the process", error)
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
        if not self._may_start():
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
            if self.run_due():
                self._linger()
        except BaseException as error:  # noqa: BLE001 - SystemExit, CancelledError: nothing may end the thread
            self.sender.failed(repr(error))
            self.accounts.errors.record("shipper", error)

    def _linger(self) -> None:
        self._linger_over.wait(0.0)  # what it was set by is sent already, or seen in the next line
        if self._may_gather():
            self._linger_over.wait(self._linger_seconds)

    def _may_gather(self) -> bool:
        """Whether a later batch is a larger one, and nobody waits for it."""
        return (
            not self._flushes
            and not self._stops
            and not self.sender.has_others
            and self.buffer.held < self._max_batch_entries
            and self.buffer.held_bytes < self._max_batch_bytes
        )

    def _ended(self) -> bool:
        if not self._stops and not (self._is_retired and self.buffer.settled >= self.buffer.queued):
            return False
        if self._children_until:
            self._ship_for_children()
        stops, self._stops = self._stops, []
        # An entry that comes from here on starts the next thread, which waits until we are done; one
        # that came before is seen below.
        self._thread, self._running = None, False
        with self._dispatching, untraced():
            self.sender.close()
        # What came while we stopped is delivered as ever, and who still waits in flush() is served;
        # otherwise, what an outage holds back waits for the next call.
        if self._flushes or (self.buffer.held and self.accounts.last_error is None):
            self.wake()
        for stop in stops:
            stop.set_result(None)
        return True

    def _ship_for_children(self) -> None:
        """Send what dead children have left; wait for confirmations as for those of own entries."""
        self.sender.is_ending = True
        until, self._children_until = self._children_until, 0.0
        is_sent = False
        while (left := until - self.now()) > 0 and self.accounts.last_error is None:
            self._event.wait(min(left, self.sender.seconds_until_due()))
            with self._dispatching, untraced():
                self.sender.step()
            if not self.sender.is_adopting:
                return
            if not is_sent and not self.sender.has_others:
                is_sent = True
                until = min(until, self.now() + CONFIRMATION_SECONDS)

    def seconds_until_due(self) -> float:
        """Seconds until there is something to do; 0 for now, `inf` for never."""
        if self._stops:
            return 0.0
        return min(self.sender.seconds_until_due(), self._flushes.seconds_until_expired(self.now()))

    def run_due(self) -> bool:
        """Do what is due, until nothing is, or the rest may gather, or a stop is asked for.

        Returns:
            Whether a batch was sent.
        """
        batches_before = self.accounts.batches
        while not self._stops and self.seconds_until_due() == 0:
            with self._dispatching, untraced():
                self.sender.step()
            self._came_round_at = self.now()
            self._answer_flushes()
            if self.accounts.batches > batches_before and self._may_gather():
                break
        # Who had nothing to wait for; not before, as a flush without any patience is an attempt too.
        self._answer_flushes()
        return self.accounts.batches > batches_before

    def _answer_flushes(self) -> None:
        self._stops += self._flushes.answer(self.buffer.delivered, self.buffer.settled, self.now())
