"""What a process has once: encoder, shipper and drops, to the end of the process."""

import atexit
import concurrent.futures
import concurrent.futures.thread
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from execution_logger.delivery import Delivery
from execution_logger.diagnostics import logger
from execution_logger.entry.encoder import EntryEncoder
from execution_logger.entry.entry import LogCategory, LogEntry, LogLevel
from execution_logger.journal import Adoption, Destination, Journal
from execution_logger.journal.identity import may_have_children, process_name
from execution_logger.settings import Settings
from execution_logger.shipping.accounts import Drops
from execution_logger.shipping.buffer import Buffer
from execution_logger.shipping.flush import Report
from execution_logger.shipping.loops import wait_in_loop
from execution_logger.shipping.sender import Sender
from execution_logger.shipping.thread import Shipper


class ExitHooks:
    """Calls a method once the process ends."""

    def __init__(self, at_exit: Callable[[], None]) -> None:
        # Through weak references: registries live as long as the process, and must not keep its owner.
        self._at_exit = weakref.WeakMethod(at_exit)

    def register(self) -> None:
        """Have every way of ending that this process has call it; cheap when that was done already."""
        _registered.add(self)
        _registries.register()

    @property
    def are_registered(self) -> bool:
        """Whether it will be called."""
        return self in _registered

    def call(self) -> None:
        """Call the method, if its owner is still there."""
        if (at_exit := self._at_exit()) is not None:
            at_exit()


class _Registries:
    """Those of this process. What is registered there stays, so it is done once for all owners."""

    def __init__(self) -> None:
        self._has_atexit = False
        self._multiprocessing_pid: int | None = None
        self._has_celery = False

    def register(self) -> None:
        """Register with those that are there by now."""
        if not self._has_atexit:  # a forked child has its parent's atexit functions
            self._has_atexit = True
            atexit.register(_call_all)
        if self._multiprocessing_pid != os.getpid():
            self._register_multiprocessing()
        if not self._has_celery:
            self._register_celery()

    def _register_multiprocessing(self) -> None:
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            self._multiprocessing_pid = os.getpid()
            # Children of multiprocessing run finalizers with a priority, then os._exit. -100 is after
            # the queues' (-5), so that what other finalizers log is still delivered.
            util.Finalize(None, _call_all, exitpriority=-100)

    def _register_celery(self) -> None:
        # A host that logs inside its own Celery tasks has Celery imported; nobody else pays for it. Nothing
        # is imported here: in a child forked meanwhile the module would stay locked.
        signal = getattr(sys.modules.get("celery.signals"), "worker_process_shutdown", None)
        if signal is not None:
            self._has_celery = True
            signal.connect(_call_all, weak=False)


def _call_all(**_: Any) -> None:
    for hooks in tuple(_registered):
        hooks.call()


_registered: "weakref.WeakSet[ExitHooks]" = weakref.WeakSet()
_registries = _Registries()


# Not used here. A script that ends soon after its first call delivers while the interpreter exits, and
# what the delivery imports then (Celery, Redis) imports this module, which refuses to load that late.


OWN_TASK_ID = "execution_logger"
"""The `task_id` of entries that the library itself writes."""

_BEGIN_TIMEOUT_SECONDS = 5.0
"""How long the start of a host waits for what the first delivery needs."""

_LAST_TIMEOUT_SECONDS = 1.0
"""At the end of a process whose shutdown() has waited in vain already, one more attempt is enough."""

_inherited: "list[Pipeline]" = []
"""What this process shares with the one it was forked off."""


