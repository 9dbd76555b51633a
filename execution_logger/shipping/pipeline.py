"""What a process has once: encoder, buffer, accounts and shipper, to the end of the process."""

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from execution_logger.delivery import Delivery
from execution_logger.diagnostics import logger
from execution_logger.entry.encoder import EntryEncoder
from execution_logger.entry.entry import LogCategory, LogEntry, LogLevel
from execution_logger.journal import Adoption, Destination, Journal, NoAdoption
from execution_logger.journal.process import process_name
from execution_logger.settings import Settings
from execution_logger.shipping.accounts import Accounts
from execution_logger.shipping.buffer import Buffer
from execution_logger.shipping.exit_hooks import call_at_exit, is_called_at_exit
from execution_logger.shipping.flush import Flush, Flushes
from execution_logger.shipping.forks import may_have_children
from execution_logger.shipping.in_flight import InFlight
from execution_logger.shipping.sender import Sender
from execution_logger.shipping.thread import Shipper

if TYPE_CHECKING:
    from threading import RLock


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
        encoder = EntryEncoder(settings)
        self.make_entry, self.fill_in, self.know = encoder.make, encoder.fill_in, encoder.know
        self._make_delivery = make_delivery
        self._destination = destination
        self._process_id = os.getpid()
        self._in_children: dict[int, Pipeline] = {}
        self._last_shutdown: Flush | None = None
        self._lost = 0
        self.buffer, adoption = self._open_buffer()
        self.accounts = Accounts(self.buffer)
        self._in_flight = InFlight(settings, self.accounts.settle, on_missing=self.accounts.miss)
        flushes = Flushes()
        self._sender = Sender(
            settings, self.buffer, adoption, self._in_flight, self.accounts, flushes, make_delivery,
            after_delivery=self._report_drops,
        )  # fmt: skip
        self.shipper = Shipper(
            self.buffer, self._sender, self.accounts, flushes, settings,
            before_thread=partial(call_at_exit, self),
        )  # fmt: skip
        self.accept = self.shipper.accept
        """Takes what `make_entry` has encoded; waits for nothing but one write to the journal."""

    def _open_buffer(self) -> tuple[Buffer, Adoption]:
        settings, destination, process = self.settings, self._destination, process_name()
        if destination is None:
            return Buffer(settings, process), NoAdoption()
        buffer = Buffer(settings, process, partial(Journal, destination, process, settings))
        return buffer, Adoption(destination, process, settings)

    def fork_locks(self) -> "tuple[RLock, ...]":
        """What a fork waits for: an attempt to deliver, which takes a millisecond, and a call's one write.

        Or the child would inherit the lock of a delivery, or of a journal that is being made, or half an
        entry.
        """
        return self._sender.delivering, self.buffer.guard

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
        self.accounts.drop(entry, self.buffer.full_reason)

    def begin(self) -> Flush:
        """Start the thread before the first call: it makes the delivery, and ships what others have left.

        Done when the delivery is made or cannot be made.
        """
        return self.shipper.prepare(_BEGIN_TIMEOUT_SECONDS)

    def flush(self, timeout_seconds: float, *, until_stored: bool = False, then_stop: bool = False) -> Flush:
        """Begin to deliver what was recorded so far; wait for it with the result."""
        if then_stop and may_have_children():
            self.shipper.ship_for_children(timeout_seconds)
        flush = self.shipper.flush(timeout_seconds, until_stored=until_stored, then_stop=then_stop)
        if then_stop:
            self._last_shutdown = flush
        return flush

    def stats(self) -> dict[str, Any]:
        """Where the entries are; see `ExecutionLogger.stats`."""
        return self.accounts.stats(self._in_flight)

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
            if self.buffer.keeps_all:
                logger.warning(
                    "the process ends, and entries stay on disk for the next one to send: %s", report
                )
            else:
                logger.error("the process ends with entries that could not be delivered: %s", report)

    @property
    def has_exit_hooks(self) -> bool:
        """Whether `at_exit` is called by itself: from the first entry on."""
        return is_called_at_exit(self)

    def _report_drops(self) -> None:
        """After a drop there is room again: say in the log itself what is missing from it."""
        if (summary := self.accounts.drop_summary()) is None:
            return
        details = {
            "reasons": summary.reasons,
            "levels": summary.levels,
            "from": summary.first_at,
            "to": summary.last_at,
        }
        _, encoded = self.make_entry(
            OWN_TASK_ID, LogLevel.WARNING, LogCategory.WORKFLOW, str(summary), details=details
        )
        if self.accept(encoded):
            self.accounts.reported(summary)
            self.shipper.include_newest()
