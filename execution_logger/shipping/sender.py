"""What the shipper's thread does: sends the next batch, and finds out what became of the others."""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from execution_logger.broker.backoff import Backoff
from execution_logger.delivery import Delivery
from execution_logger.delivery.interface import Confirming, Guarantee, Receipt
from execution_logger.diagnostics import InternalErrors, report
from execution_logger.entry.batch import Batch, recorded_at
from execution_logger.entry.distributions import Distributions
from execution_logger.errors import BrokerFullError, DeliveryError
from execution_logger.journal.batches import NotNowError, Source
from execution_logger.journal.identity import free_locks_of_properties
from execution_logger.settings import Settings
from execution_logger.shipping.buffer import Buffer
from execution_logger.shipping.in_flight import InFlight, Sent

if TYPE_CHECKING:
    from execution_logger.journal.adoption import AdoptedJournal, Adoption

_IMPATIENT_PAUSE_SECONDS = 0.25
"""Longest pause between attempts while somebody waits in flush()."""
_JOURNAL_CHECK_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """What became of entries that were sent. All but the last two are of this process's own."""

    stored: int = 0
    dead_lettered: int = 0
    handed_over: int = 0
    """Taken by the broker, and no confirmation of them is expected any more."""
    lost: int = 0
    """Could not be read from the disk any more."""
    adopted: int = 0
    """Of dead processes, whatever became of them."""
    adopted_lost: int = 0
    """Of dead processes: lines that could not be read any more, or were no entries."""