class Pipeline:
    """From a call's arguments to the delivery.

    Args:
        settings: of this pipeline.
        make_delivery: called in the shipper's thread, in each process that delivers.
        destination: in whose folder entries are kept on disk; without it they are in memory only.
    """

    def __init__(
        self,
        settings: Settings,
        make_delivery: Callable[[], Delivery],
        destination: Destination | None = None,
    ) -> None:
        self.settings = settings
        self.make_entry = EntryEncoder(settings).make
        self._make_delivery = make_delivery
        self._destination = destination
        self._process_id = os.getpid()
        self._in_children: dict[int, Pipeline] = {}
        self._exit_hooks = ExitHooks(self.at_exit)
        self._last_shutdown: Flushing | None = None
        self._lost = 0
        self.shipper = self._make_shipper()
        self.drops = Drops(self.shipper.buffer.guard)
        self.accept = self.shipper.accept
        """Takes what `make_entry` has encoded; waits for nothing but one write to the journal."""

    def _make_shipper(self) -> Shipper:
        settings, destination, process = self.settings, self._destination, process_name()
        if destination is None:
            buffer, adoption = Buffer(settings, process), None
        else:
            buffer = Buffer(settings, process, partial(Journal, destination, process, settings))
            adoption = Adoption(destination, process, settings)
        sender = Sender(
            settings, buffer, self._make_delivery, adoption=adoption, after_delivery=self._report_drops
        )
        return Shipper(buffer, sender, settings, before_thread=self._exit_hooks.register)

    def fork_locks(self) -> "tuple[threading.RLock, ...]":
        """What a fork waits for: an attempt to deliver, which takes a millisecond, and a call's one write.

        Or the child would inherit the lock of a delivery, or of a journal that is being made, or half an
        entry.
        """
        return self.shipper.sender.delivering, self.shipper.buffer.guard

    def in_this_process(self) -> "Pipeline":
        """Itself; in a forked child the one that goes on for it, the same one for all who ask at once.

        The parent delivers its own entries, and its threads are not here.
        """
        process_id = os.getpid()
        if process_id == self._process_id:
            return self
        following = Pipeline(self.settings, self._make_delivery, self._destination)
        if self._in_children.setdefault(process_id, following) is following:
            self._abandon()
        return self._in_children[process_id]

    def _abandon(self) -> None:
        # Never closed and never collected: a connection that says goodbye in the child would say it on
        # the parent's socket. But its files are let go of: they would keep the parent's journal locked.
        _inherited.append(self)
        self.shipper.abandon()

    def drop(self, entry: LogEntry) -> None:
        """Count an entry that was not accepted."""
        self.drops.record(entry, self.shipper.buffer.full_reason)

    def begin(self) -> "concurrent.futures.Future[None]":
        """Start the thread before the first call: it makes the delivery, and ships what others have left."""
        return self.shipper.prepare(_BEGIN_TIMEOUT_SECONDS)

    def begin_in_thread(self) -> None:
        """The same, and wait until the delivery is made or cannot be made."""
        concurrent.futures.wait([self.begin()], timeout=_BEGIN_TIMEOUT_SECONDS)

    async def begin_in_loop(self) -> None:
        """The same in a loop, which goes on meanwhile."""
        await wait_in_loop(self.begin(), _BEGIN_TIMEOUT_SECONDS)

    def flush(
        self, timeout_seconds: float, *, until_stored: bool = False, then_stop: bool = False
    ) -> "Flushing":
        """Begin to deliver what was recorded so far; wait for it with the result."""
        if then_stop and may_have_children():
            self.shipper.ship_for_children(timeout_seconds)
        flushing = Flushing(self, timeout_seconds, until_stored=until_stored, then_stop=then_stop)
        if then_stop:
            self._last_shutdown = flushing
        return flushing

    def stats(self) -> dict[str, Any]:
        """Where the entries are; see `ExecutionLogger.stats`."""
        buffer, sender = self.shipper.buffer, self.shipper.sender
        refused, counts, journal = self.drops.totals(), sender.counts, buffer.journal
        # In this order, because entries are delivered meanwhile.
        stored, dead_lettered, handed_over = counts.stored, counts.dead_lettered, counts.handed_over
        lost, delivered, queued = counts.lost, buffer.delivered, buffer.queued
        oldest_at, distributions = sender.oldest_unwritten_at, sender.distributions
        return {
            "pid": os.getpid(),
            "process": buffer.process,
            "guarantee": sender.guarantee,
            "accepted": queued + sum(refused.values()),
            "delivered": delivered - lost,
            "stored": stored,
            "dead_lettered": dead_lettered,
            "unconfirmed": delivered - lost - stored - dead_lettered - handed_over,
            "handed_over": handed_over,
            "waiting": queued - delivered,
            "waiting_bytes": buffer.held_bytes,
            "memory_bytes": buffer.memory_bytes + sender.in_flight.retained_bytes,
            "journal_bytes": journal.size_bytes,
            "oldest_unwritten_seconds": 0.0 if oldest_at is None else max(0.0, time.time() - oldest_at),
            "adopted": counts.adopted,
            "dropped": _dropped(refused, lost),
            "batches": sender.batches_delivered,
            "batches_sent_again": sender.in_flight.resent,
            "batch_entries": distributions.batch_entries.as_dict(),
            "delivery_seconds": distributions.delivery_seconds.as_dict(),
            "store_seconds": distributions.store_seconds.as_dict(),
            "failed_attempts": sender.failed_attempts,
            "held_back": sender.is_held_back,
            "internal_errors": sender.errors.count,
            "last_error": sender.last_error,
            "confirmation_error": sender.confirmation_error,
            "journal_error": journal.error,
        }

    def retire(self) -> None:
        """Deliver what is left and end, in the background: nobody can log any more."""
        if self._process_id == os.getpid():
            self.shipper.retire()

    def at_exit(self) -> None:
        """Deliver what is left, and say what could not be delivered."""
        if self._process_id != os.getpid():  # a forked child has its parent's hooks
            return
        timeout_seconds = self.settings.shutdown_timeout_seconds
        if self._last_shutdown is not None and not self._last_shutdown.report().complete:
            timeout_seconds = min(timeout_seconds, _LAST_TIMEOUT_SECONDS)
        if not may_have_children():  # some forks tell nobody
            self.shipper.ship_for_children(timeout_seconds)
        report = self.flush(timeout_seconds, then_stop=True).wait()
        # More than one hook may fire at the end of a process; what is lost is said once.
        if not report.complete and self._lost != report.waiting:
            self._lost = report.waiting
            if self.shipper.buffer.keeps_all:
                logger.warning(
                    "the process ends, and entries stay on disk for the next one to send: %s", report
                )
            else:
                logger.error("the process ends with entries that could not be delivered: %s", report)

    @property
    def has_exit_hooks(self) -> bool:
        """Whether `at_exit` is called by itself: from the first entry on."""
        return self._exit_hooks.are_registered

    def _report_drops(self) -> None:
        """After a drop there is room again: say in the log itself what is missing from it."""
        if (summary := self.drops.summary()) is None:
            return
        details = {
            "reasons": summary.reasons,
            "levels": summary.levels,
            "from": summary.first_at,
            "to": summary.last_at,
        }
        fields = (
            OWN_TASK_ID,
            LogLevel.WARNING,
            LogCategory.WORKFLOW,
            str(summary),
            None,
            None,
            None,
            None,
            details,
        )
        _, encoded = self.make_entry(*fields)
        if self.accept(encoded):
            self.drops.reported(summary)
            self.shipper.include_newest()