class Sender:
    """Sends batches of the buffer, lost ones and those of dead processes in turn; follows them until stored.

    Everything is called by one thread at a time, the shipper's.

    Args:
        settings: pauses and bounds.
        buffer: the process's own entries.
        make_delivery: called at the first attempt.
        adoption: of the journals of dead processes; None without journal.
        after_delivery: called after each batch of the buffer's that was sent.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        settings: Settings,
        buffer: Buffer,
        make_delivery: Callable[[], Delivery],
        *,
        adoption: "Adoption | None" = None,
        after_delivery: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self.distributions = Distributions()
        self.errors = InternalErrors()
        self.batches_delivered = 0
        self.failed_attempts = 0
        self.last_error: str | None = None
        self.confirmation_error: str | None = None
        """Why nobody could be asked what became of batches; None when that worked last time."""
        self.is_held_back = False
        """Whether the last attempt found the broker full: the queue at its limit, or its memory."""
        self.guarantee: Literal["stored", "accepted"] | None = None
        """Up to where batches are followed, by the last receipt; None before the first one."""
        self.adoption = adoption
        self.in_flight = InFlight(settings, self._on_settled, monotonic)
        # Held during each attempt, and waited for by nobody but a fork: what a delivery has locked in the
        # middle of one (kombu's properties, modules that are being imported) is locked in the child for ever.
        self.delivering = threading.RLock()
        self._buffer = buffer
        self._make_delivery = make_delivery
        self._after_delivery = after_delivery
        self._monotonic = monotonic
        self._max_retained_bytes = settings.buffer_max_bytes
        self._delivery: Delivery | None = None
        self._backoff = Backoff(settings.retry_pause_max_seconds)
        self._impatient_pause_seconds = min(_IMPATIENT_PAUSE_SECONDS, settings.retry_pause_max_seconds)
        self._retry_at = 0.0
        self._poll_backoff = Backoff(settings.retry_pause_max_seconds)
        self._poll_retry_at = 0.0
        self._attempt_now = False
        self._is_preparing = False
        self._turn = 0
        self._journal_checked_at = 0.0
        self._journal_error: str | None = None

    @property
    def unconfirmed(self) -> int:
        """Entries of this process that were sent and are not confirmed."""
        return self.in_flight.entries_of(self._buffer)

    @property
    def oldest_unwritten_at(self) -> float | None:
        """When the oldest entry not safe elsewhere was recorded, in seconds since 1970; None without one."""
        waiting = self._buffer.oldest
        times = (self.in_flight.oldest_of(self._buffer), recorded_at(waiting) if waiting else None)
        return min((moment for moment in times if moment is not None), default=None)

    @property
    def has_others(self) -> bool:
        """Whether batches wait that are no news: lost ones, and those of dead processes."""
        return self.in_flight.has_lost or self._has_adopted()

    @property
    def is_adopting(self) -> bool:
        """Whether journals of dead processes are not done yet, or it is time to look for more."""
        adoption = self.adoption
        return adoption is not None and (bool(adoption.journals) or adoption.seconds_until_look() == 0)

    # When ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the delivery with the next step, though there is nothing to deliver yet."""
        self._is_preparing = True

    def hurry(self) -> None:
        """Make the next attempt now, whatever pause is under way."""
        self._attempt_now = True

    def seconds_until_due(self, *, is_hurried: bool) -> float | None:
        """Seconds until there is something to do; 0 for now, None for never.

        Args:
            is_hurried: somebody waits in flush().
        """
        dues = [
            0.0 if self._is_preparing else None,
            self._seconds_until_send(is_hurried=is_hurried),
            self._seconds_until_poll(is_hurried=is_hurried),
            self._seconds_until_journal_check(),
            self.adoption.seconds_until_look() if self.adoption is not None else None,
        ]
        return min((due for due in dues if due is not None), default=None)

    def _seconds_until_send(self, *, is_hurried: bool) -> float | None:
        due = self._buffer.seconds_until_due()
        if self.has_others or (is_hurried and due is not None):
            due = 0.0
        return self._after_pause(due)

    def _seconds_until_poll(self, *, is_hurried: bool) -> float | None:
        due = self.in_flight.seconds_until_poll(is_hurried=is_hurried)
        return None if due is None else max(due, self._poll_retry_at - self._monotonic())

    def _after_pause(self, due: float | None) -> float | None:
        if due is None or self._attempt_now:
            return due
        return max(due, self._retry_at - self._monotonic())

    def _has_adopted(self) -> bool:
        return self.adoption is not None and any(journal.has_more for journal in self.adoption.journals)

    def _seconds_until_journal_check(self) -> float | None:
        journal = self._buffer.journal
        # While it has entries, somebody may delete them.
        if not (journal.is_used or journal.is_settled or journal.error or self._journal_error):
            return None
        return max(0.0, self._journal_checked_at + _JOURNAL_CHECK_SECONDS - self._monotonic())

    # What ------------------------------------------------------------------------------------

    def step(self, *, is_hurried: bool) -> None:
        """Do what is due, with at most one batch. Never raises; what goes wrong is tried again."""
        try:
            self._look_after_journal()
            self._adopt()
            if self._is_preparing:
                self._is_preparing = False
                self._make_ready()
            if self._seconds_until_poll(is_hurried=is_hurried) == 0:
                self._poll()
            if self._seconds_until_send(is_hurried=is_hurried) == 0:
                self._attempt_now = False  # before the attempt: who hurries us meanwhile wants another one
                self._send_next(is_hurried=is_hurried)
            self._make_room()
        except Exception as error:  # noqa: BLE001 - the batch is kept, and its turn comes again
            self.failed("".join(traceback.format_exception_only(error)).strip(), is_hurried=is_hurried)
            self.errors.record("shipper", error)

    def _make_ready(self) -> None:
        try:
            with self.delivering:
                self._delivery = self._delivery or self._make_delivery()
        except DeliveryError as error:
            self.failed(str(error), is_hurried=False)

    def _send_next(self, *, is_hurried: bool) -> None:
        """A batch of those that wait: lost, own and adopted ones in turn, so that none starves.

        Somebody who waits in flush() waits for the own ones: they come first then.
        """
        takers = (self._take_lost, lambda: self._take_own(is_hurried=is_hurried), self._take_adopted)
        if is_hurried:
            self._turn = 0
        try:
            for _ in takers:
                self._turn = (self._turn + 1) % len(takers)
                if (taken := takers[self._turn]()) is not None:
                    self._attempt(*taken, is_hurried=is_hurried)
                    return
        except NotNowError as error:
            self.failed(str(error), is_hurried=is_hurried)

    def _take_lost(self) -> tuple[None, Batch] | None:
        batch = self.in_flight.next_lost()
        return None if batch is None else (None, batch)

    def _take_own(self, *, is_hurried: bool) -> tuple[Source, Batch] | None:
        if not is_hurried and self._buffer.seconds_until_due() != 0:
            return None
        batch = self._buffer.take()
        return None if batch is None else (self._buffer, batch)

    def _take_adopted(self) -> tuple[Source, Batch] | None:
        for journal in tuple(self.adoption.journals) if self.adoption is not None else ():
            if journal.is_begun:
                with self._reading(journal):
                    if (batch := journal.take()) is not None:
                        return journal, batch
        return None

    def _attempt(self, source: Source | None, batch: Batch, *, is_hurried: bool) -> None:
        began_at = self._monotonic()
        try:
            receipt = self._deliver(batch)
        except DeliveryError as error:
            self.is_held_back = isinstance(error, BrokerFullError)
            self.failed(str(error), is_hurried=is_hurried)
            return
        if source is self._buffer:
            self.distributions.delivery_seconds.observe(self._monotonic() - began_at)
            self.distributions.batch_entries.observe(batch.count)
        # After the attempt: not earlier than what the message itself tells, or the first one in the queue
        # would not be found there.
        sent_at = time.time()
        is_followed = receipt.guarantee is not Guarantee.ACCEPTED and self.in_flight.is_trusted
        self.guarantee = "stored" if is_followed else "accepted"
        self._succeeded()
        self._note_sent(source, batch, receipt, sent_at)
        if source is self._buffer:
            self._after_delivery()

    def _deliver(self, batch: Batch) -> Receipt:
        if not batch.entries:  # none of them can be read any more
            return Receipt(Guarantee.ACCEPTED)
        with self.delivering:
            self._delivery = self._delivery or self._make_delivery()
            return self._delivery.deliver(batch) or Receipt(Guarantee.ACCEPTED)

    def _note_sent(self, source: Source | None, batch: Batch, receipt: Receipt, sent_at: float) -> None:
        is_awaited = receipt.guarantee is Guarantee.AWAITED
        dead_lettered = receipt.dead_lettered if receipt.guarantee is Guarantee.STORED else None
        if source is None:
            if is_awaited:
                self.in_flight.sent_again(batch, sent_at)
            else:
                self.in_flight.settle(batch, dead_lettered)
            return
        self.batches_delivered += 1
        if source is self._buffer:
            self.counts.lost += batch.missing
        else:
            self.counts.adopted_lost += batch.missing
        if is_awaited:
            self.in_flight.add(source, batch, sent_at)
            source.sent(batch, awaited_since=sent_at)
        else:
            source.sent(batch)
            source.settle(batch.first, batch.count)
            self._count(source, len(batch), dead_lettered)
            if source is not self._buffer and self.adoption is not None:
                self.adoption.remove_done()

    def _succeeded(self) -> None:
        if self.last_error is not None:
            report(logging.INFO, "delivery works again; %d entries were kept", self._buffer.held)
        self.last_error = None
        self.is_held_back = False
        self._retry_at = 0.0
        self._backoff.reset()

    def failed(self, reason: str, *, is_hurried: bool) -> None:
        """Note a failed attempt down, and pause."""
        failed_before = self.last_error is not None
        self.failed_attempts += 1
        self.last_error = reason
        # The attempts of an impatient flush() are no reason for longer pauses afterwards.
        pause = self._impatient_pause_seconds if is_hurried else self._backoff.next_pause_seconds()
        self._retry_at = self._monotonic() + pause
        if not failed_before:
            report(logging.WARNING, "delivery failed, entries are kept and sent again: %s", reason)

    # What became of batches ------------------------------------------------------------------

    def _poll(self) -> None:
        self._poll_retry_at = self._monotonic() + self._poll_backoff.next_pause_seconds()
        try:
            with self.delivering:
                self._delivery = self._delivery or self._make_delivery()
                if isinstance(self._delivery, Confirming) and self._delivery.is_confirming:
                    self.in_flight.poll(self._delivery)
                else:
                    self.in_flight.lose_all()
        except DeliveryError as error:
            if self.confirmation_error is None:
                report(logging.WARNING, "nobody tells what is stored; entries are kept until then: %s", error)
            self.confirmation_error = str(error)
        else:
            self.confirmation_error = None
            self._poll_retry_at = 0.0
            self._poll_backoff.reset()
        if not self.in_flight.is_trusted:
            self.guarantee = "accepted"
        if self.adoption is not None:
            self.adoption.remove_done()

    def _on_settled(self, sent: Sent, dead_lettered: int | None) -> None:
        self._count(sent.source, sent.entries_count, dead_lettered)
        if sent.source is self._buffer and sent.first_sent_at is not None and dead_lettered is not None:
            self.distributions.store_seconds.observe(self._monotonic() - sent.first_sent_at)

    def _count(self, source: Source, count: int, dead_lettered: int | None) -> None:
        if source is not self._buffer:
            self.counts.adopted += count
        elif dead_lettered is None:
            self.counts.handed_over += count
        else:
            self.counts.dead_lettered += dead_lettered
            self.counts.stored += count - dead_lettered

    def _make_room(self) -> None:
        """Rather than drop new entries, trust the broker with the oldest ones that it has."""
        while self._buffer.memory_bytes + self.in_flight.retained_bytes > self._max_retained_bytes:
            if not self.in_flight.release_oldest(lambda sent: sent.entries is not None):
                break
        journal = self._buffer.journal
        while journal.is_full and not journal.has_room:
            if not self.in_flight.release_oldest(lambda sent: sent.source is self._buffer):
                break

    # Journals --------------------------------------------------------------------------------

    def _look_after_journal(self) -> None:
        journal, now = self._buffer.journal, self._monotonic()
        if now < self._journal_checked_at + _JOURNAL_CHECK_SECONDS:
            return
        self._journal_checked_at = now
        self._report_journal(journal.error)
        with self.delivering:  # a fork meanwhile would copy a lock that nobody knows of
            journal.look_after(self._buffer.next_number)
            if journal.is_settled:
                journal.empty()
        self._report_journal(journal.error)

    def _report_journal(self, error: str | None) -> None:
        if error is not None and self._journal_error is None:
            report(logging.WARNING, "the journal takes no entries, they are in memory only: %s", error)
        if error is None and self._journal_error is not None:
            report(logging.INFO, "the journal takes entries again")
        self._journal_error = error

    def _adopt(self) -> None:
        """Look what dead processes have left, or read a little of it: own entries do not wait for more."""
        if self.adoption is None:
            return
        try:
            if self.adoption.seconds_until_look() == 0:
                self.adoption.remove_done()
                with self.delivering:  # a fork meanwhile would copy a lock that nobody knows of
                    self.adoption.look()
            for journal in self.adoption.journals:
                if not journal.is_begun:
                    with self._reading(journal):
                        self._begin(journal)
                    break
            self.adoption.remove_done()
        except Exception as error:  # noqa: BLE001 - no reason to hold back own entries
            self.errors.record("adoption", error)

    def _begin(self, journal: "AdoptedJournal") -> None:
        if not journal.begin():
            return
        self.in_flight.adopt(journal, journal.unconfirmed)
        if count := journal.pending:
            report(logging.INFO, "entries that process %s has left are sent now: %d", journal.process, count)

    @contextmanager
    def _reading(self, journal: "AdoptedJournal") -> Iterator[None]:
        """Give up a journal that cannot be read now, until the next look."""
        try:
            yield
        except OSError as error:
            self.in_flight.drop(journal)
            if self.adoption is not None:
                self.adoption.leave(journal, error)

    # The end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections, and leave to others what others have left."""
        for what, close in (
            ("the delivery", self._close_delivery),
            ("the journal", self._close_journal),
            ("adopted journals", self._close_adopted),
        ):
            try:
                close()
            except BaseException as error:  # noqa: BLE001 - it is given up in any case, and a shutdown ends
                self.errors.record(f"closing {what}", error)

    def _close_delivery(self) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            with self.delivering:
                delivery.close()

    def _close_journal(self) -> None:
        self._buffer.journal.close()

    def _close_adopted(self) -> None:
        if self.adoption is not None:
            self.adoption.remove_done()
            for journal in self.adoption.journals:
                self.in_flight.drop(journal)
            self.adoption.close()

    def abandon(self) -> None:
        """Let go of the parent's files in a forked child."""
        if self.delivering.acquire(blocking=False):
            self.delivering.release()
        else:  # the fork has not waited, or ran no hooks: the thread was in the middle of an attempt
            free_locks_of_properties()
        self._buffer.journal.abandon()
        if self.adoption is not None:
            self.adoption.close()