class Flushing:
    """A flush or shutdown on its way: wait for it in a thread or in a loop, then read the report."""

    def __init__(
        self, pipeline: Pipeline, timeout_seconds: float, *, until_stored: bool, then_stop: bool
    ) -> None:
        self._pipeline = pipeline
        self._shipper = pipeline.shipper
        self._until_stored = until_stored
        self._began_at = time.monotonic()
        self._deadline = self._began_at + timeout_seconds
        self._ticket = self._shipper.buffer.queued
        self._delivered_before = self._shipper.buffer.delivered
        self._interrupts: str | None = None
        self._done = self._shipper.flush(timeout_seconds, until_stored=until_stored, then_stop=then_stop)

    def wait(self) -> Report:
        """Wait in this thread until all is delivered or the timeout is over.

        Not in a signal handler that has interrupted a call: what it waits for comes after it.
        """
        if self._is_to_wait_for():
            concurrent.futures.wait([self._done], timeout=self._seconds_left())
        return self.report()

    async def wait_in_loop(self) -> Report:
        """The same in asyncio or trio: the loop goes on meanwhile."""
        if self._is_to_wait_for():
            await wait_in_loop(self._done, self._seconds_left())
        return self.report()

    def report(self) -> Report:
        """Where the entries are now."""
        buffer, sender = self._shipper.buffer, self._shipper.sender
        return Report(
            complete=(buffer.settled if self._until_stored else buffer.delivered) >= self._ticket,
            delivered=buffer.delivered - self._delivered_before,
            waiting=buffer.held,
            elapsed_seconds=time.monotonic() - self._began_at,
            unconfirmed=sender.unconfirmed,
            dropped=_dropped(self._pipeline.drops.totals(), sender.counts.lost),
            last_error=self._interrupts or sender.last_error or sender.confirmation_error,
        )

    def _is_to_wait_for(self) -> bool:
        if self._shipper.waits_for_caller():
            self._interrupts = "this thread was interrupted in a logging call, which has to end first"
            return False
        if not self._done.done():
            self._shipper.drive(self._deadline)
        return not self._done.done()

    def _seconds_left(self) -> float:
        return min(max(0.0, self._deadline - time.monotonic()), threading.TIMEOUT_MAX)


def _dropped(refused: dict[str, int], lost: int) -> dict[str, int]:
    """Dropped entries by reason: refused by the call, or lost from the disk since then."""
    return refused | ({"journal_unreadable": lost} if lost else {})
